"""The gate: whether a challenger may take the champion's place, and why or why not.

Pure computation on predictions; nothing here knows MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from catena.evaluation.base import Evaluation
from catena.evaluation.predictions import EvaluationPlan
from catena.evaluation.significance import PairedTest
from catena.evaluation.slices import Slice
from catena.settings import GateSettings

#: Parts of metrics' names that are written otherwise in sentences.
_ABBREVIATIONS = {"f1": "F1", "mae": "MAE", "rmse": "RMSE", "r2": "R²"}


@dataclass(frozen=True)
class Contender:
    """A version as the gate sees it.

    `predictions` hold `id` and the evaluation's `stored_columns` for the test records; `size`
    counts the bytes of the model folder's files.
    """

    version: str
    predictions: pd.DataFrame
    label_names: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Resampling:
    """How the paired bootstrap draws."""

    samples: int
    seed: int


#: What the two are called that are compared.
_RIVALS = ("challenger", "champion")


@dataclass(frozen=True)
class Check:
    """One condition: the figures behind it and a sentence that says how it came out."""

    name: str
    passed: bool
    text: str
    challenger: float | None = None
    champion: float | None = None
    limit: float | None = None

    def as_dict(self) -> dict[str, Any]:
        figures = {"challenger": self.challenger, "champion": self.champion, "limit": self.limit}
        rounded = {
            key: None if value is None or math.isnan(value) else round(value, 6)
            for key, value in figures.items()
        }
        return {"name": self.name, "passed": self.passed, "text": self.text, **rounded}


@dataclass(frozen=True)
class Decision:
    """What the gate says: promoted when every check passed."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def promoted(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Plain sentences: what failed, or else what carried it."""
        failed = [check.text for check in self.checks if not check.passed]
        return [*(failed or [check.text for check in self.checks]), *self.notes]


def decide(
    challenger: Contender,
    champion: Contender | None,
    settings: GateSettings,
    resampling: Resampling,
    *,
    evaluation: Evaluation,
    slices: Sequence[Slice] = (),
    latency_ratio: float | None = None,
) -> Decision:
    """Check the challenger against its floors and, where there is one, against the champion.

    Both contenders must hold predictions for the same records, which `evaluation` judges.
    `slices` are aligned with the challenger's predictions (`Evaluation.slices`).
    `latency_ratio` is the challenger's median latency over the champion's (absent: not measured,
    not checked). Without a champion the floors alone decide.
    """
    jury = _Jury(evaluation, settings, resampling)
    checks = list(floors(challenger, settings, evaluation))
    if champion is None:
        return Decision(tuple(checks), ("There was no champion to compare with.",))
    checks.append(jury.metric(challenger, champion))
    checks += jury.slices(challenger, champion, slices)
    checks += jury.calibration(challenger, champion)
    checks += _latency(settings, latency_ratio)
    checks += _size(challenger, champion, settings)
    return Decision(tuple(checks))


def floors(challenger: Contender, settings: GateSettings, evaluation: Evaluation) -> Iterator[Check]:
    """One check for each floor; for metrics like `log_loss`, where lower is better, a ceiling."""
    wanted = evaluation.default_floors if settings.floors is None else settings.floors
    for metric in wanted:
        evaluation.check_metric(metric)
    values = evaluation.values(challenger.predictions, EvaluationPlan(challenger.label_names, ""))
    for metric, limit in sorted(wanted.items()):
        value = values.get(metric, float("nan"))
        higher = evaluation.metrics[metric].higher_is_better
        passed = value >= limit if higher else value <= limit
        bound = "floor" if higher else "ceiling"
        relation = "meets" if passed else "misses"
        of = "is not defined on these records and" if math.isnan(value) else f"of {value:.4f}"
        yield Check(
            f"{bound}:{metric}",
            passed,
            f"The test {_words(metric)} {of} {relation} the {bound} of {limit:.4f}.",
            challenger=value,
            limit=limit,
        )


@dataclass(frozen=True)
class _Jury:
    """The checks that need both contenders' predictions."""

    evaluation: Evaluation
    settings: GateSettings
    resampling: Resampling

    def metric(self, a: Contender, b: Contender) -> Check:
        """Significantly better, or at least not significantly worse, as `require_improvement` says."""
        settings = self.settings
        deciding = settings.metric or self.evaluation.deciding
        test = self._paired(a, b, deciding)
        undefined = [
            who for who, score in zip(_RIVALS, (test.score_a, test.score_b), strict=True) if score != score
        ]
        if undefined:
            whose = " and the ".join(undefined)
            text = f"The {_words(deciding)} of the {whose} is not defined on these records."
            passed = _RIVALS[0] not in undefined
            return Check(f"paired:{deciding}", passed, text, test.score_a, test.score_b)
        better = test.gain > 0 and test.p_value < settings.significance
        worse = test.gain < 0 and test.p_value < settings.significance
        passed = better if settings.require_improvement else not worse
        how = "significantly better than" if better else "significantly worse than" if worse else "level with"
        wanted = "" if passed or worse else "; a significant improvement is required"
        interval = "no interval" if math.isnan(test.low) else f"interval {test.low:+.4f} to {test.high:+.4f}"
        figures = f"difference {test.difference:+.4f}, {interval}, p = {test.p_value:.3f}"
        text = (
            f"The {_words(test.metric)} of {test.score_a:.4f} is {how} the champion's {test.score_b:.4f} "
            f"on the same {test.records:,} test records ({figures}){wanted}."
        )
        return Check(f"paired:{deciding}", passed, text, challenger=test.score_a, champion=test.score_b)

    def slices(self, a: Contender, b: Contender, slices: Sequence[Slice]) -> list[Check]:
        """A failed check for each slice made worse, or one that says that none was."""
        settings, metric = self.settings, self.evaluation.slice_metric
        if metric is None:
            return []
        other = b.predictions.set_index("id").loc[a.predictions["id"]].reset_index()
        plan = EvaluationPlan(tuple(_names(a, b)), "")
        higher = self.evaluation.metrics[metric].higher_is_better
        # An error has the unit of what is predicted, so what it may grow by is a share of it.
        most, of_it = settings.max_slice_drop, "" if higher else " of it"
        failed, compared = [], 0
        for part in slices:
            inside, records = part.inside, int(part.inside.sum())
            if records < settings.min_slice_records:
                continue
            score_a = self.evaluation.values(a.predictions[inside], plan).get(metric)
            score_b = self.evaluation.values(other[inside], plan).get(metric)
            if score_a is None or score_b is None:
                continue
            compared += 1
            if (score_b - score_a if higher else score_a - score_b) <= (most if higher else most * score_b):
                continue
            ids = set(a.predictions["id"][inside])
            test = self._paired(_only(a, ids), _only(b, ids), metric)
            if test.p_value < settings.significance:
                title = _words(metric)
                text = (
                    f"{title[0].upper()}{title[1:]} on the {records:,} test records with {part.group} "
                    f"{part.name} {'falls' if higher else 'rises'} from {score_b:.4f} to {score_a:.4f} "
                    f"(p = {test.p_value:.3f}); at most {most:.4f}{of_it} may be "
                    f"{'lost' if higher else 'added'}."
                )
                name = f"slice:{part.group}={part.name}"
                failed.append(Check(name, False, text, score_a, score_b, most))
        if failed:
            return failed
        if not compared:
            text = f"No slice has the {settings.min_slice_records} test records it takes to decide."
            return [Check("slices", True, text, limit=settings.max_slice_drop)]
        text = (
            f"None of {compared} slices with at least {settings.min_slice_records} test records "
            f"lost more than {most:.4f}{of_it} in {_words(metric)} significantly."
        )
        return [Check("slices", True, text, limit=settings.max_slice_drop)]

    def calibration(self, a: Contender, b: Contender) -> list[Check]:
        """Where both say how sure they are: the rise of the expected calibration error."""
        metric, settings = "calibration_error", self.settings
        if metric not in self.evaluation.metrics:
            return []
        plan = EvaluationPlan(tuple(_names(a, b)), "")
        own, other = (self.evaluation.values(one.predictions, plan).get(metric) for one in (a, b))
        if own is None or other is None:
            return []
        passed = own - other <= settings.max_calibration_increase
        text = (
            f"The calibration error goes from {other:.4f} to {own:.4f}; "
            f"a rise of {'up to' if passed else 'at most'} {settings.max_calibration_increase:.4f} "
            "is allowed."
        )
        return [Check("calibration", passed, text, own, other, settings.max_calibration_increase)]

    def _paired(self, a: Contender, b: Contender, metric: str) -> PairedTest:
        plan = EvaluationPlan(
            tuple(_names(a, b)), "", samples=self.resampling.samples, seed=self.resampling.seed
        )
        confidence = 1 - self.settings.significance
        return self.evaluation.paired(a.predictions, b.predictions, metric, plan, confidence)


def _latency(settings: GateSettings, ratio: float | None) -> list[Check]:
    """No figures in here: they differ from one measurement to the next, and the report must not."""
    limit = settings.max_latency_ratio
    if limit is None or ratio is None:
        return []
    passed = ratio <= limit
    text = (
        f"The median latency for one record is {'at most' if passed else 'more than'} "
        f"{limit:g} × the champion's."
    )
    return [Check("latency", passed, text, limit=limit)]


def _size(a: Contender, b: Contender, settings: GateSettings) -> list[Check]:
    limit = settings.max_size_ratio
    if limit is None:
        return []
    passed = a.size <= limit * b.size
    text = (
        f"The model takes {a.size / 1e6:,.1f} MB, the champion {b.size / 1e6:,.1f} MB; "
        f"{'up to' if passed else 'at most'} {limit:g} × is allowed."
    )
    return [Check("size", passed, text, float(a.size), float(b.size), limit)]


def _names(a: Contender, b: Contender) -> Sequence[str]:
    """The challenger's labels, then those only the champion knows."""
    return [*a.label_names, *(name for name in b.label_names if name not in a.label_names)]


def _only(contender: Contender, ids: set[str]) -> Contender:
    inside = contender.predictions["id"].isin(ids)
    return Contender(contender.version, contender.predictions[inside], contender.label_names, contender.size)


def _words(metric: str) -> str:
    return " ".join(_ABBREVIATIONS.get(word, word) for word in metric.split("_"))

"""The gate: whether a challenger may take the champion's place, and why or why not.

Pure computation on predictions; nothing here knows MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from catena.evaluation.rivals import LOWER_IS_BETTER, Rival, check_metric
from catena.evaluation.significance import PairedTest, paired_difference
from catena.evaluation.slices import Slice
from catena.settings import GateSettings


@dataclass(frozen=True)
class Contender:
    """A version as the gate sees it.

    `predictions` hold `id`, `label`, `prediction`, `confidence` and `p:<label>` for the test
    records; `size` counts the bytes of the model folder's files.
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
        rounded = {key: None if value is None else round(value, 6) for key, value in figures.items()}
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
    slices: Sequence[Slice] = (),
    latency_ratio: float | None = None,
) -> Decision:
    """Check the challenger against its floors and, where there is one, against the champion.

    Both contenders must hold predictions for the same records. `slices` are aligned with
    the challenger's predictions (`catena.evaluation.slices.find_slices`). `latency_ratio` is the challenger's
    median latency over the champion's (absent: not measured, not checked). Without a champion
    the floors alone decide.
    """
    checks = list(floors(challenger, settings.floors))
    if champion is None:
        return Decision(tuple(checks), ("There was no champion to compare with.",))
    checks.append(_metric(challenger, champion, settings, resampling))
    checks += _slices(challenger, champion, settings, resampling, slices)
    checks += _calibration(challenger, champion, settings)
    checks += _latency(settings, latency_ratio)
    checks += _size(challenger, champion, settings)
    return Decision(tuple(checks))


def floors(challenger: Contender, wanted: Mapping[str, float]) -> Iterator[Check]:
    """One check for each floor; for metrics like `log_loss`, where lower is better, a ceiling."""
    rival = Rival.of(challenger.predictions, challenger.label_names)
    for metric, limit in sorted(wanted.items()):
        check_metric(metric)
        value = rival.score(metric)
        passed = value <= limit if metric in LOWER_IS_BETTER else value >= limit
        bound = "ceiling" if metric in LOWER_IS_BETTER else "floor"
        relation = "meets" if passed else "misses"
        yield Check(
            f"{bound}:{metric}",
            passed,
            f"The test {_words(metric)} of {value:.4f} {relation} the {bound} of {limit:.4f}.",
            challenger=value,
            limit=limit,
        )


def _metric(a: Contender, b: Contender, settings: GateSettings, resampling: Resampling) -> Check:
    """Significantly better, or at least not significantly worse, as `require_improvement` says."""
    test = _paired(a, b, settings.metric, settings.significance, resampling)
    better = test.gain > 0 and test.p_value < settings.significance
    worse = test.gain < 0 and test.p_value < settings.significance
    passed = better if settings.require_improvement else not worse
    how = "significantly better than" if better else "significantly worse than" if worse else "level with"
    wanted = "" if passed or worse else "; a significant improvement is required"
    interval = f"interval {test.low:+.4f} to {test.high:+.4f}"
    figures = f"difference {test.difference:+.4f}, {interval}, p = {test.p_value:.3f}"
    text = (
        f"The {_words(test.metric)} of {test.score_a:.4f} is {how} the champion's {test.score_b:.4f} "
        f"on the same {test.records:,} test records ({figures}){wanted}."
    )
    return Check(f"paired:{settings.metric}", passed, text, challenger=test.score_a, champion=test.score_b)


def _slices(
    a: Contender, b: Contender, settings: GateSettings, resampling: Resampling, slices: Sequence[Slice]
) -> list[Check]:
    """A failed check for each slice made worse, or one that says that none was."""
    right_a = (a.predictions["prediction"] == a.predictions["label"]).to_numpy()
    other = b.predictions.set_index("id").loc[a.predictions["id"]]
    right_b = (other["prediction"] == other["label"]).to_numpy()
    failed, compared = [], 0
    for part in slices:
        inside, records = part.inside, int(part.inside.sum())
        if records < settings.min_slice_records:
            continue
        compared += 1
        accuracy_a, accuracy_b = float(right_a[inside].mean()), float(right_b[inside].mean())
        if accuracy_b - accuracy_a <= settings.max_slice_drop:
            continue
        ids = set(a.predictions["id"][inside])
        test = _paired(_only(a, ids), _only(b, ids), "accuracy", settings.significance, resampling)
        if test.p_value < settings.significance:
            text = (
                f"Accuracy on the {records:,} test records with {part.group} {part.name} falls from "
                f"{accuracy_b:.4f} to {accuracy_a:.4f} (p = {test.p_value:.3f}); "
                f"at most {settings.max_slice_drop:.4f} may be lost."
            )
            name = f"slice:{part.group}={part.name}"
            failed.append(Check(name, False, text, accuracy_a, accuracy_b, settings.max_slice_drop))
    if failed:
        return failed
    if not compared:
        text = f"No slice has the {settings.min_slice_records} test records it takes to decide."
        return [Check("slices", True, text, limit=settings.max_slice_drop)]
    text = (
        f"None of {compared} slices with at least {settings.min_slice_records} test records "
        f"lost more than {settings.max_slice_drop:.4f} in accuracy significantly."
    )
    return [Check("slices", True, text, limit=settings.max_slice_drop)]


def _calibration(a: Contender, b: Contender, settings: GateSettings) -> list[Check]:
    rivals = [Rival.of(one.predictions, _names(a, b)) for one in (a, b)]
    if not all(rival.has("calibration_error") for rival in rivals):
        return []
    own, other = (rival.score("calibration_error") for rival in rivals)
    passed = own - other <= settings.max_calibration_increase
    text = (
        f"The calibration error goes from {other:.4f} to {own:.4f}; "
        f"a rise of {'up to' if passed else 'at most'} {settings.max_calibration_increase:.4f} is allowed."
    )
    return [Check("calibration", passed, text, own, other, settings.max_calibration_increase)]


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


def _paired(
    a: Contender, b: Contender, metric: str, significance: float, resampling: Resampling
) -> PairedTest:
    return paired_difference(
        a.predictions,
        b.predictions,
        metric,
        resampling.samples,
        resampling.seed,
        confidence=1 - significance,
        label_names=_names(a, b),
    )


def _names(a: Contender, b: Contender) -> Sequence[str]:
    """The challenger's labels, then those only the champion knows."""
    return [*a.label_names, *(name for name in b.label_names if name not in a.label_names)]


def _only(contender: Contender, ids: set[str]) -> Contender:
    inside = contender.predictions["id"].isin(ids)
    return Contender(contender.version, contender.predictions[inside], contender.label_names, contender.size)


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")

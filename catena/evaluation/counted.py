"""The evaluation of problems whose scores are functions of sums over records.

Errors and their squares, hits and misses, matching n-grams, log-likelihoods: each record contributes a
row of numbers, and every score is a function of the rows' sum. A bootstrap resample is then a weighted sum
(records are drawn, and corpus-level scores computed anew from what was drawn; Efron and Tibshirani 1993,
Koehn 2004).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError
from catena.evaluation.base import Evaluation
from catena.evaluation.bootstrap import percentile_interval, resampled_weights
from catena.evaluation.metrics import rounded
from catena.evaluation.mistakes import excerpt
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.evaluation.significance import PairedTest, aligned, two_sided
from catena.evaluation.slices import Slice, find_slices, holm
from catena.files import complete_folder

if TYPE_CHECKING:
    from markupsafe import Markup

    from catena.evaluation.report import ReportSource


def check_prepared(targets: pd.Series, read: Callable[[str], object]) -> None:
    """Raise `DataError` for a target that `read`, which knows the prepared form alone, cannot read."""
    for row, target in enumerate(targets.tolist(), start=1):
        try:
            read(target)
        except (TypeError, ValueError):
            raise DataError(
                f"Record {row}: `{targets.name}` is {target!r:.60}, which is not as the prepare stage writes "
                "it; give prepared records."
            ) from None


@dataclass(frozen=True)
class ResultTable:
    """One more table of results: `columns` maps a row's keys to their titles.

    Columns in `running` hold running text, whose line breaks the report keeps.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    running: Sequence[str] = ()


class CountedEvaluation(Evaluation):
    """Subclasses say what a record contributes (`counts`), and what sums mean (`scores`)."""

    #: The metric that slices are compared by, in the report and by the gate.
    slice_metric: ClassVar[str | None]

    @abstractmethod
    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        """What each record contributes to the scores of the predictions in `column` `(records, k)`."""

    @abstractmethod
    def scores(self, sums: Floats) -> dict[str, Floats]:
        """Every metric `(…)` of summed counts `(…, k)`; NaN where it is undefined."""

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        """Further tables for metrics.json and the report."""
        return []

    def shown_columns(self, records: pd.DataFrame) -> list[str]:
        """The columns of a record that the report shows of a mistake, before target and prediction."""
        return [name for name in ("text", "query", "item", "question") if name in records]

    def shown(self, record: pd.Series, column: str, plan: EvaluationPlan) -> str | Markup:
        """How the report shows one cell of a record."""
        return excerpt(str(record[column]))

    # -- what the stages call ---------------------------------------------------------------------

    def values(self, records: pd.DataFrame, plan: EvaluationPlan) -> dict[str, float]:
        return _defined(self.scores(self.counts(records, plan).sum(axis=0)))

    def score(self, predictions: Predictions) -> dict[str, Any]:
        plan, records = predictions.plan, predictions.records
        counts = self.counts(records, plan)
        theirs = {name: self.counts(records, plan, f"baseline:{name}") for name in predictions.baselines}
        drawn = self._resampled([counts, *theirs.values()], plan)
        metric = plan.metric or self.deciding
        figures: dict[str, Any] = rounded(
            {
                "records": len(records),
                **_defined(self.scores(counts.sum(axis=0))),
                "intervals": _intervals(drawn[0], plan.confidence),
                "slices": self._slices(records, counts, plan),
                "baselines": {
                    name: {
                        **_defined(self.scores(sums.sum(axis=0))),
                        "intervals": _intervals(resampled, plan.confidence),
                    }
                    for (name, sums), resampled in zip(theirs.items(), drawn[1:], strict=True)
                },
                "comparison": [
                    {
                        "baseline": name,
                        **_comparison(
                            self.scores(counts.sum(axis=0)),
                            self.scores(sums.sum(axis=0)),
                            drawn[0],
                            resampled,
                            metric,
                            plan.confidence,
                        ),
                    }
                    for (name, sums), resampled in zip(theirs.items(), drawn[1:], strict=True)
                    # a rival may have no such score
                    if not np.isnan(resampled[metric]).all()
                ],
                "tables": [asdict(table) for table in self.tables(predictions)],
                "plan": {
                    "samples": plan.samples,
                    "confidence": plan.confidence,
                    "seed": plan.seed,
                    "metric": metric,
                },
            }
        )
        return figures | self.heading(figures)

    def paired(
        self,
        ours: pd.DataFrame,
        theirs: pd.DataFrame,
        metric: str,
        plan: EvaluationPlan,
        confidence: float,
    ) -> PairedTest:
        self.check_metric(metric)
        table_a, table_b = aligned(ours, theirs, self.target)
        counts = [self.counts(table, plan) for table in (table_a, table_b)]
        drawn_a, drawn_b = (drawn[metric] for drawn in self._resampled(counts, plan))
        score_a, score_b = (float(self.scores(one.sum(axis=0))[metric]) for one in counts)
        differences = drawn_a - drawn_b
        low, high = percentile_interval(differences, confidence)
        return PairedTest(
            metric=metric,
            score_a=score_a,
            score_b=score_b,
            difference=score_a - score_b,
            low=low,
            high=high,
            p_value=two_sided(differences),
            records=len(table_a),
            samples=plan.samples,
            higher_is_better=self.metrics[metric].higher_is_better,
        )

    def slices(self, records: pd.DataFrame, columns: Sequence[str]) -> list[Slice]:
        return find_slices(records, columns, classes=None)

    def write_plots(self, folder: Path, predictions: Predictions) -> None:
        with complete_folder(folder) as partial:
            for table in self.tables(predictions):
                rows = pd.DataFrame([dict(row) for row in table.rows], columns=list(table.columns))
                rows.to_csv(
                    partial / f"{table.name}.csv", index=False, float_format="%.6g", lineterminator="\n"
                )

    def write_report(self, path: Path, source: ReportSource) -> None:
        from catena.evaluation.counted_report import write_counted_report

        write_counted_report(path, source, self)

    # -- inside -----------------------------------------------------------------------------------

    def _resampled(self, counts: Sequence[Floats], plan: EvaluationPlan) -> list[dict[str, Floats]]:
        """The metrics `(samples,)` of each table of counts, under the same resamples."""
        sums: list[list[Floats]] = [[] for _ in counts]
        for weights in resampled_weights(len(counts[0]), plan.samples, plan.seed):
            for one, found in zip(counts, sums, strict=True):
                found.append(weights @ one)
        return [self.scores(np.concatenate(found)) for found in sums]

    def _slices(self, records: pd.DataFrame, counts: Floats, plan: EvaluationPlan) -> list[dict[str, Any]]:
        """One row for each slice: its score by `slice_metric`, beside that of all other records.

        A slice is marked worse where its records are right less often than the others (one-sided
        rank test of Mann and Whitney, corrected for the number of slices looked at, Holm 1979).
        """
        from scipy.stats import mannwhitneyu

        metric = self.slice_metric
        if metric is None:
            return []
        found = self.slices(records, plan.slices)
        right = self.right(records, plan)
        p_values = holm(
            [
                float(mannwhitneyu(right[one.inside], right[~one.inside], alternative="less").pvalue)
                for one in found
            ]
        )
        rows = []
        for one, p_value in zip(found, p_values, strict=True):
            inside = counts[one.inside]
            (drawn,) = self._resampled([inside], plan)
            defined = drawn[metric][~np.isnan(drawn[metric])]
            rows.append(
                {
                    "group": one.group,
                    "name": one.name,
                    "records": int(one.inside.sum()),
                    "score": _or_none(self.scores(inside.sum(axis=0))[metric]),
                    "interval": percentile_interval(defined, plan.confidence) if len(defined) else None,
                    "rest": _or_none(self.scores(counts[~one.inside].sum(axis=0))[metric]),
                    "p_value": p_value,
                    "worse": p_value < 1 - plan.confidence,
                }
            )
        return rows


def _defined(scores: Mapping[str, Floats]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items() if not math.isnan(float(value))}


def _or_none(value: Floats) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _intervals(drawn: Mapping[str, Floats], confidence: float) -> dict[str, tuple[float, float]]:
    defined = {name: scores[~np.isnan(scores)] for name, scores in drawn.items()}
    return {name: percentile_interval(scores, confidence) for name, scores in defined.items() if len(scores)}


def _comparison(
    ours: Mapping[str, Floats],
    theirs: Mapping[str, Floats],
    drawn: Mapping[str, Floats],
    drawn_theirs: Mapping[str, Floats],
    metric: str,
    confidence: float,
) -> dict[str, Any]:
    differences = drawn[metric] - drawn_theirs[metric]
    low, high = percentile_interval(differences, confidence)
    return {
        "metric": metric,
        "difference": float(ours[metric] - theirs[metric]),
        "low": low,
        "high": high,
        "p_value": two_sided(differences),
    }

"""The evaluation of problems in which a record has exactly one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.evaluation import baselines as rivals_of
from catena.evaluation.base import Baseline, Evaluation, Metric
from catena.evaluation.metrics import score
from catena.evaluation.plots import write_plots
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.rivals import LOWER_IS_BETTER, METRICS, Rival
from catena.evaluation.scores import class_numbers
from catena.evaluation.significance import PairedTest, paired_difference
from catena.evaluation.slices import Slice, find_slices
from catena.evaluation.verdict import BASELINE_TITLES, METRIC_TITLES

if TYPE_CHECKING:
    from catena.evaluation.report import ReportSource


class ClassEvaluation(Evaluation):
    """Counts, areas under curves, calibration: everything about one label for each record."""

    metrics: ClassVar[Mapping[str, Metric]] = {
        name: Metric(METRIC_TITLES.get(name, name), name not in LOWER_IS_BETTER, name == "accuracy")
        for name in METRICS
    }
    headline: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    deciding = "macro_f1"
    default_floors: ClassVar[Mapping[str, float]] = {"accuracy": 0.5}
    target = "label"
    slice_metric = "accuracy"
    default_baselines = ("tfidf", "backbone")
    baselines: ClassVar[Mapping[str, tuple[str, Baseline]]] = {
        "majority": (BASELINE_TITLES["majority"], rivals_of.majority),
        "tfidf": (BASELINE_TITLES["tfidf"], rivals_of.tfidf),
        "backbone": (BASELINE_TITLES["backbone"], rivals_of.backbone),
    }

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:
        class_numbers(records[self.target], label_names, self.target)

    def stored_columns(self, label_names: Sequence[str]) -> list[str]:
        return [self.target, "prediction", "confidence", *(f"p:{name}" for name in label_names)]

    def values(self, records: pd.DataFrame, plan: EvaluationPlan) -> dict[str, float]:
        rival = Rival.of(records, plan.label_names)
        values = {metric: rival.score(metric) for metric in METRICS if rival.has(metric)}
        return {metric: value for metric, value in values.items() if value == value}

    def score(self, predictions: Predictions) -> dict[str, Any]:
        figures = score(predictions)
        return figures | self.heading(figures)

    def paired(
        self,
        ours: pd.DataFrame,
        theirs: pd.DataFrame,
        metric: str,
        plan: EvaluationPlan,
        confidence: float,
    ) -> PairedTest:
        return paired_difference(
            ours, theirs, metric, plan.samples, plan.seed, confidence, label_names=plan.label_names
        )

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        return (records["prediction"] == records[self.target]).to_numpy(dtype=np.float64)

    def slices(self, records: pd.DataFrame, columns: Sequence[str]) -> list[Slice]:
        return find_slices(records, columns, classes=self.target)

    def write_plots(self, folder: Path, predictions: Predictions) -> None:
        write_plots(folder, predictions)

    def write_report(self, path: Path, source: ReportSource) -> None:
        from catena.evaluation.report import write_report

        write_report(path, source)

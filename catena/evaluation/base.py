"""How the predictions of one kind of problem are judged: what stages, gate and tables call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError, SettingsError

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned
    from catena.evaluation.predictions import EvaluationPlan, Predictions
    from catena.evaluation.report import ReportSource
    from catena.evaluation.significance import PairedTest
    from catena.evaluation.slices import Slice


#: A simple rival: from prepared records to predictions for the test part.
Baseline = Callable[["BaselineData"], "Learned"]


@dataclass(frozen=True)
class Metric:
    """A score: its title in tables, which way is up, and whether people read it as a percentage."""

    title: str
    higher_is_better: bool = True
    percent: bool = False


class Evaluation(ABC):
    """Scores, intervals, comparisons, slices, baselines and the report of one kind of problem.

    Everything is computed from predictions: tables with `id`, the target, `prediction` and what
    `stored_columns` names.
    """

    #: All scores, in the order shown.
    metrics: ClassVar[Mapping[str, Metric]]
    #: The two or three that stand first everywhere, with their short names in running text.
    headline: ClassVar[Mapping[str, str]]
    #: Defaults of `gate.metric` and `gate.floors`.
    deciding: ClassVar[str]
    default_floors: ClassVar[Mapping[str, float]] = {}
    #: Name of the target column.
    target: ClassVar[str]
    #: The metric by which the gate compares slices; `None` where slices are too small for any.
    slice_metric: ClassVar[str | None]
    #: Simple rivals: title, and how to get their predictions.
    baselines: ClassVar[Mapping[str, tuple[str, Baseline]]] = {}
    default_baselines: ClassVar[tuple[str, ...]] = ()

    def baseline_basis(self) -> object:
        """What else the baselines' predictions depend on beside the data; must be JSON."""
        return None

    def check_metric(self, metric: str) -> None:
        """Raise `SettingsError` for a name that is not in `metrics`."""
        if metric not in self.metrics:
            raise SettingsError(f"There is no metric `{metric}`; choose one of {', '.join(self.metrics)}.")

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:  # noqa: B027
        """Raise `DataError` for test records that the model cannot be right on; by default there are none."""

    def stored_columns(self, label_names: Sequence[str]) -> list[str]:
        """The columns of predictions that scores need, beside `id`, and that travel with a version."""
        return [self.target, "prediction"]

    def check_columns(self, records: pd.DataFrame, label_names: Sequence[str], path: Path) -> None:
        """Raise `DataError` where `path` lacks a column or a value that scores need."""
        needed = ["id", *self.stored_columns(label_names)]
        missing = [name for name in needed if name not in records]
        if missing:
            raise DataError(f"{path} has no column `{missing[0]}`; run the evaluate stage again.")
        if not len(records):
            raise DataError(f"{path} holds no records; the test part must not be empty.")
        for name in needed:
            if records[name].isna().any():
                row = int(records[name].isna().to_numpy().argmax()) + 1
                raise DataError(
                    f"{path}: column `{name}` is empty in row {row}; run the evaluate stage again."
                )

    @abstractmethod
    def values(self, records: pd.DataFrame, plan: EvaluationPlan) -> dict[str, float]:
        """Every metric that the predictions allow; undefined ones are left out."""

    @abstractmethod
    def score(self, predictions: Predictions) -> dict[str, Any]:
        """`metrics.json`: scores at the top under their names, `intervals`, `baselines`, `comparison`, …"""

    @abstractmethod
    def paired(
        self,
        ours: pd.DataFrame,
        theirs: pd.DataFrame,
        metric: str,
        plan: EvaluationPlan,
        confidence: float,
    ) -> PairedTest:
        """Ours minus theirs on the same records. Raises `DataError` where the records differ."""

    @abstractmethod
    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """How right each record's prediction is, 0 to 1 `(records,)`."""

    @abstractmethod
    def slices(self, records: pd.DataFrame, columns: Sequence[str]) -> list[Slice]:
        """Parts of the records with something in common; they depend on the records alone."""

    @abstractmethod
    def write_plots(self, folder: Path, predictions: Predictions) -> None:
        """Tables behind `dvc plots`, as CSV files in `folder`, whole or not at all."""

    @abstractmethod
    def write_report(self, path: Path, source: ReportSource) -> None:
        """`report.html`: one self-contained page, the same for the same source."""

    def picture(self, record: Mapping[str, object]) -> str | None:
        """A record's input as a data URI of an image, where it is one."""
        return None

    def where(self, record: Mapping[str, Any]) -> str:
        """Where a record comes from, in the words of the report."""
        return f"{record['source']}, row {record['row']}" if "source" in record and "row" in record else ""

    def heading(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What tables elsewhere need to show these figures without knowing the problem."""
        # Lists of pairs: what `dvc metrics show` finds in an object it would show as metrics.
        titles = [[name, self.baselines[name][0]] for name in metrics["baselines"] if name in self.baselines]
        return {"headline": [list(pair) for pair in self.headline.items()], "baseline_titles": titles}

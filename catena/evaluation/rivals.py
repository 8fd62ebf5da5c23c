"""One model's predictions on labelled records, ready to be scored under any resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catena.errors import DataError, SettingsError
from catena.evaluation import calibration, ranking
from catena.evaluation.scores import COUNT_METRICS, Floats, Integers, class_numbers, confusion_matrix, margins

#: Scores that need every record's confidence or probabilities, not only counts.
RECORD_METRICS = ("roc_auc", "pr_auc", "log_loss", "brier", "calibration_error")
METRICS = (*COUNT_METRICS, *RECORD_METRICS)
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error"})

# log(0) is infinite: scikit-learn's log_loss clips at the same place.
_SMALLEST = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Rival:
    """Class numbers `(records,)` that are right and that were given, and how sure the model was.

    `probabilities` is `(records, classes)`; it and `confidence` are absent for a rival that only
    names a class.
    """

    label_names: tuple[str, ...]
    actual: Integers
    predicted: Integers
    confidence: Floats | None = None
    probabilities: Floats | None = None

    @classmethod
    def of(cls, records: pd.DataFrame, label_names: Sequence[str], baseline: str | None = None) -> Rival:
        """The model in columns `prediction`, `confidence`, `p:<label>`, or a `baseline`'s in its own."""
        column = f"baseline:{baseline}" if baseline else "prediction"
        confidence_column = f"{column}:confidence" if baseline else "confidence"
        for needed in ("label", column):
            if needed not in records:
                raise DataError(f"The predictions have no column `{needed}`; run the evaluate stage again.")
        probability_columns = [f"p:{name}" for name in label_names]
        complete = baseline is None and all(name in records for name in probability_columns)
        return cls(
            tuple(label_names),
            class_numbers(records["label"], label_names, "label"),
            class_numbers(records[column], label_names, column),
            _floats(records, [confidence_column])[:, 0] if confidence_column in records else None,
            _floats(records, probability_columns) if complete else None,
        )

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.actual == self.predicted)

    @cached_property
    def confusion(self) -> Integers:
        return confusion_matrix(self.actual, self.predicted, len(self.label_names))

    @cached_property
    def ranked(self) -> list[ranking.Ranking]:
        return ranking.rankings(self._known(self.probabilities, "p:<label>"), self.actual)

    @cached_property
    def record_losses(self) -> dict[str, Floats]:
        """Log loss (nats) and Brier score (summed over classes, 0 to 2) of each record."""
        probabilities = self._known(self.probabilities, "p:<label>")
        right = probabilities[np.arange(len(self.actual)), self.actual]
        squares = (probabilities**2).sum(axis=1) - right**2 + (1 - right) ** 2
        return {"log_loss": -np.log(np.clip(right, _SMALLEST, 1.0)), "brier": squares}

    def score(self, metric: str) -> float:
        """The score called `metric`, one of `METRICS`."""
        check_metric(metric)
        if metric in COUNT_METRICS:
            return float(margins(self.confusion).score(metric))
        return float(self.weighted(metric, np.ones(len(self.actual))))

    def weighted(self, metric: str, weights: Floats) -> Floats:
        """One of `RECORD_METRICS` `(…)` with record weights `(…, records)`."""
        if metric in ("roc_auc", "pr_auc"):
            return ranking.macro_area(self.ranked, metric, weights)
        if metric == "calibration_error":
            confidence = self._known(self.confidence, "confidence")
            return calibration.calibration_error(confidence, self.correct, weights)
        return np.asarray(weights @ self.record_losses[metric] / weights.sum(axis=-1))

    def has(self, metric: str) -> bool:
        """Whether the predictions hold what `metric` is computed from."""
        if metric in COUNT_METRICS:
            return True
        return (self.confidence if metric == "calibration_error" else self.probabilities) is not None

    @staticmethod
    def _known(values: Floats | None, column: str) -> Floats:
        if values is None:
            raise DataError(f"The predictions have no column `{column}`, which this metric is computed from.")
        return values


def check_metric(metric: str) -> None:
    """Raise `SettingsError` for a name that is not in `METRICS`."""
    if metric not in METRICS:
        raise SettingsError(f"There is no metric `{metric}`; choose one of {', '.join(METRICS)}.")


def _floats(records: pd.DataFrame, columns: list[str]) -> Floats:
    """Columns as one array; `DataError` where one is not numeric or not between 0 and 1."""
    try:
        values = records[columns].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full((1, len(columns)), np.nan)
    bad = ~((values >= 0.0) & (values <= 1.0 + 1e-6)).all(axis=0)
    if bad.any():
        name = columns[int(np.argmax(bad))]
        raise DataError(
            f"The predictions' column `{name}` holds something other than probabilities between 0 and 1; "
            "run the evaluate stage again."
        )
    return values

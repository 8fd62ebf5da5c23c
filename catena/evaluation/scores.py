"""Scores of a confusion matrix, for one test or for a whole stack of bootstrap resamples at once.

Every score here depends on three counts per class only: how many records have the class
(`actual`), how many were given it (`predicted`), and how many both (`hits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catena.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Scores that `Margins` has as properties; the larger the better, all of them.
COUNT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "matthews_correlation",
)


@dataclass(frozen=True)
class Margins:
    """`hits`, `predicted` and `actual` `(…, classes)`: what the scores need of a confusion matrix.

    A class that was never predicted has precision 0, one that never occurs recall 0, and macro
    averages run over all classes of the label list, also those absent from the test part:
    scikit-learn's scores with `labels=…, zero_division=0`.
    """

    hits: Floats
    predicted: Floats
    actual: Floats

    @property
    def records(self) -> Floats:
        return np.asarray(self.actual.sum(axis=-1))

    @property
    def precision(self) -> Floats:
        """Of the records given each class, the share that has it `(…, classes)`."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Floats:
        """Of the records that have each class, the share that was given it `(…, classes)`."""
        return _ratio(self.hits, self.actual)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall `(…, classes)`."""
        return _ratio(2 * self.hits, self.predicted + self.actual)

    @property
    def matthews_correlation(self) -> Floats:
        """Correlation of prediction and label, -1 to 1, 0 for chance (Gorodkin 2004)."""
        records = self.records
        covariance = self.hits.sum(axis=-1) * records - (self.predicted * self.actual).sum(axis=-1)
        spread = (records**2 - (self.predicted**2).sum(axis=-1)) * (
            records**2 - (self.actual**2).sum(axis=-1)
        )
        return _ratio(covariance, np.sqrt(spread))

    def score(self, metric: str) -> Floats:
        """The score called `metric`, one of `COUNT_METRICS`, with shape `(…)`."""
        if metric == "matthews_correlation":
            return self.matthews_correlation
        if metric == "balanced_accuracy":
            occurring = self.actual > 0
            return _ratio((self.recall * occurring).sum(axis=-1), occurring.sum(axis=-1))
        average, _, kind = metric.rpartition("_")
        if metric == "accuracy" or average == "micro":
            # One label a record: every wrong record is one false positive and one false negative.
            return _ratio(self.hits.sum(axis=-1), self.records)
        per_class: Floats = getattr(self, kind)
        if average == "macro":
            return np.asarray(per_class.mean(axis=-1))
        return _ratio((per_class * self.actual).sum(axis=-1), self.records)


def confusion_matrix(actual: Integers, predicted: Integers, classes: int) -> Integers:
    """Records by class number, actual in rows and predicted in columns `(classes, classes)`."""
    joint = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return joint.reshape(classes, classes).astype(np.int64)


def margins(confusion: Integers) -> Margins:
    """What the scores need of a confusion matrix `(…, classes, classes)`."""
    counts = confusion.astype(np.float64)
    return Margins(
        hits=np.diagonal(counts, axis1=-2, axis2=-1),
        predicted=counts.sum(axis=-2),
        actual=counts.sum(axis=-1),
    )


def class_numbers(values: pd.Series, label_names: Sequence[str], what: str) -> Integers:
    """Position of each value in `label_names`.

    Raises `DataError`, naming the column `what`, for a value that is not in the list.
    """
    numbers = pd.Index(list(label_names), dtype=object).get_indexer(pd.Index(values.astype(object)))
    if (numbers < 0).any():
        row = int(np.argmax(numbers < 0))
        raise DataError(
            f"Column `{what}`, row {row + 1}: {values.iloc[row]!r} is not among the model's "
            f"{len(label_names)} labels; evaluate with the test part the model was made for."
        )
    return numbers.astype(np.int64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, and 0 where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)

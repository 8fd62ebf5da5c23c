"""Which of a network's own predictions are learned from, and the records that carry them.

Self-training (Scudder 1965; Yarowsky 1995) by pseudo-labels (Lee 2013) above a threshold of confidence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from catena.errors import DataError
from catena.methods import Records
from catena.training.tokens import TokenTable
from catena.training.weighting import WEIGHT


@dataclass(frozen=True)
class UnlabelledTable:
    """Records without labels: as they are learned from, whole as they are predicted, and what their file
    said of them as canonical targets, "" where nothing."""

    training: TokenTable
    whole: TokenTable
    given: list[str]

    @classmethod
    def load(
        cls, folder: Path, max_length: int | None = None, by_token: Collection[str] = ()
    ) -> UnlabelledTable | None:
        """The unlabelled records of a tokenized folder, if it has some."""
        file = folder / "unlabelled.arrow"
        if not file.is_file():
            return None
        given = pq.read_table(folder / "given.parquet", columns=["given"])["given"].to_pylist()
        whole = TokenTable(file)
        if len(given) != len(whole):
            raise DataError(f"The files of {folder} do not belong together; run the tokenize stage again.")
        return cls(TokenTable(file, max_length, by_token), whole, given)


class WithPseudoLabels(TokenTable):
    """Labelled records, and after them unlabelled ones with targets that a network gave them.

    `targets` are one for each of `rows`, in the form of the labelled records' own; with `weight` each record
    says what it weighs.
    """

    def __init__(
        self,
        labelled: TokenTable,
        unlabelled: TokenTable,
        rows: np.ndarray,
        targets: np.ndarray,
        weight: float | None = None,
    ) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled
        self._chosen, self._targets, self._weight = rows, targets, weight
        self._rows = len(labelled) + len(rows)
        self.max_length = labelled.max_length
        self.lengths = np.concatenate([labelled.lengths, unlabelled.lengths[rows]])
        self._own: Any = labelled.labels
        if targets.ndim == 2 and np.ndim(self._own[0]) == 0:
            # Certain targets beside probabilities.
            self._own = np.eye(targets.shape[1], dtype=targets.dtype)[np.asarray(self._own)]

    def __getitem__(self, row: int) -> dict[str, Any]:
        at = row - len(self._labelled)
        own = at < 0
        features = self._labelled[row] if own else self._unlabelled[int(self._chosen[at])]
        features["labels"] = self._own[row] if own else self._targets[at]
        if self._weight is not None:
            features[WEIGHT] = 1.0 if own else self._weight
        return features

    @property
    def collected(self) -> Records:
        return self._labelled.collected

    @property
    def labels(self) -> Any:
        """The targets of the labelled records alone, which say how frequent the classes are."""
        return self._labelled.labels


def class_counts(labels: Any, label_names: Sequence[str]) -> dict[str, int]:
    """Records of each class: `labels` are its number, or a vector of 0 and 1, for each record."""
    values = np.asarray(list(labels))
    counts = values.sum(axis=0) if values.ndim == 2 else np.bincount(values, minlength=len(label_names))
    return {name: int(count) for name, count in zip(label_names, counts, strict=True)}


def choose(
    confidence: np.ndarray,
    members: pd.Series,
    *,
    threshold: float,
    max_per_class: int | None = None,
    labelled: Mapping[str, int] | None = None,
) -> np.ndarray:
    """The rows whose predictions are learned from, in order.

    `confidence` is `(rows,)`; `members` holds the classes said of each row, several entries for a row of
    several, indexed by row. Rows from `threshold` on are taken, the most confident first (the earlier one of
    equals), as long as all their classes have room: `max_per_class` records, or, with `labelled` (records of
    each class among the labelled ones), as many as keep the shares that the classes have there.
    """
    passing = np.flatnonzero(confidence >= threshold)
    limits = _limits(members[members.index.isin(passing)], max_per_class, labelled)
    if not limits:
        return passing
    order = passing[np.argsort(-confidence[passing], kind="stable")]
    classes = members.groupby(level=0).agg(list)
    taken: list[int] = []
    counts = dict.fromkeys(limits, 0)
    for row in order.tolist():
        own = classes.get(row, [])
        if all(counts.get(name, 0) < limits.get(name, len(order)) for name in own):
            taken.append(row)
            for name in own:
                if name in counts:
                    counts[name] += 1
    return np.array(sorted(taken), dtype=np.int64)


def _limits(
    members: pd.Series, max_per_class: int | None, labelled: Mapping[str, int] | None
) -> dict[str, int]:
    """Most records of each class."""
    there = {str(name): int(count) for name, count in members.value_counts().items()}
    limits: dict[str, int] = {}
    if labelled is not None:
        ratio = min(there.get(name, 0) / count for name, count in labelled.items() if count)
        # at least one, or a rare class would never be learned from
        least = 1 if ratio else 0
        limits = {name: max(int(ratio * count + 1e-9), least) for name, count in labelled.items()}
    if max_per_class is not None:
        names = set(limits) | set(there)
        limits = {name: min(limits.get(name, max_per_class), max_per_class) for name in names}
    return limits

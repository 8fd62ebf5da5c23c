"""How well the probabilities rank: areas under the ROC and the precision-recall curve.

Each class against all others, then the mean over the classes for which the area is defined
(those with records and with records of other classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catena.evaluation.scores import Floats, Integers


@dataclass(frozen=True)
class Ranking:
    """The records sorted by falling probability of one class.

    `order` are record numbers, `positive` says whether each has the class, and `ends` are the
    positions at which one group of equal probabilities ends: ties are counted together.
    """

    order: Integers
    positive: NDArray[np.bool_]
    ends: Integers

    @classmethod
    def of(cls, probability: Floats, positive: NDArray[np.bool_]) -> Ranking:
        order = np.argsort(-probability, kind="stable")
        falling = probability[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        return cls(order, positive[order], ends)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """True and false positives `(…, thresholds)` at each threshold, for weights `(…, records)`."""
        ordered = weights[..., self.order]
        true = np.cumsum(ordered * self.positive, axis=-1)[..., self.ends]
        both = np.cumsum(ordered, axis=-1)[..., self.ends]
        return true, both - true

    def roc_auc(self, weights: Floats) -> Floats:
        """Chance that a record of the class ranks before one without it, ties half `(…)`."""
        true, false = self.counts(weights)
        area = (_steps(false) * (true - _steps(true) / 2)).sum(axis=-1)
        return _defined(area, true[..., -1] * false[..., -1])

    def pr_auc(self, weights: Floats) -> Floats:
        """Average precision: precision at each threshold, weighted by the recall it adds `(…)`."""
        true, false = self.counts(weights)
        given = true + false
        precision = np.divide(true, given, out=np.zeros_like(true), where=given > 0)
        area = (_steps(true) * precision).sum(axis=-1)
        return np.where(false[..., -1] > 0, _defined(area, true[..., -1]), np.nan)


def rankings(probabilities: Floats, actual: Integers) -> list[Ranking]:
    """One ranking for each class; `probabilities` `(records, classes)`."""
    return [
        Ranking.of(probabilities[:, number], actual == number) for number in range(probabilities.shape[1])
    ]


def macro_area(ranked: list[Ranking], kind: str, weights: Floats) -> Floats:
    """Mean area `(…)` over the classes; `kind` is `roc_auc` or `pr_auc`; NaN where no class has one."""
    areas = np.stack([np.asarray(getattr(ranking, kind)(weights)) for ranking in ranked])
    known = ~np.isnan(areas)
    return _defined(np.where(known, areas, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _steps(cumulative: Floats) -> Floats:
    return np.asarray(np.diff(cumulative, axis=-1, prepend=0.0))


def _defined(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, and NaN where `whole` is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))

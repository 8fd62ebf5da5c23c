"""Records that differ from each other: by k-centre greedy, or by the gradients they would give (BADGE)."""

from __future__ import annotations

import numpy as np

#: Distances held in memory at once, in numbers.
_CHUNK = 1 << 24


def k_centres(
    vectors: np.ndarray, count: int, known: np.ndarray | None = None
) -> tuple[list[int], list[float]]:
    """Rows of `vectors` `(rows, hidden)`, each the farthest from all before it, and these distances.

    k-centre greedy of Sener and Savarese 2018 (arXiv:1708.00489): `known` are the vectors of records that
    have labels already. Without any, the first row is the one nearest to the mean, whose distance is 0. Of
    rows equally far, the first is taken. `count` rows at most.
    """
    order: list[int] = []
    found: list[float] = []
    vectors = vectors.astype(np.float64)
    if known is not None and len(known):
        distances = _nearest(vectors, known.astype(np.float64))
    else:
        first = int(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).argmin())
        order, found = [first], [0.0]
        distances = _to_one(vectors, first)
    taken = np.zeros(len(vectors), dtype=bool)
    taken[order] = True
    while len(order) < min(count, len(vectors)):
        at = int(np.where(taken, -1.0, distances).argmax())
        order.append(at)
        found.append(float(distances[at]))
        taken[at] = True
        distances = np.minimum(distances, _to_one(vectors, at))
    return order[:count], found[:count]


def by_gradients(
    residuals: np.ndarray, vectors: np.ndarray, count: int, seed: int
) -> tuple[list[int], list[float]]:
    """Rows drawn by k-means++ among the gradients of the last layer, and the norm of each one's gradient.

    BADGE (Ash et al. 2020, arXiv:1906.03671): were what the model says right, a record's gradient would be
    the outer product of `residuals` `(rows, classes)`, probabilities less what is said, and `vectors`
    `(rows, hidden)`. Unsure records have long ones, different records ones that lie far apart. The products
    are never made: ⟨a⊗h, b⊗k⟩ = ⟨a, b⟩⟨h, k⟩. The first row is the one with the longest gradient.
    """
    a, h = residuals.astype(np.float64), vectors.astype(np.float64)
    squares = (a**2).sum(axis=1) * (h**2).sum(axis=1)
    norms = np.sqrt(squares)
    generator = np.random.Generator(np.random.PCG64(seed))
    order = [int(squares.argmax())]
    distances = _gradient_distances(a, h, squares, order[0])
    while len(order) < min(count, len(a)):
        distances[order] = 0.0
        total = distances.sum()
        if total <= 0.0:  # all that is left is like something chosen: the longest gradients first
            left = np.setdiff1d(np.argsort(-squares, kind="stable"), order, assume_unique=True)
            order += left[: min(count, len(a)) - len(order)].tolist()
            break
        drawn = generator.random() * total
        at = int(np.searchsorted(np.cumsum(distances), drawn, side="right"))
        order.append(min(at, len(a) - 1))
        distances = np.minimum(distances, _gradient_distances(a, h, squares, order[-1]))
    return order[:count], norms[order[:count]].tolist()


def _gradient_distances(a: np.ndarray, h: np.ndarray, squares: np.ndarray, at: int) -> np.ndarray:
    """Squared distances of all gradients to that of row `at`."""
    found: np.ndarray = np.maximum(squares + squares[at] - 2.0 * (a @ a[at]) * (h @ h[at]), 0.0)
    return found


def _to_one(vectors: np.ndarray, at: int) -> np.ndarray:
    distances: np.ndarray = np.sqrt(((vectors - vectors[at]) ** 2).sum(axis=1))
    return distances


def _nearest(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The distance of each vector to the nearest of the known ones."""
    squares = (known**2).sum(axis=1)
    step = max(1, _CHUNK // len(known))
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        distances = (part**2).sum(axis=1)[:, None] + squares - 2.0 * part @ known.T
        found[start : start + step] = np.sqrt(np.maximum(distances.min(axis=1), 0.0))
    return found

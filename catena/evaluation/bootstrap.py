"""Bootstrap resamples without a loop over records (Efron and Tibshirani 1993, chapter 13).

Drawing records with replacement and then counting them by cell (label and prediction) is the
same as drawing the cells' counts from one multinomial distribution. A resample of a million
records then costs no more than one of a hundred, and does not depend on the records' order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from catena.evaluation.scores import Floats, Integers, Margins

#: Entries of one block of record weights: 64 MiB of float64.
_BLOCK = 1 << 23


def resampled_margins(
    actual: Integers, predictions: Sequence[Integers], classes: int, samples: int, seed: int
) -> list[Margins]:
    """Margins `(samples, classes)` of each rival's predictions, all under the same resamples.

    `actual` and each of `predictions` hold class numbers `(records,)`.
    """
    cells, counts = np.unique(np.column_stack([actual, *predictions]), axis=0, return_counts=True)
    drawn = (
        np.random.default_rng(seed)
        .multinomial(int(counts.sum()), counts / counts.sum(), size=samples)
        .astype(np.float64)
    )
    membership = np.eye(classes)
    truth = membership[cells[:, 0]]
    actual_counts = drawn @ truth
    return [
        Margins(
            hits=drawn @ (truth * (cells[:, [0]] == cells[:, [column]])),
            predicted=drawn @ membership[cells[:, column]],
            actual=actual_counts,
        )
        for column in range(1, cells.shape[1])
    ]


def resampled_weights(records: int, samples: int, seed: int) -> Iterator[Floats]:
    """Blocks `(some samples, records)` that say how often each record was drawn.

    For scores that need every record. The same seed draws the same records whatever the score.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // records)
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = generator.integers(records, size=(rows, records))
        drawn += np.arange(rows)[:, None] * records
        yield np.bincount(drawn.ravel(), minlength=rows * records).reshape(rows, records).astype(np.float64)


def percentile_interval(resampled: Floats, confidence: float) -> tuple[float, float]:
    """The middle `confidence` of the resampled scores that are defined; not a number where none is."""
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)

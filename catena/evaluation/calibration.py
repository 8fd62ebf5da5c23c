"""Whether a confidence of 80% is right 80 times in a hundred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catena.evaluation.scores import Floats, Integers

#: Equal-width bins of the expected calibration error (Guo et al. 2017 use 15 too).
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Records whose confidence lies in (`low`, `high`]."""

    low: float
    high: float
    records: int
    confidence: float
    accuracy: float


def bin_numbers(confidence: Floats, bins: int = BINS) -> Integers:
    """Which of `bins` equal intervals (low, high] of 0 to 1 each confidence falls into."""
    # Rounding keeps 3/15 computed as 0.2 in the bin that ends there.
    numbers: Integers = np.clip(np.ceil(np.round(confidence * bins, 9)) - 1, 0, bins - 1).astype(np.int64)
    return numbers


def calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], weights: Floats, bins: int = BINS
) -> Floats:
    """Expected calibration error `(…)` for record weights `(…, records)`.

    The mean over records of |accuracy - mean confidence| of the record's bin, 0 at best
    (Naeini et al. 2015; Guo et al. 2017).
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), bin_numbers(confidence, bins)] = correct - confidence
    return np.asarray(np.abs(weights @ gaps).sum(axis=-1) / weights.sum(axis=-1))


def reliability(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Mean confidence and accuracy of each bin that holds records, for a reliability diagram."""
    numbers = bin_numbers(confidence, bins)
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            records=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(correct[inside].mean()),
        )
        for number in np.unique(numbers)
        for inside in [numbers == number]
    ]

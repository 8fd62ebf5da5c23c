"""Near duplicates across parts among images: what was scaled, compressed or brightened differs little.

Images are reduced to 16 × 16 pixels and compared by correlation, which a change of brightness or contrast
leaves as it is. All pairs are compared, so nothing is missed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from catena.data.near_duplicates import NearDuplicates
from catena.data.pictures import from_text

_SIDE = 16
#: Similarities held in memory at once.
_CHUNK = 16 << 20


class ImageSide:
    """The images on one side of a comparison: reduced, less their mean, of length 1 `(images, values)`.

    An image of one colour has nothing to be compared by and is near to none.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.vectors = (
            np.stack([reduced(text) for text in texts]) if len(texts) else np.empty((0, 1), np.float32)
        )


def reduced(text: str) -> np.ndarray:
    """The comparable values of a canonical image `(values,)`."""
    from PIL import Image

    with Image.open(io.BytesIO(from_text(text)), formats=("PNG",)) as image:
        small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    values: np.ndarray = small.ravel() - small.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 1.0 else np.zeros_like(values)


def find_near_images(
    lower: ImageSide, higher: ImageSide, threshold: float, lower_counts: np.ndarray, higher_counts: np.ndarray
) -> NearDuplicates:
    """The images of `lower` whose correlation with one of `higher` is at least `threshold`, with the nearest.

    The boolean arrays say which images count.
    """
    ours, theirs = np.flatnonzero(lower_counts), np.flatnonzero(higher_counts)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    if len(ours) and len(theirs):
        others = higher.vectors[theirs].T
        step = max(1, _CHUNK // len(theirs))
        for start in range(0, len(ours), step):
            part = ours[start : start + step]
            similarity = lower.vectors[part] @ others
            best = similarity.argmax(axis=1)
            value = similarity[np.arange(len(part)), best]
            near = value >= threshold
            found.append((part[near], theirs[best[near]], value[near].astype(np.float64)))
    if not found:
        return NearDuplicates(*(np.empty(0, dtype=kind) for kind in (np.int64, np.int64, np.float64)))
    return NearDuplicates(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

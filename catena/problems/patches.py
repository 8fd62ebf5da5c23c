"""Patches of images that can be covered, as by Zeiler and Fergus 2014 (arXiv 1311.2901)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catena.data.pictures import as_text, from_text, pixels, to_png

#: A patch covers about this share of an image's side.
_SHARE = 4


@dataclass(frozen=True)
class Patch:
    """A square of one image, in pixels from its upper left corner."""

    role: str
    top: int
    left: int
    side: int

    @property
    def text(self) -> str:
        """Where it is, for tables: rows and columns counted from 1."""
        last = self.side - 1
        if not last:
            return f"row {self.top + 1}, column {self.left + 1}"
        rows, columns = (f"{start + 1}–{start + 1 + last}" for start in (self.top, self.left))
        return f"rows {rows}, columns {columns}"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "input": self.role, "top": self.top, "left": self.left, "height": self.side, "width": self.side,
        }  # fmt: skip


def patches(role: str, size: int, most: int) -> list[Patch]:
    """Overlapping patches over an image of `size` × `size` pixels, row by row, at most `most` of them.

    Their side is a quarter of the image's, or more where only few are asked for. They lie as densely as
    their number allows, and reach every edge.
    """
    along = math.isqrt(max(most, 1))
    side = max(size // _SHARE, math.ceil(size / along))
    step = max(math.ceil((size - side) / max(along - 1, 1)), 1)
    starts = [*range(0, size - side, step), size - side]
    return [Patch(role, top, left, side) for top in starts for left in starts]


def covered(image: str, chosen: Sequence[Patch]) -> str:
    """The canonical image with patches painted over in its mean colour, which says least."""
    from PIL import Image

    values = pixels(from_text(image)).copy()
    colour = values.reshape(-1, values.shape[2]).mean(axis=0).round().astype(np.uint8)
    for patch in chosen:
        values[patch.top : patch.top + patch.side, patch.left : patch.left + patch.side] = colour
    return as_text(to_png(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)))


def heat_map(chosen: Sequence[Patch], values: Sequence[float], size: int) -> np.ndarray:
    """Of each pixel, the mean value of the patches that cover it `(size, size)`."""
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for patch, value in zip(chosen, values, strict=True):
        here = np.s_[patch.top : patch.top + patch.side, patch.left : patch.left + patch.side]
        total[here] += value
        count[here] += 1
    return np.asarray(total / np.maximum(count, 1))

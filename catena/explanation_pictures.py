"""The heat map of an image's explanation: which patches speak for what is said, and which against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catena.data.pictures import from_text, pixels, to_png
from catena.errors import SettingsError
from catena.evaluation.report import AGAINST, FOR
from catena.explanation import Explained, Explanation
from catena.files import complete_file
from catena.problems.patches import Patch, heat_map

#: Blue and orange, which people tell apart who see red and green alike.
#: Pictures are enlarged to at least so many pixels a side, by a whole factor.
_SIDE = 256
#: How much of a pixel is colour where the effect is largest.
_STRONGEST = 0.75


def image_patches(explanation: Explanation) -> list[Patch]:
    """The patches of the image that is explained; none where it is a text."""
    return [piece for piece in explanation.pieces if isinstance(piece, Patch)]


def heat_picture(explanation: Explanation, claim: Explained) -> bytes:
    """A PNG: the image as the model read it, and beside it in grey, coloured by what its patches do.

    A pixel's colour is the mean of the patches that cover it, as a share of the largest mean.
    """
    from PIL import Image

    chosen = image_patches(explanation)
    values = pixels(from_text(explanation.inputs[chosen[0].role]))
    values = np.broadcast_to(values, (*values.shape[:2], 3)).astype(np.float64)
    heat = heat_map(chosen, claim.shares(), len(values))
    heat /= max(np.abs(heat).max(), 1e-12)
    grey = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    colour = np.where(heat[..., None] > 0, FOR, AGAINST)
    share = _STRONGEST * np.abs(heat)[..., None]
    both = [values, grey * (1 - share) + colour * share]
    factor = -(-_SIDE // len(values))
    larger = [np.kron(one, np.ones((factor, factor, 1))).round().astype(np.uint8) for one in both]
    gap = np.full((len(larger[0]), max(factor, 8), 3), 255, dtype=np.uint8)
    return to_png(Image.fromarray(np.concatenate([larger[0], gap, larger[1]], axis=1)))


def write_picture(explanation: Explanation, path: Path) -> None:
    """Write the heat map of the first claim, whole or not at all.

    Raises `SettingsError` where a text is explained.
    """
    if not image_patches(explanation):
        raise SettingsError("`--png` draws a heat map of an image; take `--html` for a text.")
    content = heat_picture(explanation, explanation.claims[0])
    with complete_file(path) as partial:
        partial.write_bytes(content)

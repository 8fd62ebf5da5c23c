"""Drawn images of three shapes, in folders of their classes or as arrays."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("cross", "disc", "frame")


def draw(shape: str, chance: np.random.Generator, side: int = 20) -> Image.Image:
    """A shape in a light colour somewhere on a dark, noisy background."""
    noise = chance.integers(0, 60, (side, side, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    left, top = (int(value) for value in chance.integers(1, side // 3, 2))
    width = int(chance.integers(side // 2, side - max(left, top) - 1))
    colour = tuple(int(value) for value in chance.integers(140, 256, 3))
    box = (left, top, left + width, top + width)
    if shape == "disc":
        pen.ellipse(box, fill=colour)
    elif shape == "frame":
        pen.rectangle(box, outline=colour, width=2)
    else:
        pen.line((box[0], box[1], box[2], box[3]), fill=colour, width=3)
        pen.line((box[0], box[3], box[2], box[1]), fill=colour, width=3)
    return image


def write_folder(folder: Path, count: int, seed: int) -> None:
    """`count` pictures of each shape as PNG or, every third, JPEG."""
    chance = np.random.default_rng(seed)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            ending = "jpg" if number % 3 == 0 else "png"
            draw(shape, chance).save(folder / shape / f"{number:03}.{ending}")


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    """The file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()

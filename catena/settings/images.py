"""The settings of images: how they are read, and how they are altered in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.group import Fraction, Group


class ImageSettings(Group):
    """How pictures become images of one size."""

    size: int = Field(
        32,
        ge=4,
        le=1024,
        description="Height and width, in pixels, to which every image is brought. A pretrained network "
        "scales on to the size it was trained with.",
    )
    colours: Literal["rgb", "grey"] = Field(
        "rgb", description="Whether images keep their colours. Transparent parts become white."
    )
    fit: Literal["stretch", "pad", "crop"] = Field(
        "stretch",
        description="How an image that is not square becomes so: `stretch` shows all of it distorted, `pad` "
        "adds black borders, `crop` keeps the middle.",
    )
    max_pixels: int = Field(
        50_000_000,
        ge=16,
        le=178_956_970,  # the most that Pillow opens, whatever is asked of it
        description="Larger pictures are rejected before they are decoded, since a small file can hold a "
        "huge one.",
    )
    near_duplicate_correlation: float = Field(
        0.995,
        gt=0.5,
        le=1.0,
        description="Correlation of images reduced to 16 × 16 pixels that makes them near duplicates, at "
        "least.",
    )


class ImageAugmentationSettings(Group):
    """How training images are altered, anew each time they are seen; other parts never are."""

    flip: bool = Field(
        False,
        description="Mirror half of the images, left to right. Not for digits, letters, or traffic signs.",
    )
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="Largest rotation, in degrees, either way.")
    scale: float = Field(0.0, ge=0.0, lt=1.0, description="Largest change of size, as a share of it.")
    shift: float = Field(
        0.0, ge=0.0, lt=1.0, description="Largest shift in each direction, as a share of the image's size."
    )
    brightness: Fraction = Field(
        0.0, description="Largest change of brightness, as a share of the full range."
    )
    contrast: float = Field(0.0, ge=0.0, lt=1.0, description="Largest change of contrast, as a share of it.")
    erase: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Side of a square that is greyed out somewhere (cutout, DeVries and Taylor 2017), as a "
        "share of the image's size.",
    )

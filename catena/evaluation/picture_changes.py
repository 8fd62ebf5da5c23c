"""Small changes to a picture that a behaviour test makes; each takes an image as text and a seed."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from catena.data.pictures import as_text, from_text, pixels, to_png

if TYPE_CHECKING:
    from PIL.Image import Image

#: One pixel up, down, to the left or to the right.
_WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1))

#: A share of the value as it is: no picture is left at -1, so that is not reached.
Share = Annotated[float, Field(gt=-1.0, le=4.0)]


class PicturePerturbation(BaseModel):
    """Exactly one change: `mirror`, or one that says how much.

    `brightness` and `contrast` are shares of what is there (0.1: a tenth more, -0.1: a tenth less; of
    contrast, of each pixel's distance from the mean grey), `shift` is in pixels, the way drawn and the edge
    repeated, `noise` is the deviation of normal noise as a share of white, and `jpeg` a quality of 1 to 95.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    brightness: Share | None = None
    contrast: Share | None = None
    shift: int | None = Field(None, ge=1, le=1000)
    noise: float | None = Field(None, gt=0.0, le=1.0)
    jpeg: int | None = Field(None, ge=1, le=95)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or len(given) != 1:
            raise ValueError("a perturbation has exactly one entry, such as `mirror` or `brightness: 0.1`")
        ((entry, amount),) = given.items()
        known = amount == "mirror" if entry == "name" else entry in cls.model_fields
        if not known:
            raise ValueError(
                f"there is no perturbation `{amount if entry == 'name' else entry}` of pictures; "
                "choose one of mirror, "
                "`brightness: 0.1`, `contrast: 0.1`, `shift: 2`, `noise: 0.02` or `jpeg: 75`"
            )
        if amount is None:
            raise ValueError(f"`{entry}` needs an amount")
        return given

    def apply(self, text: str, chance: random.Random) -> str:
        """The changed image, of the same size and colours; the same text where no pixel changes."""
        from PIL import Image

        before = pixels(from_text(text))
        image = Image.fromarray(before[..., 0] if before.shape[2] == 1 else before)
        after = self._changed(image, chance)
        if np.array_equal(np.asarray(after).reshape(before.shape), before):
            return text
        return as_text(to_png(after))

    def _changed(self, image: Image, chance: random.Random) -> Image:
        from PIL import Image, ImageEnhance, ImageOps

        if self.brightness is not None:
            return ImageEnhance.Brightness(image).enhance(1.0 + self.brightness)
        if self.contrast is not None:
            return ImageEnhance.Contrast(image).enhance(1.0 + self.contrast)
        if self.shift is not None:
            down, right = chance.choice(_WAYS)
            return Image.fromarray(_moved(np.asarray(image), self.shift * down, self.shift * right))
        if self.noise is not None:
            values = np.asarray(image)
            generator = np.random.default_rng(chance.getrandbits(64))
            noisy = values + generator.normal(0.0, 255.0 * self.noise, values.shape)
            return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        if self.jpeg is not None:
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=self.jpeg)
            with Image.open(stream, formats=("JPEG",)) as read:
                read.load()
                return read.convert(image.mode)
        return ImageOps.mirror(image)

    def __str__(self) -> str:
        return self.name or next(iter(self.model_fields_set))


def _moved(values: np.ndarray, down: int, right: int) -> np.ndarray:
    """An image `(height, width, …)` moved by whole pixels; what comes in repeats the edge."""
    height, width = values.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return values[rows][:, columns]

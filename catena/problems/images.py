"""Image classification: one image, one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.data.images import read_picture
from catena.data.pictures import (
    UnreadableImageError,
    as_text,
    as_uri,
    canonical_png,
    described,
    from_text,
    is_canonical,
    pixels,
)
from catena.errors import DataError
from catena.problems.classification import Classification
from catena.problems.outputs import HeadSpec
from catena.problems.patches import Patch, covered, patches

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from pydantic import BaseModel
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.data.formats import Content
    from catena.data.near_duplicates import Search
    from catena.evaluation.base import Evaluation
    from catena.settings import ImageSettings, TokenizationSettings

#: Why a path in a file of behaviour tests is refused.
_OUTSIDE = "path outside the folder of the tests"


class Images(Classification):
    """An image has exactly one label, as a text has in `Classification`, whose loss and scores these are.

    A record holds its image as text: a PNG of `problem.images.size` in base64, so that equal images are
    equal texts. Given images may be any picture in base64 or in a data URI.
    """

    name = "images"
    input_roles = ("image",)
    contents: ClassVar[Mapping[str, Content]] = {"image": "picture"}
    tokenizes = False
    asks_for_labels = False
    records_at_once: ClassVar[int] = 1_000

    # -- records ---------------------------------------------------------------------------

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        return self.read_inputs(records)

    def read_argument(self, text: str) -> str:
        """A path, as a data URI of the file's bytes; what is one already stays as it is."""
        if text.startswith("data:"):
            return text
        try:
            return as_uri(Path(text).read_bytes(), text)
        except (OSError, ValueError):
            raise DataError(f"There is no image file {text:.200}.") from None

    def read_inputs(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Canonical images; what cannot be read keeps its name, and its reason."""
        images: list[str | None] = []
        reasons: list[str] = []
        for given in records["image"].tolist():
            image, reason = self._canonical(given) if isinstance(given, str) else (None, "")
            images.append(image)
            reasons.append(reason)
        return (
            records.assign(image=pd.array(images, dtype="str")),
            pd.Series(reasons, index=records.index, dtype="str"),
        )

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """The records with canonical images. Raises `DataError` for one that cannot be read."""
        settings = self.settings.images
        if all(_is_canonical(text, settings) for text in records["image"]):
            return records
        read, reasons = self.read_inputs(records)
        if (reasons != "").any():
            at = int((reasons != "").to_numpy().argmax())
            raise DataError(f"Record {at + 1}: {read['image'].iloc[at]:.100}: {reasons.iloc[at]}.")
        return read

    def _canonical(self, given: str) -> tuple[str, str]:
        """The canonical text, or what the image is called and why it has none."""
        try:
            return as_text(canonical_png(from_text(given), self.settings.images)), ""
        except UnreadableImageError as error:
            return described(given), str(error)

    def perturbation(self) -> type[BaseModel]:
        from catena.evaluation.picture_changes import PicturePerturbation

        return PicturePerturbation

    def read_written(self, inputs: Mapping[str, str], folder: Path) -> Mapping[str, str]:
        """Pictures by their paths below the folder of the tests, which DVC watches."""
        given = inputs["image"]
        inside = not Path(given).is_absolute() and ".." not in Path(given).parts
        content, reason = read_picture(folder / given, folder) if inside else (b"", _OUTSIDE)
        image = ""
        if not reason:
            image, reason = self._canonical(as_uri(content, given))
        if reason:
            raise ValueError(f"names the picture {(folder.name / Path(given)).as_posix()!r}: {reason}")
        return {"image": image}

    pieces_called = ("patch", "patches")

    def pieces(self, inputs: Mapping[str, str], most: int) -> Sequence[Patch]:
        return patches("image", self.settings.images.size, most)

    def without(self, record: pd.DataFrame, *pieces: Any) -> pd.DataFrame:
        """The image with patches covered."""
        return record.assign(image=[covered(str(record["image"].iloc[0]), pieces)])

    def show(self, inputs: Sequence[str]) -> list[str]:
        return [described(text) for text in inputs]

    def near_duplicates(self, threshold: float) -> Search:
        """By correlation; the threshold for texts says nothing here."""
        from catena.data.near_duplicates import Search
        from catena.data.near_images import ImageSide, find_near_images

        return Search(self.settings.images.near_duplicate_correlation, ImageSide, find_near_images)

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        return super().schema(label_names).rename_columns({"text": "image"})

    # -- features --------------------------------------------------------------------------

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """`pixels` of 0 to 255 by row, column and channel, in one list for each image."""
        features: dict[str, list[Any]] = {
            "pixels": [self._pixels(text) for text in records["image"]],
            "n_tokens": [1] * len(records),
        }
        if self.target_role in records:
            features["labels"] = self.encode_targets(records["label"].tolist(), label_names)
        return features

    def _pixels(self, text: str) -> np.ndarray:
        try:
            values = pixels(from_text(text)).ravel()
        except UnreadableImageError as error:
            raise DataError(f"{described(text)}: {error}; run the prepare stage again.") from None
        size, channels = self.settings.images.size, self._channels
        if len(values) != size * size * channels:
            raise DataError(f"{described(text)}, not of {size} × {size}; run the prepare stage again.")
        return values

    @property
    def _channels(self) -> int:
        return 1 if self.settings.images.colours == "grey" else 3

    # -- network ---------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("image-classification", tuple(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """`pixel_values` `(batch, channels, height, width)` of 0 to 1, and `labels`."""
        import torch

        size = self.settings.images.size
        values = np.stack([np.asarray(feature["pixels"], dtype=np.uint8) for feature in features])
        images = torch.from_numpy(values.reshape(len(features), size, size, self._channels))
        batch = {"pixel_values": images.permute(0, 3, 1, 2).float() / 255.0}
        if "labels" in features[0]:
            batch["labels"] = torch.tensor(np.asarray([feature["labels"] for feature in features]))
        return batch

    @property
    def augments(self) -> bool:
        return any(self.settings.augmentation.model_dump().values())

    def augment(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from catena.problems.image_augmentation import altered

        return batch | {"pixel_values": altered(batch["pixel_values"], self.settings.augmentation)}

    # -- predictions -------------------------------------------------------------------------

    def evaluation(self) -> Evaluation:
        from catena.evaluation.images import ImageEvaluation

        return ImageEvaluation()


def _is_canonical(text: str, settings: ImageSettings) -> bool:
    try:
        return is_canonical(from_text(text), settings)
    except UnreadableImageError:
        return False

"""The evaluation of image classification: that of classes, with pictures and with rivals on pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from catena.data.pictures import UnreadableImageError, as_text, from_text, pixels, to_png
from catena.evaluation import baselines as rivals_of
from catena.evaluation.base import Baseline
from catena.evaluation.baselines import BaselineData, Learned
from catena.evaluation.classes import ClassEvaluation
from catena.evaluation.verdict import BASELINE_TITLES

#: Rivals see images of at most this height and width; the report shows them so.
_RIVALS_SIDE = 32
_SHOWN_SIDE = 96


def logistic(data: BaselineData) -> Learned:
    """Logistic regression on pixels, each less its mean and divided by its deviation (C = 0.1).

    Larger images are reduced to 32 × 32 first.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(image_vectors(data.train["image"]), data.train["label"].to_numpy(dtype=str))
    probabilities = model.predict_proba(image_vectors(data.test["image"]))
    best = probabilities.argmax(axis=1)
    return model.classes_[best].astype(object), probabilities[np.arange(len(best)), best]


def nearest(data: BaselineData) -> Learned:
    """The class of the training image at the least Euclidean distance, pixel by pixel."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(1)
    model.fit(image_vectors(data.train["image"]), data.train["label"].to_numpy(dtype=str))
    return model.predict(image_vectors(data.test["image"])).astype(object), None


def backbone(data: BaselineData) -> Learned:
    """Logistic regression on what the pretrained network's head sees, before fine-tuning.

    Learns from at most `backbone_records` training records, drawn by class.
    """
    from catena.training.embedding import embed_images

    chosen = rivals_of.stratified_sample(data.train["label"], data.backbone_records, data.seed)
    train = data.train.iloc[chosen]
    vectors = [
        embed_images(data.backbone, part["image"].tolist()).astype(np.float64) for part in (train, data.test)
    ]
    return rivals_of.logistic_regression(vectors[0], train["label"], vectors[1], 10.0)


def image_vectors(images: Sequence[str] | pd.Series) -> np.ndarray:
    """The pixels of canonical images as vectors of 0 to 1 `(images, values)`, float32."""
    from PIL import Image

    rows = []
    for text in images:
        values = pixels(from_text(text))
        if values.shape[0] > _RIVALS_SIDE:
            small = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
            values = np.asarray(small.resize((_RIVALS_SIDE, _RIVALS_SIDE), Image.Resampling.BICUBIC))
        rows.append(values.ravel())
    return np.stack(rows).astype(np.float32) / 255.0


class ImageEvaluation(ClassEvaluation):
    """Scores, intervals and slices of classes; a record is shown as its image."""

    default_baselines = ("logistic", "nearest")
    baselines: ClassVar[Mapping[str, tuple[str, Baseline]]] = {
        "majority": (BASELINE_TITLES["majority"], rivals_of.majority),
        "logistic": (BASELINE_TITLES["logistic"], logistic),
        "nearest": (BASELINE_TITLES["nearest"], nearest),
        "backbone": (BASELINE_TITLES["backbone"], backbone),
    }

    def where(self, record: Mapping[str, Any]) -> str:
        """The name of the image's file, where that was kept."""
        return str(record["file"]) if "file" in record else super().where(record)

    def picture(self, record: Mapping[str, object]) -> str | None:
        """The record's image as a data URI, not larger than is shown."""
        try:
            content = from_text(str(record.get("image", "")))
            values = pixels(content)
        except UnreadableImageError:
            return None
        if max(values.shape[:2]) > _SHOWN_SIDE:
            from PIL import Image

            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
                content = to_png(image)
        return f"data:image/png;base64,{as_text(content)}"

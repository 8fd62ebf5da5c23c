"""A classifier of images that takes pixels as they are stored: it scales and normalises them itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput

#: Key in `config.json` by which a stored network of this kind is known; it says what is done to pixels.
MARK = "catena_pixels"
PREPROCESSOR = "preprocessor_config.json"
#: Where nobody says how a network was trained: as most transformers for images were.
_SIZE = 224
_MEAN = _STD = 0.5


class PixelClassifier(PreTrainedModel):  # type: ignore[misc]
    """Pixels of 0 to 1 → the network's own size, mean and deviation → any image classifier of transformers.

    What is done to pixels is stored with the network, so that nothing else has to know it.
    """

    config_class = PretrainedConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig) -> None:
        _check_kind(config)
        super().__init__(config)
        self.network = AutoModelForImageClassification.from_config(config)
        self.post_init()

    @classmethod
    def around(cls, folder: Path, config: PretrainedConfig, **options: Any) -> PixelClassifier:
        """The pretrained network in `folder`, with a new head where its own is for other classes.

        Raises `ValueError` where `folder` holds no network for images, or not all of one.
        """
        _check_kind(config)
        setattr(config, MARK, pixels_of(folder, config))
        model = cls(config)
        model.network, found = AutoModelForImageClassification.from_pretrained(
            folder, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
        body = f"{model.network.base_model_prefix}."
        missing = sorted(name for name in found["missing_keys"] if name.startswith(body))
        if missing:
            raise ValueError(f"the network lacks {missing[0]}")
        return model

    @property
    def base_model(self) -> Any:
        """The network without its head."""
        return self.network.base_model

    def forward(self, pixel_values: torch.Tensor) -> ImageClassifierOutput:
        """Logits `(batch, labels)` of pixels `(batch, channels, height, width)` of 0 to 1."""
        return ImageClassifierOutput(logits=self.network(pixel_values=self.normalised(pixel_values)).logits)

    def vectors(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """What the head would see, or the mean over places `(batch, hidden)`."""
        outputs = self.base_model(pixel_values=self.normalised(pixel_values))
        pooled: torch.Tensor | None = getattr(outputs, "pooler_output", None)
        if pooled is None:
            last = outputs.last_hidden_state
            pooled = last.mean((2, 3)) if last.ndim == 4 else last.mean(1)
        return pooled.flatten(1)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels of 0 to 1 as the network was trained with them."""
        chosen: Mapping[str, Any] = getattr(self.config, MARK)
        channels = getattr(self.config, "num_channels", 3)
        if images.shape[1] == 1 < channels:
            images = images.expand(-1, channels, -1, -1)
        elif channels == 1 < images.shape[1]:
            images = images.mean(1, keepdim=True)
        size = list(chosen["size"])
        if list(images.shape[2:]) != size:
            images = functional.interpolate(
                images.float(), size, mode="bilinear", align_corners=False, antialias=True
            )
        mean, std = (
            torch.tensor(chosen[name], device=images.device).view(1, -1, 1, 1) for name in ("mean", "std")
        )
        return (images - mean) / std


def pixels_of(folder: Path, config: PretrainedConfig) -> dict[str, list[Any]]:
    """How a pretrained network wants pixels of 0 to 1: `size` (height, width), `mean` and `std`.

    From `preprocessor_config.json`, else from the configuration. Raises `ValueError` where that is damaged.
    """
    given: dict[str, Any] = {}
    path = folder / PREPROCESSOR
    if path.is_file():
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            given = []  # type: ignore[assignment]
        if not isinstance(given, dict):
            raise ValueError(f"{PREPROCESSOR} is not a JSON object")
    channels = int(getattr(config, "num_channels", 3))
    size = _pair(given.get("crop_size")) if given.get("do_center_crop") else None
    size = size or _pair(given.get("size")) or _pair(getattr(config, "image_size", None)) or [_SIZE, _SIZE]
    if not given.get("do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    else:
        mean = _channels(given.get("image_mean") or _MEAN, channels)
        std = _channels(given.get("image_std") or _STD, channels)
    # Values are multiplied by this before they are normalised, and here they come divided by 255.
    full = 255.0 * float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 255.0
    offset = 1.0 if given.get("rescale_offset") else 0.0
    return {
        "size": size,
        "mean": [(value + offset) / full for value in mean],
        "std": [value / full for value in std],
    }


def _pair(size: Any) -> list[int] | None:
    """Height and width, in the ways that configurations write them."""
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", size.get("longest_edge"))
        size = [size.get("height", edge), size.get("width", edge)]
    if isinstance(size, int) and not isinstance(size, bool):
        size = [size, size]
    if isinstance(size, Sequence) and len(size) == 2 and all(isinstance(edge, int) for edge in size):
        return [int(edge) for edge in size]
    return None


def _channels(values: Any, channels: int) -> list[float]:
    listed = [float(value) for value in values] if isinstance(values, Sequence) else [float(values)]
    if len(listed) not in (1, channels):
        raise ValueError(f"{PREPROCESSOR} has {len(listed)} values for {channels} channels")
    return listed * (channels // len(listed))


def _check_kind(config: PretrainedConfig) -> None:
    """Raise `ValueError` for a configuration that is none of an image classifier."""
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ValueError(
            f"it is a {config.model_type}, which does not see images; set `backbone.type` to resnet, or "
            "name a network for images"
        )
    if not MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]._supports_sdpa:
        config._attn_implementation = "eager"

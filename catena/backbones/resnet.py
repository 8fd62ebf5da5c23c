"""A convolutional network for images from scratch: the ResNet of He et al. 2016."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catena.backbones.base import Blueprint, Head
from catena.backbones.pretrained import IMAGES, describe_head, quieten
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

#: Pixels of 0 to 1 are brought to about -2 to 2.
_MEAN, _STD = 0.5, 0.25
_CHANNELS = 3


class Resnet(Scratch):
    """transformers' ResNet (arXiv 1512.03385) on images scaled to `input_size`; grey ones in three equal
    channels."""

    type = "resnet"

    def config(self, blueprint: Blueprint, head: Head) -> PretrainedConfig:
        from transformers import ResNetConfig

        from catena.backbones.pixels import MARK

        sizes = blueprint.settings
        config = ResNetConfig(
            num_channels=_CHANNELS,
            embedding_size=sizes.embedding_size,
            hidden_sizes=list(sizes.hidden_sizes or ()),
            depths=list(sizes.depths or ()),
            layer_type=sizes.block,
        )
        size = [sizes.input_size, sizes.input_size]
        setattr(config, MARK, {"size": size, "mean": [_MEAN] * _CHANNELS, "std": [_STD] * _CHANNELS})
        return config

    def build(
        self,
        folder: Path,
        head: Head,
        *,
        dropout: float | None,
        attention: str,
        pooling: str = "native",
        blueprint: Blueprint | None = None,
    ) -> PreTrainedModel:
        """`dropout`, `attention` and `pooling` say nothing to a network that has none of them."""
        if head.kind != IMAGES:
            raise self._no_head(head)
        if blueprint is None:
            raise ValueError("a network made from scratch needs a blueprint")
        from catena.backbones.pixels import PixelClassifier

        quieten()
        config = self.config(blueprint, head)
        describe_head(config, head)
        return PixelClassifier(config)

"""Where weights come from. A new backbone is one module here and one line in `BACKBONES`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catena.backbones.base import Backbone, Blueprint, Head
from catena.backbones.convolutional import Convolutional
from catena.backbones.pretrained import Pretrained
from catena.backbones.recurrent import Recurrent
from catena.backbones.resnet import Resnet
from catena.backbones.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.settings import BackboneSettings

BACKBONES: dict[str, type[Backbone]] = {
    backbone.type: backbone for backbone in (Pretrained, Transformer, Recurrent, Convolutional, Resnet)
}

__all__ = ["BACKBONES", "Backbone", "Blueprint", "Head", "build_network", "get_backbone"]


def get_backbone(kind: str) -> Backbone:
    """The backbone whose `type` stands in `params.yaml`."""
    return BACKBONES[kind]()


def build_network(
    settings: BackboneSettings,
    folder: Path,
    head: Head,
    *,
    dropout: float | None,
    attention: str,
    blueprint: Blueprint | None = None,
) -> PreTrainedModel:
    """The network that the group `backbone` describes, with a new head, as `Backbone.build` makes it."""
    network = get_backbone(settings.type).build(
        folder, head, dropout=dropout, attention=attention, pooling=settings.pooling, blueprint=blueprint
    )
    if settings.keep_layers is not None:
        from catena.backbones.smaller import keep_layers

        keep_layers(network, [layer - 1 for layer in settings.keep_layers])
    return network

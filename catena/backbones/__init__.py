"""Where weights come from. A new backbone is one module here and one line in `BACKBONES`."""

from __future__ import annotations

from catena.backbones.base import Backbone, Blueprint, Head
from catena.backbones.convolutional import Convolutional
from catena.backbones.pretrained import Pretrained
from catena.backbones.recurrent import Recurrent
from catena.backbones.resnet import Resnet
from catena.backbones.transformer import Transformer

BACKBONES: dict[str, type[Backbone]] = {
    backbone.type: backbone for backbone in (Pretrained, Transformer, Recurrent, Convolutional, Resnet)
}

__all__ = ["BACKBONES", "Backbone", "Blueprint", "Head", "get_backbone"]


def get_backbone(kind: str) -> Backbone:
    """The backbone whose `type` stands in `params.yaml`."""
    return BACKBONES[kind]()

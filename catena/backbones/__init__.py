"""Where weights come from. A new backbone is one module here and one line in `BACKBONES`."""

from __future__ import annotations

from catena.backbones.base import Backbone, Head
from catena.backbones.pretrained import Pretrained

BACKBONES: dict[str, type[Backbone]] = {backbone.type: backbone for backbone in (Pretrained,)}

__all__ = ["BACKBONES", "Backbone", "Head", "get_backbone"]


def get_backbone(kind: str) -> Backbone:
    """The backbone whose `type` stands in `params.yaml`."""
    return BACKBONES[kind]()

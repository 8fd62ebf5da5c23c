"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.compression import CompressionSettings, DistillationSettings
from catena.settings.group import Group


class MethodSettings(Group):
    """Which weights move."""

    name: Literal["full", "top_layers", "unchanged"] = Field(
        "full", description="The method's module in `catena/methods`."
    )
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    start: str | None = Field(
        None,
        description="Model with whose weights to begin instead of the backbone's: models:/NAME/3, "
        "models:/NAME@champion, or a model folder (relative to the project); `unchanged` needs one.",
    )
    distillation: DistillationSettings = Field(
        default_factory=lambda: DistillationSettings(), description="Learning from a teacher."
    )
    compression: CompressionSettings = Field(
        default_factory=lambda: CompressionSettings(), description="Making the network smaller."
    )

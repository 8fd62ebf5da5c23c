"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from catena.settings.group import Group
from catena.settings.layers import GradualSettings


class MethodSettings(Group):
    """Which weights move."""

    name: Literal["full", "top_layers", "gradual"] = Field(
        "full", description="The method's module in `catena/methods`."
    )
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    layer_decay: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="`full`, `top_layers`, `gradual`: factor on the learning rate from each layer to the one "
        "below it; the head has the whole rate, the embeddings the lowest.",
    )
    gradual: GradualSettings = Field(
        default_factory=lambda: GradualSettings(), description="`gradual`: when layers join."
    )
    cache: bool = Field(
        False,
        description="`top_layers`: keep what the frozen layers say of each record on disk, so that later "
        "epochs cost only what trains.",
    )
    cache_gigabytes: float = Field(
        10.0,
        gt=0.0,
        description="`top_layers`: the most that kept outputs may take on disk, those of earlier trainings "
        "included; the oldest make room.",
    )

    @model_validator(mode="after")
    def _settings_have_a_use(self) -> MethodSettings:
        by_layer = ("full", "top_layers", "gradual")
        if self.layer_decay != 1.0 and self.name not in by_layer:
            raise ValueError(f"`layer_decay` says nothing to {self.name}; it is for {', '.join(by_layer)}")
        if self.cache and self.name != "top_layers":
            raise ValueError(
                f"`cache` says nothing to {self.name}, which freezes no layers; it is for top_layers"
            )
        return self

"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.chain import ChainSettings
from catena.settings.group import Group


class MethodSettings(Group):
    """Which weights move."""

    name: Literal["full", "top_layers", "chain"] = Field(
        "full", description="The method's module in `catena/methods`."
    )
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    chain: ChainSettings = Field(default_factory=lambda: ChainSettings(), description="`chain`.")

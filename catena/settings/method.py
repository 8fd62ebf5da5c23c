"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.group import Group
from catena.settings.peft import PeftSettings


class MethodSettings(Group):
    """Which weights move."""

    name: Literal[
        "full",
        "top_layers",
        "lora", "adalora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning", "bitfit",
    ] = Field("full", description="The method's module in `catena/methods`.")  # fmt: skip
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    store: Literal["merged", "adapter"] = Field(
        "merged",
        description="Parameter-efficient methods: a complete model folder, with what was learned merged into "
        "the weights where that can be, or only the `adapter`, the head and a reference to the backbone.",
    )
    peft: PeftSettings = Field(PeftSettings(), description="Parameter-efficient methods.")

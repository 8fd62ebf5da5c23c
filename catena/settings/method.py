"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from catena.settings.group import Group
from catena.settings.prompt import PromptSettings


class MethodSettings(Group):
    """Which weights move."""

    name: Literal["full", "top_layers", "prompt", "pattern"] = Field(
        "full", description="The method's module in `catena/methods`."
    )
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    prompt: PromptSettings = Field(
        default_factory=lambda: PromptSettings(), description="`prompt`, `pattern`: what is asked."
    )

    @model_validator(mode="after")
    def _prompts_have_a_template(self) -> MethodSettings:
        if self.name in ("prompt", "pattern") and self.prompt.template is None:
            raise ValueError(f"`name` {self.name} needs a template: `prompt.template`")
        return self

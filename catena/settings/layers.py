"""The settings of methods that move a network layer by layer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from catena.settings.group import Group


class GradualSettings(Group):
    """When layers join a training that begins with the head."""

    at: tuple[Annotated[float, Field(ge=0.0)], ...] | None = Field(
        None,
        min_length=1,
        description="`gradual`: when the next level joins, from the top layer down to the embeddings, which "
        "come last; levels beyond the list never move. Nothing: another one after each epoch.",
    )
    unit: Literal["epochs", "steps"] = Field("epochs", description="`gradual`: what `at` counts in.")

    @model_validator(mode="after")
    def _times_rise(self) -> GradualSettings:
        if self.at is None:
            if self.unit == "steps":
                raise ValueError("`unit: steps` needs `at`")
        elif list(self.at) != sorted(self.at):
            raise ValueError("`at` must not fall")
        return self

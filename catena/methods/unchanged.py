"""Unchanged: the network of `method.start` as it is, to be made smaller, measured and registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.base import Head, Method, Surroundings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Unchanged(Method):
    """No weight moves."""

    name = "unchanged"

    @property
    def trains(self) -> bool:
        return False

    def check(self, problem: str, head: Head) -> None:
        super().check(problem, head)
        if self.settings.start is None:
            raise SettingsError(
                "`method.name` unchanged trains nothing, so `method.start` must name the model that is taken "
                "as it is."
            )
        if self.settings.distillation.teacher is not None:
            raise SettingsError(
                "`method.name` unchanged trains nothing, so it has no use for "
                "`method.distillation.teacher`; leave it out or choose another method."
            )

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        return model.requires_grad_(True)

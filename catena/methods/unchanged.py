"""Unchanged: the network of `method.start` as it is, to be made smaller, measured and registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.methods.base import Method, Surroundings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Unchanged(Method):
    """No weight moves: the network of `method.start` is made smaller, measured and registered as it is."""

    name = "unchanged"

    @property
    def trains(self) -> bool:
        return False

    @classmethod
    def example(cls, problem: str) -> dict[str, object]:
        return {"start": "models/one"}

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        return model.requires_grad_(True)

"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.methods.base import Method, Surroundings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Nothing is frozen."""

    name = "full"

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        return model.requires_grad_(True)

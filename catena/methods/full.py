"""Full fine-tuning: every weight moves, those further from the head more slowly if so wished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from catena.methods.base import Method, Surroundings
from catena.methods.depth import decayed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Every weight moves; with `method.layer_decay` the lower ones more slowly."""

    name = "full"

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        model.requires_grad_(True)
        decayed(model, self.settings.layer_decay)  # refused before any training where there are no layers
        return model

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        return decayed(model, self.settings.layer_decay)

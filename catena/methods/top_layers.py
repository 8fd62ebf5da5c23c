"""Top layers only: the head and the backbone's last layers move, everything below is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.base import Head, Method, Surroundings
from catena.methods.depth import decayed, layers, moving_units, rest

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from catena.methods.shortcut import Shortcut

#: Heads of networks whose frozen outputs cannot be kept, and why.
_NOT_KEPT = {
    "pair-embedding": "each record is two texts that go through the network one by one",
    "sequence-to-sequence": "the decoder's frozen layers also read what the encoder says",
}


class TopLayers(Method):
    """The head and the last `method.layers` layers move, or the head alone; all below is frozen.

    A pooler between the last layer and the head counts as part of the head. Of a network with an encoder and
    a decoder the layers are the decoder's. The frozen part runs without dropout, as in prediction, so what
    it says of a record is always the same and can be kept (`method.cache`).
    """

    name = "top_layers"

    def check(self, problem: str, head: Head) -> None:
        super().check(problem, head)
        if self.settings.cache and head.kind in _NOT_KEPT:
            raise SettingsError(
                f"`method.cache` is not there for this network, because "
                f"{_NOT_KEPT[head.kind]}; switch it off."
            )

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        model.requires_grad_(True)
        body = model.base_model
        body.requires_grad_(False)
        if (pooler := getattr(body, "pooler", None)) is not None:
            pooler.requires_grad_(True)
        found = layers(model)
        if self.settings.layers > len(found):
            raise SettingsError(
                f"`method.layers` is {self.settings.layers}, but the backbone has only {len(found)} layers."
            )
        for layer in found[len(found) - self.settings.layers :]:
            layer.requires_grad_(True)
        if not any(weight.requires_grad for weight in model.parameters()):
            raise SettingsError(
                "`method.layers` is 0, and this network has no head of its own beside its embeddings, so "
                "nothing would be trained; set at least 1."
            )
        decayed(model, self.settings.layer_decay)
        self._units: list[nn.Module] | None = moving_units(model)
        return model

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        return decayed(model, self.settings.layer_decay)

    def rest(self, model: PreTrainedModel) -> None:
        rest(model, self._units)

    @property
    def caches(self) -> bool:
        return self.settings.cache

    def shortcut(self, model: PreTrainedModel, probe: Mapping[str, torch.Tensor]) -> Shortcut:
        from catena.methods.shortcut import find_shortcut

        found = layers(model)
        frozen = len(found) - self.settings.layers
        if not frozen:
            raise SettingsError(
                "`method.cache` has nothing to keep, because this network has no frozen layers; "
                "switch it off."
            )
        entry = found[frozen] if self.settings.layers else None
        return find_shortcut(model, found[:frozen], entry, probe)

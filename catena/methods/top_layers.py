"""Top layers only: the head and the backbone's last layers move, everything below is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.base import Method, Surroundings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class TopLayers(Method):
    """`method.layers` of the backbone's layers train together with the head; 0 trains the head alone.

    A pooler between the last layer and the head counts as part of the head. Of a network with an encoder and
    a decoder the layers are the decoder's.
    """

    name = "top_layers"

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        model.requires_grad_(True)
        body = model.base_model
        body.requires_grad_(False)
        if (pooler := getattr(body, "pooler", None)) is not None:
            pooler.requires_grad_(True)
        layers = transformer_layers(model.get_decoder() if model.config.is_encoder_decoder else body)
        if self.settings.layers > len(layers):
            raise SettingsError(
                f"`method.layers` is {self.settings.layers}, but the backbone has only {len(layers)} layers."
            )
        for layer in layers[len(layers) - self.settings.layers :]:
            layer.requires_grad_(True)
        if not any(weight.requires_grad for weight in model.parameters()):
            raise SettingsError(
                "`method.layers` is 0, and this network has no head of its own beside its embeddings, so "
                "nothing would be trained; set at least 1."
            )
        return model


def transformer_layers(body: nn.Module) -> list[nn.Module]:
    """The backbone's stack of layers, bottom first: its longest `ModuleList`."""
    from torch import nn

    stacks = [list(module) for module in body.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=len, default=[])

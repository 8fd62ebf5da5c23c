"""Bottleneck adapters behind attention and feed-forward parts (Houlsby et al. 2019, arXiv 1902.00751)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from catena.errors import SettingsError
from catena.methods.adapted import Adapted
from catena.methods.base import Surroundings
from catena.methods.targets import chosen_layers, kind_of, sizes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Bottleneck(Adapted):
    """Narrow networks of two layers behind attention and feed-forward parts, added to what these give.

    The adapter is a child of the layer it follows, so that no weight of the network changes its name. It
    begins near the identity: its second layer is zero. It cannot be merged, because it is not linear.
    """

    name = "bottleneck"

    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        from torch import nn

        layers = chosen_layers(model, self.peft, "outputs")
        if any(isinstance(layer, nn.Conv1d | nn.Conv2d) for layer in layers.values()):
            raise SettingsError(
                f"`method.name` bottleneck does not fit the backbone ({kind_of(model)}), whose layers are "
                "convolutions; lora can adapt them."
            )
        model.requires_grad_(False)
        for layer in layers.values():
            width = sizes(layer)[1]
            down, up = nn.Linear(width, self.peft.bottleneck), nn.Linear(self.peft.bottleneck, width)
            nn.init.normal_(down.weight, std=0.02)
            for weight in (down.bias, up.weight, up.bias):
                nn.init.zeros_(weight)
            layer.add_module("bottleneck", nn.Sequential(down, nn.GELU(), up))
            layer.register_forward_hook(_through)


def _through(layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
    added: torch.Tensor = output + layer.bottleneck(output)
    return added

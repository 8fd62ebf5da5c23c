"""BitFit: only biases move (Ben Zaken et al. 2021, arXiv 2106.10199)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.adapted import Adapted
from catena.methods.base import Surroundings
from catena.methods.targets import kind_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class BitFit(Adapted):
    """The biases of all layers and norms move, and the head; nothing is inserted."""

    name = "bitfit"
    merges = True

    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        model.requires_grad_(False)
        biases = [
            weight
            for name, weight in model.base_model.named_parameters()
            if name.rpartition(".")[2].startswith("bias")
        ]
        if not biases:
            raise SettingsError(
                f"`method.name` bitfit does not fit the backbone ({kind_of(model)}), which has no biases; "
                "choose lora or ia3."
            )
        for weight in biases:
            weight.requires_grad_(True)

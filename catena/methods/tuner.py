"""peft's tuners in place: their layers stand in for some of the network's, which stays of its class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from catena.errors import SettingsError
from catena.methods.adapted import Adapted
from catena.methods.base import Surroundings
from catena.methods.targets import Part, chosen_layers, is_transposed, sizes

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

#: What peft calls the one adapter that there is.
ADAPTER_NAME = "default"


class Tuned(Adapted):
    """A method of peft whose adapters can be merged.

    Only peft's layers are used: nothing of it reads or writes files.
    """

    merges = True
    #: Which layers it adapts where `method.peft.targets` does not say.
    default_part: ClassVar[Part] = "attention"

    @abstractmethod
    def tuner(self, model: PreTrainedModel, layers: dict[str, nn.Module], common: dict[str, Any]) -> Any:
        """peft's tuner, applied to `layers` of `model`; `common` are settings that each of them has."""

    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        layers = chosen_layers(model, self.peft, self.default_part)
        turned = [is_transposed(layer) for layer in layers.values()]
        if any(turned) != all(turned):
            raise SettingsError(
                "`method.peft.targets` names layers whose weights lie in different order; choose one kind."
            )
        model.requires_grad_(False)
        common = {"target_modules": list(layers), "fan_in_fan_out": all(turned)}
        self._tuner: Any = self.tuner(model, layers, common)

    def merge(self, model: PreTrainedModel) -> None:
        self._tuner.merge_and_unload(safe_merge=True)
        self._tuner = None

    @property
    def alpha(self) -> float:
        return self.peft.alpha if self.peft.alpha is not None else 2.0 * self.peft.rank


def check_rank(rank: int, layers: Mapping[str, nn.Module], setting: str) -> None:
    """Raise `SettingsError` for a rank above that of the layers it is for."""
    for name, layer in layers.items():
        if rank > (limit := min(sizes(layer))):
            raise SettingsError(
                f"`method.peft.{setting}` is {rank}, but the layer {name} has only rank {limit}; lower it."
            )

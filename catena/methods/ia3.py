"""IA³: keys, values and what feed-forward parts end in are scaled by learned vectors (Liu et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catena.errors import SettingsError
from catena.methods.targets import is_feed_forward, kind_of
from catena.methods.tuner import ADAPTER_NAME, Tuned

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Ia3(Tuned):
    """Learned factors on keys, values and what feed-forward parts end in; merged into the weights in the end.

    arXiv 2205.05638: one for each output of a layer, of a feed-forward part's last layer for each input. They
    are 1 in the beginning, and are not decayed.
    """

    name = "ia3"
    default_part = "scaled"

    def tuner(self, model: PreTrainedModel, layers: dict[str, nn.Module], common: dict[str, Any]) -> Any:
        from peft import IA3Config
        from peft.tuners.ia3 import IA3Model
        from torch import nn

        if any(isinstance(layer, nn.Conv1d) for layer in layers.values()):
            raise SettingsError(
                f"`method.name` ia3 does not fit the backbone ({kind_of(model)}): it cannot scale "
                "convolutions over tokens; lora can adapt them."
            )
        feed_forward = [name for name in layers if is_feed_forward(name)]
        config = IA3Config(feedforward_modules=feed_forward, **common)
        return IA3Model(model, config, ADAPTER_NAME)

    def undecayed(self, model: PreTrainedModel) -> frozenset[str]:
        return frozenset(name for name, _ in model.named_parameters() if ".ia3_l." in name)

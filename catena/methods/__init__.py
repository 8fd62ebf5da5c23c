"""Which weights move. A new method is one module here and one line in `METHODS`."""

from __future__ import annotations

from catena.errors import SettingsError
from catena.methods.adalora import AdaLora
from catena.methods.base import HeadRequest, Method, Opening, Records, Shares, Surroundings, Validation
from catena.methods.bitfit import BitFit
from catena.methods.bottleneck import Bottleneck
from catena.methods.chain import Chain
from catena.methods.density import Density
from catena.methods.full import Full
from catena.methods.gradual import Gradual
from catena.methods.ia3 import Ia3
from catena.methods.lora import Lora
from catena.methods.prefix_tuning import PrefixTuning
from catena.methods.prompt import Pattern, Prompt
from catena.methods.prompt_tuning import PromptTuning
from catena.methods.top_layers import TopLayers
from catena.methods.unchanged import Unchanged
from catena.settings import MethodSettings

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Full,
        TopLayers,
        Gradual,
        Lora, AdaLora, Ia3, Bottleneck, PrefixTuning, PromptTuning, BitFit,
        Density,
        Prompt, Pattern,
        Chain,
        Unchanged,
    )
}  # fmt: skip

__all__ = [
    "METHODS",
    "HeadRequest",
    "Method",
    "Opening",
    "Records",
    "Shares",
    "Surroundings",
    "Validation",
    "get_method",
]


def get_method(settings: MethodSettings) -> Method:
    """The method that `method` in `params.yaml` describes.

    Raises `SettingsError` where it cannot be stored as is asked for.
    """
    method = METHODS[settings.name](settings)
    if settings.store == "adapter" and not method.stores_adapter:
        raise SettingsError(
            f"`method.store` adapter says nothing to `method.name` {settings.name}, which moves weights of "
            "the network itself; set it to merged, or choose a parameter-efficient method."
        )
    return method

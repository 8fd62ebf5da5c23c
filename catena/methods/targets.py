"""Which layers of a network are adapted, and what of it is the head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from catena.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from catena.settings.peft import PeftSettings

Part = Literal["attention", "all_linear", "outputs", "scaled"]

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
#: What transformers' networks call the layers that keys and values come out of; the last ones give both.
_KEYS_VALUES = frozenset((
    "key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "k", "v", "key_proj", "value_proj",
    "c_attn", "Wqkv", "query_key_value", "qkv_proj", "in_proj", "qkv",
))  # fmt: skip
#: What they call the layers that attention and feed-forward part end in.
_OUTPUTS = frozenset((
    "out_proj", "o_proj", "out_lin", "o", "c_proj", "Wo", "wo", "fc2", "lin2", "down_proj",
    "dense_4h_to_h", "w2",
))  # fmt: skip


def chosen_layers(model: PreTrainedModel, settings: PeftSettings, default: Part) -> dict[str, nn.Module]:
    """The layers that `method.peft.targets` describes, by their names in `model`; the head is none of them.

    Linear layers, or convolutions of a network that has no linear ones below its head. Raises
    `SettingsError` where nothing is found.
    """
    layers = body_layers(model)
    given = settings.targets
    if given is not None and not isinstance(given, str):
        return _named(layers, given)
    part = given or default
    found = {name: layer for name, layer in layers.items() if _is_part(name, part)}
    if found:
        return found
    # convolutional networks have no attention and no feed-forward part: all their layers are alike
    if layers and not any(_is_linear(layer) for layer in layers.values()):
        return layers
    what = "layers that this method adapts by itself" if given is None else f"{given} layers to adapt"
    raise SettingsError(
        f"The backbone ({kind_of(model)}) has no {what}; name some in `method.peft.targets`"
        f"{_examples(layers)}, or choose another method."
        if layers
        else f"The backbone ({kind_of(model)}) has no linear or convolutional layers below its head, so this "
        "method does not fit it; choose full or top_layers."
    )


def _named(layers: Mapping[str, nn.Module], wanted: Iterable[str]) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for ending in wanted:
        matches = {name: layer for name, layer in layers.items() if f".{name}".endswith(f".{ending}")}
        if not matches:
            raise SettingsError(
                f"`method.peft.targets` names {ending!r}, but no layer of the backbone is called so or ends "
                f"in it{_examples(layers)}."
            )
        found |= matches
    return {name: layer for name, layer in layers.items() if name in found}


def _is_part(name: str, part: Part) -> bool:
    path, _, last = f".{name}".rpartition(".")
    inside = bool(_ATTENTION.search(path)) or last in ("c_attn", "Wqkv", "query_key_value", "qkv_proj")
    if part == "all_linear":
        return True
    if part == "attention":
        return inside
    if part == "outputs":
        return is_output(name)
    return (inside and last in _KEYS_VALUES) or is_feed_forward(name)


def is_output(name: str) -> bool:
    """Whether attention or feed-forward part end in the layer called so."""
    return name.rpartition(".")[2] in _OUTPUTS or name.endswith("output.dense")


def is_feed_forward(name: str) -> bool:
    """Whether a feed-forward part ends in the layer called so."""
    return is_output(name) and not _ATTENTION.search(name.rpartition(".")[0])


def _examples(layers: Iterable[str]) -> str:
    names = list(dict.fromkeys(re.sub(r"^.*\.(?=[^.]*[^.\d][^.]*\.?)", "", name) for name in layers))
    return f" (there are {', '.join(names[:8])})" if names else ""


def body_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Linear and convolutional layers below the head, in their order, without embeddings of images."""
    from torch import nn

    body = model.base_model
    pooler = getattr(body, "pooler", None)
    of_head = set(pooler.modules()) if pooler is not None else set()
    of_body = set(body.modules()) - of_head
    layers = {
        name: module
        for name, module in model.named_modules()
        if module in of_body and (_is_linear(module) or isinstance(module, nn.Conv1d | nn.Conv2d))
    }
    linear = {name: layer for name, layer in layers.items() if _is_linear(layer)}
    return linear or layers


def _is_linear(layer: nn.Module) -> bool:
    from torch import nn

    return isinstance(layer, nn.Linear) or is_transposed(layer)


def is_transposed(layer: nn.Module) -> bool:
    """Whether it is GPT-2's form of a linear layer, whose weights lie the other way round."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def sizes(layer: nn.Module) -> tuple[int, int]:
    """How many values a layer reads and gives, at each place."""
    weight: Any = layer.weight
    if is_transposed(layer):
        read, given = weight.shape
        return int(read), int(given)
    return int(weight.shape[1:].numel()), int(weight.shape[0])


def head_weights(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The weights of the head, a pooler included. What a language model writes with is none."""
    body = model.base_model
    pooler = getattr(body, "pooler", None)
    output = model.get_output_embeddings()
    others = {id(weight) for weight in body.parameters()}
    others -= {id(weight) for weight in pooler.parameters()} if pooler is not None else set()
    others |= {id(weight) for weight in output.parameters()} if output is not None else set()
    return {name: weight for name, weight in model.named_parameters() if id(weight) not in others}


def kind_of(model: PreTrainedModel) -> str:
    """What transformers calls this kind of network."""
    return str(getattr(model.config, "model_type", "") or type(model).__name__)

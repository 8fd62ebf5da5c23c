"""Networks with parts cut out or weights in eight bits: how they are made, and how they are read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from catena.backbones.int8 import Int8Embedding, Int8Linear
from catena.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

#: Key in `config.json` by which a stored network of this kind is known: `heads` (how many each layer has
#: left, where some were cut out) and `int8`.
MARK = "catena_smaller"

#: Lists in configurations that have an entry for each layer.
_BY_LAYER = ("layer_types", "mlp_layer_types")
#: Names of an attention's three projections, of its output's, and of the module that they are in, as
#: BERT's kin and DistilBERT have them.
_ATTENTIONS = (
    (("self.query", "self.key", "self.value"), "output.dense", "self"),
    (("q_lin", "k_lin", "v_lin"), "out_lin", ""),
)


class Attention:
    """One layer's attention, seen as heads that can be cut out."""

    def __init__(self, module: nn.Module, names: tuple[tuple[str, ...], str, str], size: int) -> None:
        self.module = module
        self.names, self.output_name, inner = names
        self.inner = module.get_submodule(inner) if inner else module
        self.size = size  # of one head

    @property
    def inputs(self) -> list[nn.Linear]:
        """Query, key and value."""
        return [self.module.get_submodule(name) for name in self.names]  # type: ignore[misc]

    @property
    def output(self) -> nn.Linear:
        return self.module.get_submodule(self.output_name)  # type: ignore[return-value]

    @property
    def heads(self) -> int:
        return int(self.inputs[0].out_features) // self.size

    def keep(self, heads: Sequence[int]) -> None:
        """Cut out all other heads: the matrices get smaller."""
        rows = torch.cat([torch.arange(head * self.size, (head + 1) * self.size) for head in heads])
        for name, layer in zip(self.names, self.inputs, strict=True):
            _replace(self.module, name, _slice(layer, rows, 0))
        _replace(self.module, self.output_name, _slice(self.output, rows, 1))
        for name, value in (
            ("num_attention_heads", len(heads)), ("n_heads", len(heads)),
            ("all_head_size", len(rows)), ("dim", len(rows)),
        ):  # fmt: skip
            if hasattr(self.inner, name):
                setattr(self.inner, name, value)


def layer_stack(model: PreTrainedModel) -> nn.ModuleList:
    """The network's layers, bottom first. Raises `SettingsError` where it has no single stack of them."""
    count = getattr(model.config, "num_hidden_layers", None)
    if not getattr(model.config, "is_encoder_decoder", False):
        body = getattr(model, "base_model", model)
        for module in body.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                if any(isinstance(layer, nn.RNNBase) for layer in module):
                    break  # the first reads embeddings of another width, so the others cannot replace it
                return module
    raise SettingsError(
        f"The network ({model.config.model_type}) has no single stack of equal layers, so none can be cut "
        "out; leave `prune_layers` and `keep_layers` out."
    )


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Cut out all layers but `layers`, counted from 0. Raises `SettingsError` for layers there are not."""
    stack = layer_stack(model)
    if not layers:
        raise SettingsError(f"All {len(stack)} layers would be cut out; at least one must stay.")
    if max(layers) >= len(stack):
        raise SettingsError(
            f"Layer {max(layers) + 1} is to be kept, but the network has only {len(stack)} layers."
        )
    kept = [stack[number] for number in layers]
    del stack[:]
    stack.extend(kept)
    _number(kept)
    config = model.config
    for name in _BY_LAYER:
        if isinstance(getattr(config, name, None), list | tuple):
            kinds = getattr(config, name)
            setattr(config, name, [kinds[number] for number in layers])
    marks = dict(getattr(config, MARK, None) or {})
    if "heads" in marks:
        setattr(config, MARK, marks | {"heads": [marks["heads"][number] for number in layers]})
    config.num_hidden_layers = len(layers)


@contextmanager
def without_others(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[None]:
    """The network with only `layers` for the block; afterwards it is as it was."""
    stack, config = layer_stack(model), model.config
    whole = list(stack)
    names = ("num_hidden_layers", MARK, *_BY_LAYER)
    before = {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
    try:
        keep_layers(model, layers)
        yield
    finally:
        del stack[:]
        stack.extend(whole)
        _number(whole)
        for name, value in before.items():
            setattr(config, name, value)


def _number(layers: Sequence[nn.Module]) -> None:
    """Tell layers their places, by which they keep keys and values while texts are written."""
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                setattr(module, "layer_idx", number)  # noqa: B010 - not every module has one


def attentions(model: PreTrainedModel) -> list[Attention]:
    """Each layer's attention. Raises `SettingsError` where its heads cannot be told apart."""
    found = []
    size = int(model.config.hidden_size) // int(getattr(model.config, "num_attention_heads", None) or 1)
    for layer in layer_stack(model):
        inside = dict(layer.named_modules())
        for names in _ATTENTIONS:
            at = [
                name
                for name, module in inside.items()
                if all(_linear(module, each) for each in (*names[0], names[1]))
            ]
            if len(at) == 1:
                found.append(Attention(inside[at[0]], names, size))
                break
        else:
            raise SettingsError(
                f"The heads of this network ({model.config.model_type}) cannot be cut out, because its "
                "attention is built otherwise than BERT's; leave `prune_heads` at 0."
            )
    return found


def keep_heads(model: PreTrainedModel, heads: Sequence[Sequence[int]]) -> None:
    """Keep of each layer the `heads` named, counted from 0. Raises `SettingsError` where none is named."""
    parts = attentions(model)
    for number, kept in enumerate(heads, 1):
        if not kept:
            raise SettingsError(f"All heads of layer {number} would be cut out; at least one must stay.")
    for part, kept in zip(parts, heads, strict=True):
        part.keep(sorted(kept))
    marks = dict(getattr(model.config, MARK, None) or {})
    setattr(model.config, MARK, marks | {"heads": [part.heads for part in parts]})


def is_int8(model: PreTrainedModel) -> bool:
    """Whether the network's weights are in eight bits already."""
    return any(isinstance(module, Int8Linear | Int8Embedding) for module in model.modules())


def count_weights(model: PreTrainedModel) -> int:
    """How many numbers the network has learned; tied ones count once, scales of eight-bit ones not."""
    layers = [module for module in model.modules() if isinstance(module, Int8Linear | Int8Embedding)]
    rounded = [tensor for layer in layers for name, tensor in layer.named_buffers() if name != "scale"]
    return sum(weight.numel() for weight in (*model.parameters(), *rounded))


def to_int8(model: PreTrainedModel) -> None:
    """Round the weights of linear layers and embeddings to eight bits.

    Embeddings whose weights are the output's too stay as they are, and so does that output. Raises
    `ModelError` where this was done before, or nothing can be rounded.
    """
    if is_int8(model):
        raise ModelError("The weights of this model are in eight bits already; begin with the model before.")
    if not _round(model, Int8Linear.of, Int8Embedding.of):
        raise ModelError("This network has neither linear layers nor embeddings that could be in eight bits.")
    setattr(model.config, MARK, {**(getattr(model.config, MARK, None) or {}), "int8": True})


def read_smaller(
    folder: Path, config: PretrainedConfig, make: Callable[[PretrainedConfig], PreTrainedModel]
) -> PreTrainedModel:
    """The network in `folder`, made by `make` from its configuration and then cut and rounded like it.

    Raises `ModelError` where weights and configuration do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    marks: Mapping[str, Any] = getattr(config, MARK)
    model = make(config)
    try:
        if counts := marks.get("heads"):
            keep_heads(model, [range(count) for count in counts])
        if marks.get("int8"):
            _round(
                model,
                lambda layer: Int8Linear(layer.in_features, layer.out_features, layer.bias is not None),
                lambda layer: Int8Embedding(layer.num_embeddings, layer.embedding_dim),
            )
        found = load_file(folder / "model.safetensors")
        missing, unexpected = model.load_state_dict(found, strict=False)
        model.tie_weights()
    except (OSError, ValueError, RuntimeError, IndexError, SafetensorError, SettingsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"The weights in {folder} cannot be read: {reason}") from error
    tied = _tied(model)
    if wrong := [*unexpected, *(name for name in missing if name not in tied)]:
        raise ModelError(f"The weights in {folder} do not fit its config.json: {wrong[0]} is amiss.")
    return model


def _round(
    model: PreTrainedModel,
    linear: Callable[[nn.Linear], nn.Module],
    embedding: Callable[[nn.Embedding], nn.Module],
) -> int:
    """Replace what can be rounded; returns how many layers that were."""
    tied = _tied(model)
    chosen = []
    for name, module in model.named_modules():
        if f"{name}.weight" in tied:
            continue
        # exactly these: PyTorch's own attention has a subclass whose weights it reads past `forward`
        if type(module) is nn.Linear:
            chosen.append((name, linear(module)))
        elif type(module) is nn.Embedding:
            chosen.append((name, embedding(module)))
    for name, made in chosen:
        _replace(model, name, made)
    return len(chosen)


def _tied(model: nn.Module) -> set[str]:
    """Names of weights that are another's too."""
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}


def _linear(module: nn.Module, name: str) -> bool:
    try:
        return isinstance(module.get_submodule(name), nn.Linear)
    except AttributeError:
        return False


def _slice(layer: nn.Linear, kept: torch.Tensor, dim: int) -> nn.Linear:
    """A linear layer with only some of its outputs (`dim` 0) or inputs (1)."""
    kept = kept.to(layer.weight.device)
    weight = layer.weight.detach().index_select(dim, kept).clone()
    smaller = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device="meta")
    smaller.weight = nn.Parameter(weight, layer.weight.requires_grad)
    if layer.bias is not None:
        bias = layer.bias.detach()
        bias = (bias.index_select(0, kept) if dim == 0 else bias).clone()
        smaller.bias = nn.Parameter(bias, layer.bias.requires_grad)
    return smaller


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    place = model.get_submodule(parent)
    module.train(place.training)
    setattr(place, own, module)

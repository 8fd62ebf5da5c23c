"""A network by depth: its head, its layers from the top, and what lies below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def stack(body: nn.Module) -> list[nn.Module]:
    """The layers of a network that stand one above the other, bottom first; none where they do not.

    They are its longest `ModuleList` that lies in no other, so a layer that holds blocks is one layer.
    """
    from torch import nn

    if not getattr(body, "stacked", True):
        return []
    inner: set[int] = set()
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and id(module) not in inner:
            inner.update(id(below) for below in module.modules() if below is not module)
    stacks = [
        list(module)
        for module in body.modules()
        if isinstance(module, nn.ModuleList) and id(module) not in inner
    ]
    return max(stacks, key=len, default=[])


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The backbone's layers, bottom first; of an encoder with a decoder the decoder's."""
    return stack(_bodies(model)[-1])


def levels(model: PreTrainedModel) -> list[list[str]]:
    """The names of all weights that move, level by level: the head, the layers from the top, the rest.

    A pooler between the last layer and the head belongs to the head, a norm after the last layer to that
    layer. Both sides of an encoder with a decoder are counted from their own top. Levels without weights
    are left out. Raises `SettingsError` where the network has no layers one above the other.
    """
    bodies = _bodies(model)
    stacks = [stack(body) for body in bodies]
    if not any(stacks):
        raise SettingsError(
            "This network has no layers one above the other; use the method `full` without "
            "`method.layer_decay`, or `top_layers` with the head alone."
        )
    bottom = 1 + max(map(len, stacks))
    level = {id(weight): bottom for weight in model.base_model.parameters()}
    for body, found in zip(bodies, stacks, strict=True):
        for above in _norms_above(body, found):
            level |= {id(weight): 1 for weight in above.parameters()}
        for number, layer in enumerate(reversed(found), start=1):
            level |= {id(weight): number for weight in layer.parameters()}
    if (pooler := getattr(model.base_model, "pooler", None)) is not None:
        level |= {id(weight): 0 for weight in pooler.parameters()}
    names: list[list[str]] = [[] for _ in range(bottom + 1)]
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            names[level.get(id(weight), 0)].append(name)
    return [some for some in names if some]


def decayed(model: PreTrainedModel, decay: float) -> dict[str, float]:
    """Factors on the learning rate: 1 for the highest level that moves, `decay` times less for each below.

    Howard and Ruder 2018 (ULMFiT, arXiv 1801.06146) call them discriminative rates; Sun et al. 2019
    (arXiv 1905.05583) found them to keep BERT from forgetting.
    """
    if decay == 1.0:
        return {}
    return {name: decay**depth for depth, names in enumerate(levels(model)) for name in names}


def moving_units(model: PreTrainedModel) -> list[nn.Module] | None:
    """The layers and other parts of a backbone that move, or nothing where all of it does."""
    body = model.base_model
    if all(weight.requires_grad for weight in body.parameters()):
        return None
    whole = {id(layer) for one in _bodies(model) for layer in stack(one)}
    units: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        if not any(weight.requires_grad for weight in module.parameters()):
            return
        own = any(weight.requires_grad for weight in module.parameters(recurse=False))
        if own or id(module) in whole:
            units.append(module)
            return
        for child in module.children():
            walk(child)

    if (pooler := getattr(body, "pooler", None)) is not None:
        whole.add(id(pooler))
    walk(body)
    return units


def rest(model: PreTrainedModel, units: list[nn.Module] | None) -> None:
    """Let the frozen part of a backbone run as in prediction, so without dropout, while `units` train.

    Noise in what cannot adapt to it is of no use, and without it a record's outputs are always the same.
    """
    if units is not None:
        model.base_model.eval()
        for unit in units:
            unit.train()


def _bodies(model: PreTrainedModel) -> list[nn.Module]:
    """The backbone's own networks, one or an encoder and a decoder."""
    if model.config.is_encoder_decoder:
        return [model.get_encoder(), model.get_decoder()]
    return [model.base_model]


def _norms_above(body: nn.Module, found: list[nn.Module]) -> list[nn.Module]:
    """Norms of the last layer's outputs: those the body declares after its layers."""
    if not found:
        return []
    top, above, after = {id(module) for module in found}, [], False
    for name, child in body.named_children():
        if after and "norm" in type(child).__name__.lower() and "emb" not in name:
            above.append(child)
        after = after or any(id(module) in top for module in child.modules())
    return above

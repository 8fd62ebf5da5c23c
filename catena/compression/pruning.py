"""Which heads and layers matter least, and a network without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from catena.backbones.smaller import attentions, keep_heads, keep_layers, layer_stack, without_others
from catena.compression.sample import Sample
from catena.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.settings import CompressionSettings


def prune(model: PreTrainedModel, settings: CompressionSettings, sample: Sample | None) -> list[str]:
    """Cut layers, then heads out of `model` in place; one sentence for each kind says what went.

    `sample` may be missing where nothing is measured. Raises `SettingsError` where nothing would be left,
    or the network is not built of such parts.
    """
    notes = []
    model.eval()
    if settings.prune_layers:
        total = len(layer_stack(model))
        kept = layers_to_keep(model, settings, sample)
        keep_layers(model, kept)
        gone = ", ".join(str(layer + 1) for layer in range(total) if layer not in kept)
        notes.append(f"layers cut out: {gone} of {total} ({settings.choose_layers})")
    if settings.prune_heads:
        heads = heads_to_keep(model, settings, sample)
        total = sum(part.heads for part in attentions(model))
        keep_heads(model, heads)
        left = [len(kept) for kept in heads]
        notes.append(
            f"heads cut out: {total - sum(left)} of {total} ({settings.head_importance}); left in each "
            f"layer: {', '.join(map(str, left))}"
        )
    return notes


def layers_to_keep(model: PreTrainedModel, settings: CompressionSettings, sample: Sample | None) -> list[int]:
    """The layers that stay, counted from 0, bottom first."""
    total, count = len(layer_stack(model)), settings.prune_layers
    if count >= total:
        raise SettingsError(
            f"`prune_layers` is {count}, but the network has only {total} layers, of which one must stay."
        )
    if settings.choose_layers == "top":
        return list(range(total - count))
    if settings.choose_layers == "magnitude":
        going = np.argsort(layer_magnitudes(model), kind="stable")[:count].tolist()
        return [layer for layer in range(total) if layer not in going]
    if settings.choose_layers == "alternate":
        # evenly spread, the first and (of several) the last among them, as DistilBERT was begun
        places = np.linspace(0, total - 1, total - count) if total - count > 1 else [0]
        return [round(float(place)) for place in places]
    return _greedily(model, count, _needed(sample, "`choose_layers` measured"))


def layer_magnitudes(model: PreTrainedModel) -> np.ndarray:
    """The sum of absolute weights in each layer's matrices `(layers,)` (Kim et al., arXiv 2402.02834)."""
    return np.array(
        [
            sum(float(weight.detach().abs().sum()) for weight in layer.parameters() if weight.ndim > 1)
            for layer in layer_stack(model)
        ]
    )


def _greedily(model: PreTrainedModel, count: int, sample: Sample) -> list[int]:
    """One layer after the other, each time the one without which the loss is smallest."""
    stack = layer_stack(model)
    kept = list(range(len(stack)))
    for _ in range(count):
        losses = {
            layer: _loss_without(model, sample, [each for each in kept if each != layer]) for layer in kept
        }
        kept.remove(min(losses, key=lambda layer: (losses[layer], -layer)))
    return kept


def _loss_without(model: PreTrainedModel, sample: Sample, kept: Sequence[int]) -> float:
    """The loss with only the layers `kept`; the network is left as it was."""
    with without_others(model, kept):
        return sample.loss(model)


def heads_to_keep(
    model: PreTrainedModel, settings: CompressionSettings, sample: Sample | None
) -> list[list[int]]:
    """For each layer the heads that stay: all but the least important of the whole network.

    A layer keeps at least its most important one.
    """
    if settings.head_importance == "magnitude":
        importance = head_magnitudes(model)
    else:
        importance = head_sensitivities(model, _needed(sample, "`head_importance` sensitivity"))
    total = sum(map(len, importance))
    going = round(settings.prune_heads * total)
    spared = {(layer, int(np.argmax(values))) for layer, values in enumerate(importance)}
    order = sorted(
        (float(value), layer, head)
        for layer, values in enumerate(importance)
        for head, value in enumerate(values)
        if (layer, head) not in spared
    )
    gone = {(layer, head) for _, layer, head in order[:going]}
    return [
        [head for head in range(len(values)) if (layer, head) not in gone]
        for layer, values in enumerate(importance)
    ]


def head_magnitudes(model: PreTrainedModel) -> list[np.ndarray]:
    """Of each head in each layer the norm of its weights in the output projection, by the layer's norm."""
    found = []
    for part in attentions(model):
        weight = part.output.weight.detach().float()
        norms = weight.view(weight.shape[0], part.heads, part.size).norm(dim=(0, 2)).cpu().numpy()
        found.append(norms / max(float(np.linalg.norm(norms)), 1e-12))
    return found


def head_sensitivities(model: PreTrainedModel, sample: Sample) -> list[np.ndarray]:
    """How much the loss would change without each head, to first order; by the layer's norm.

    The mean over records of |∂L/∂ξ|, where ξ = 1 multiplies the head's output (Michel et al. 2019, arXiv
    1905.10650, equation 2; the norm after Molchanov et al. 2017).
    """
    parts = attentions(model)
    seen: dict[int, torch.Tensor] = {}

    def watch(number: int) -> object:
        def before(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            inputs, *rest = arguments
            if not inputs.requires_grad:
                inputs = inputs.detach().requires_grad_(True)
            inputs.retain_grad()
            seen[number] = inputs
            return (inputs, *rest)

        return parts[number].output.register_forward_pre_hook(before)

    handles = [watch(number) for number in range(len(parts))]
    sums = [np.zeros(part.heads) for part in parts]
    records = 0
    try:
        with torch.enable_grad():
            for batch, loss in zip(sample.batches, sample.losses(model), strict=True):
                size = len(batch["labels"])
                # the mean over the batch becomes the sum, so that each record has its own derivative
                (loss() * sample.problem.weight(batch["labels"])).backward()  # type: ignore[no-untyped-call]
                for number, part in enumerate(parts):
                    inputs, gradient = seen[number].detach(), seen[number].grad
                    if gradient is None:
                        raise AssertionError("a layer's heads did not take part in the loss")
                    shares = (inputs * gradient).float().view(size, -1, part.heads, part.size)
                    sums[number] += shares.sum(dim=(1, 3)).abs().sum(0).cpu().numpy()
                records += size
                model.zero_grad(set_to_none=True)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    means = [values / max(records, 1) for values in sums]
    return [values / max(float(np.linalg.norm(values)), 1e-12) for values in means]


def _needed(sample: Sample | None, what: str) -> Sample:
    if sample is None:
        raise SettingsError(
            f"{what} needs labelled records to measure on; name a file of them, or choose another way."
        )
    return sample

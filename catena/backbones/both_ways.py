"""Causal language models in which the tokens of the upper layers see those after them as well.

BehnamGhader et al. 2024 (arXiv 2404.05961) make text encoders of language models in this way, Dukić and
Šnajder 2024 (arXiv 2401.14556) taggers; the latter find that it depends on the layers. The lower ones go on
doing what they were pretrained for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from catena.backbones.pretrained import LANGUAGE, WRITERS, reads_forwards
from catena.backbones.smaller import layer_stack
from catena.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

    from catena.backbones.base import Head

#: Key in `config.json` that says of how many layers, from the top, the tokens see all others.
MARK = "catena_both_ways"


def ask(folder: Path, config: PretrainedConfig, head: Head, layers: bool | int) -> None:
    """Write into the configuration of a causal network how many `layers`, or all, are to be opened.

    Raises `ModelError` where that makes no sense.
    """
    if head.kind in (*WRITERS, LANGUAGE, "masked-language-model"):
        raise ModelError(
            "`backbone.bidirectional` lets each token see the next ones, and here the network is asked what "
            "comes next; leave it out."
        )
    if not reads_forwards(config):
        raise ModelError(
            f"The network in {folder} ({config.model_type}) is no causal language model, so "
            "`backbone.bidirectional` changes nothing; leave it out."
        )
    setattr(config, MARK, layers)


def open_layers(network: PreTrainedModel) -> None:
    """Let tokens see all others in as many layers as the configuration asks for. Raises `ModelError`."""
    asked = getattr(network.config, MARK, None)
    if not asked:
        return
    try:
        found = list(layer_stack(network))
    except SettingsError as error:
        raise ModelError(
            f"The network ({network.config.model_type}) has no layers one above the other, so "
            "`backbone.bidirectional` cannot open them; leave it out."
        ) from error
    count = len(found) if asked is True else int(asked)
    if count > len(found):
        raise ModelError(
            f"`backbone.bidirectional` asks for {count} layers, and the network has {len(found)}."
        )
    for layer in found[len(found) - count :]:
        layer.register_forward_pre_hook(_see_all, with_kwargs=True)
        for module in layer.modules():
            if hasattr(module, "is_causal"):
                # where there is no padding, kernels go by this and have no mask
                setattr(module, "is_causal", False)  # noqa: B010  (typed as a module's parts)


def _see_all(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The layer's inputs with a mask in which everything is seen that any token sees `(…, queries, keys)`."""
    import torch

    mask = kwargs.get("attention_mask")
    if mask is None or mask.dim() < 4:  # of keys alone
        return args, kwargs
    seen = mask.any(-2, keepdim=True) if mask.dtype is torch.bool else mask.amax(-2, keepdim=True)
    return args, {**kwargs, "attention_mask": seen.expand_as(mask)}


def check(folder: Path, network: PreTrainedModel) -> None:
    """Raise `ModelError` where the first token does not see the last one: some networks cannot."""
    import torch

    training = network.training
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    with torch.inference_mode():
        network.eval()
        outputs = network.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    network.train(training)
    if torch.equal(outputs[0, 0], outputs[1, 0]):
        raise ModelError(
            f"The network in {folder} ({network.config.model_type}) can only read forwards, so "
            "`backbone.bidirectional` changes nothing; leave it out."
        )

"""Encoders that were pretrained with two segments, told which text of a pair each token belongs to.

BERT reads a pair as `[CLS] first [SEP] second [SEP]` and adds a vector to each token by its segment, 0 or 1
(Devlin et al. 2019, arXiv 1810.04805); so do checkpoints that were fine-tuned on pairs. What segment a token
is in follows from where the separator stands, so the network works it out of the token ids by itself, and
nothing else needs to carry it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Key in `config.json` of a network that tells texts apart; its value is the separator's token id.
MARK = "catena_separator"


def ask(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Write into the configuration that texts are told apart, where network and tokenizer know segments.

    Without a tokenizer they are not, whatever the network that one begins with did.
    """
    if hasattr(config, MARK):
        delattr(config, MARK)
    separator = tokenizer.sep_token_id if tokenizer is not None else None
    if tokenizer is None or separator is None or getattr(config, "type_vocab_size", 0) < 2:
        return
    found = tokenizer(["a"], ["b"]).encodings[0]
    before = [found.ids[:place].count(separator) for place in range(len(found.ids))]
    if found.type_ids == [min(count, 1) for count in before] and 1 in found.type_ids:
        setattr(config, MARK, int(separator))


def segment_ids(config: PretrainedConfig, input_ids: torch.Tensor) -> torch.Tensor | None:
    """0 up to the first separator and 1 after it, for token ids `(batch, length)`; None where not told."""
    separator = getattr(config, MARK, None)
    if separator is None:
        return None
    here = (input_ids == separator).long()
    told: torch.Tensor = (here.cumsum(1) - here).clamp(max=1)
    return told


def tell_apart(network: PreTrainedModel) -> None:
    """Let the network's body tell texts apart in token ids, where its configuration asks for it."""
    body = network.base_model
    if getattr(network.config, MARK, None) is None:
        return
    names = tuple(inspect.signature(body.forward).parameters)

    def told(body: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        inputs = dict(zip(names, given, strict=False)) | named
        if inputs.get("input_ids") is not None and inputs.get("token_type_ids") is None:
            inputs["token_type_ids"] = segment_ids(network.config, inputs["input_ids"])
        return (), inputs

    body.register_forward_pre_hook(told, with_kwargs=True)

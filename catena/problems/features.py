"""Texts as features, and features as padded tensors: what most problems share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.settings import TokenizationSettings


def encode_texts(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenizationSettings,
    pairs: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """`input_ids`, cut to `settings.max_length`, and `n_tokens`, their number before that.

    With `pairs`, each text is followed by its partner; what is too long is cut off the longer one.
    """
    second = [] if pairs is None else [list(pairs)]
    input_ids = tokenizer(list(texts), *second, return_attention_mask=False)["input_ids"] if texts else []
    n_tokens = [len(ids) for ids in input_ids]
    # tokenized once more only where something is cut off, so that its length before is known
    long = [row for row, length in enumerate(n_tokens) if length > settings.max_length]
    if long:
        tokenizer.truncation_side = settings.truncation_side
        chosen = [[column[row] for row in long] for column in (texts, *second)]
        cut = tokenizer(*chosen, truncation=True, max_length=settings.max_length)
        for row, ids in zip(long, cut["input_ids"], strict=True):
            input_ids[row] = ids
    return {"input_ids": input_ids, "n_tokens": n_tokens}


def pad_inputs(
    features: Sequence[Mapping[str, Any]],
    pad_token_id: int,
    pad_to: int = 8,
    others: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` `(batch, length)`, the length a multiple of `pad_to`.

    `others` names features of one number a token that the records may have, too, and what fills them up.
    """
    import torch

    longest = max(len(feature["input_ids"]) for feature in features)
    length = max(-(-longest // pad_to), 1) * pad_to

    def padded(rows: Sequence[Any], filling: int) -> torch.Tensor:
        values = np.full((len(rows), length), filling, dtype=np.int64)
        for row, numbers in enumerate(rows):
            values[row, : len(numbers)] = numbers
        return torch.from_numpy(values)

    ids = [feature["input_ids"] for feature in features]
    ones = [np.ones(len(one)) for one in ids]
    batch = {"input_ids": padded(ids, pad_token_id), "attention_mask": padded(ones, 0)}
    for name, filling in (others or {}).items():
        if name in features[0]:
            batch[name] = padded([feature[name] for feature in features], filling)
    return batch

"""Keys and values that every attention sees before those of the text, in any network of transformers.

transformers' networks compute attention by a function of a registry that their configuration names. The
functions here are two more of it. They put a module's own prefix before its keys and values, so that
positions, caches and outputs of the network stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.masking_utils import eager_mask

from catena.errors import SettingsError

#: Keys and values `(heads, places, width)`.
Pair = tuple[torch.Tensor, torch.Tensor]

#: Kernels by the names under which a configuration asks for them.
_NAMES = {"eager": "catena_prefix_eager", "sdpa": "catena_prefix_sdpa"}
#: Attribute of an attention module: a function that gives its prefix.
_PREFIX = "catena_prefix"
#: Where keys and values are noted in place of being preceded; `None` otherwise.
_notes: dict[nn.Module, Pair] | None = None


def take_over(model: nn.Module) -> None:
    """Let every attention of `model` that asks transformers' registry look for a prefix."""
    for name, kernel in ((_NAMES["eager"], _eager), (_NAMES["sdpa"], _sdpa)):
        AttentionInterface.register(name, kernel)
        # An explicit mask for both: what stands before the text is to be seen from everywhere.
        AttentionMaskInterface.register(name, eager_mask)
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig) and config._attn_implementation in _NAMES:
            config._attn_implementation = _NAMES[config._attn_implementation]


def set_prefix(module: nn.Module, prefix: Callable[[], Pair] | None) -> None:
    """What stands before the keys and values of an attention module from now on."""
    object.__setattr__(module, _PREFIX, prefix)


@contextmanager
def noting() -> Iterator[dict[nn.Module, Pair]]:
    """Within the block no prefix is used; keys and values `(batch, heads, places, width)` are noted."""
    global _notes
    before, _notes = _notes, {}
    try:
        yield _notes
    finally:
        _notes = before


def _eager(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention `(batch, places, heads, width)` and its weights; as transformers' own eager kernel."""
    key, value, attention_mask = _preceded(module, query, key, value, attention_mask, others)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def _sdpa(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    key, value, attention_mask = _preceded(module, query, key, value, attention_mask, others)
    mask = attention_mask.to(query.dtype) if attention_mask is not None else None
    output = functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    return output.transpose(1, 2).contiguous(), None


def _preceded(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    others: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Keys, values and mask with the module's prefix, and as many heads of keys as of queries."""
    for unknown in ("softcap", "s_aux", "position_bias"):
        if others.get(unknown) is not None:
            raise SettingsError(
                f"A prefix does not fit an attention with {unknown}, as the backbone's is; choose lora."
            )
    if mask is not None:
        mask = mask[..., : key.shape[2]]
    if _notes is not None:
        _notes[module] = key, value
    elif (prefix := getattr(module, _PREFIX, None)) is not None:
        keys, values = (part.to(key).unsqueeze(0).expand(len(key), -1, -1, -1) for part in prefix())
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        if mask is not None:
            mask = functional.pad(mask, (keys.shape[2], 0))
    if (times := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    return key, value, mask

"""The trainable parts of a chain: links between the backbone's layers, and tails on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from catena.transitions import with_transitions

if TYPE_CHECKING:
    from catena.settings import LinkSettings

#: Ways of writing a word (or other hints about tokens) that a tail can be told.
_SHAPES = 8
#: Tokens that a tail over tokens with a hidden layer sees at once.
_NEIGHBOURS = 3
#: Kinds of heads over tokens; the second also learns scores of one label after another.
_TOKENS, _TRANSITIONS = "token-classification", "token-chain"


class Link(nn.Module):
    """A module that adds to the output of a layer; nothing, before it is trained.

    It works on `(batch, places, width)`; `mask` `(batch, places)` is 1 where there is a token, and absent
    where all places are real.
    """

    def __init__(self, width: int, settings: LinkSettings) -> None:
        super().__init__()
        self.kind = settings.kind
        size = width if self.kind == "linear" else settings.size
        biased = self.kind != "lora"
        if self.kind in ("bottleneck", "attention"):
            self.norm = nn.LayerNorm(width)
        if self.kind == "attention":
            self.read = nn.Linear(width, 3 * size)
        elif self.kind != "linear":
            self.read = nn.Linear(width, size, bias=biased)
        self.write = nn.Linear(size, width, bias=biased)
        nn.init.zeros_(self.write.weight)
        if biased:
            nn.init.zeros_(self.write.bias)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        inner = hidden
        if self.kind == "attention":
            queries, keys, values = self.read(self.norm(hidden)).chunk(3, dim=-1)
            seen = None if mask is None else mask.bool()[:, None, :]
            inner = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        elif self.kind == "bottleneck":
            inner = functional.gelu(self.read(self.norm(hidden)))
        elif self.kind == "lora":
            inner = self.read(hidden)
        added: torch.Tensor = self.write(inner)
        return hidden + added


class Tail(nn.Module):
    """What turns the backbone's outputs into one task's logits.

    One vector for each record (the mean over its tokens, the first token's or the last's), or one for each
    token; dropout; where `size` is given a hidden layer, which sees a token with its two neighbours; and a
    linear layer. Where tokens are told how their words are written, a vector for that, zero at first, is
    added: in a chain the backbone reads the same for all tails, so that only a tail can be told.
    """

    def __init__(
        self, width: int, kind: str, labels: int, *, size: int, pooling: str, dropout: float
    ) -> None:
        super().__init__()
        self.tokens = kind in (_TOKENS, _TRANSITIONS)
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.shapes = nn.Embedding(_SHAPES, width) if self.tokens else None
        self.hidden: nn.Module | None = None
        if size and self.tokens:
            self.hidden = nn.Conv1d(width, size, _NEIGHBOURS, padding=_NEIGHBOURS // 2)
        elif size:
            self.hidden = nn.Linear(width, size)
        self.classifier = nn.Linear(size or width, labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.transitions: nn.Parameter | None = None
        if kind == _TRANSITIONS:
            self.transitions = nn.Parameter(torch.zeros(labels, labels))
        if self.shapes is not None:
            nn.init.zeros_(self.shapes.weight)

    def forward(
        self,
        outputs: torch.Tensor,
        mask: torch.Tensor | None = None,
        shape_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits `(batch, labels)` or `(batch, length, labels)`; with learned scores of one label after
        another `(batch, length, labels + labels²)`.

        `outputs` are the backbone's, `(batch, length, width)` with a mask `(batch, length)`, or
        `(batch, width)` of images.
        """
        if self.tokens:
            return self._of_tokens(outputs, mask, shape_ids)
        if mask is not None:
            outputs = self._pooled(outputs, mask)
        vectors = self.dropout(outputs)
        if self.hidden is not None:
            vectors = self.dropout(functional.gelu(self.hidden(vectors)))
        logits: torch.Tensor = self.classifier(vectors)
        return logits

    def _pooled(self, outputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "last":
            return outputs[torch.arange(len(outputs), device=outputs.device), mask.sum(1) - 1]
        if self.pooling != "mean":
            return outputs[:, 0]
        weights = mask.unsqueeze(-1).to(outputs.dtype)
        return (outputs * weights).sum(1) / weights.sum(1).clamp(min=1)

    def _of_tokens(
        self, outputs: torch.Tensor, mask: torch.Tensor | None, shape_ids: torch.Tensor | None
    ) -> torch.Tensor:
        if self.shapes is not None and shape_ids is not None:
            outputs = outputs + self.shapes(shape_ids)
        tokens = self.dropout(outputs)
        if self.hidden is not None:
            if mask is not None:  # what stands in the padding must not reach the last token
                tokens = tokens * mask.unsqueeze(-1).to(tokens.dtype)
            convolved = self.hidden(tokens.transpose(1, 2)).transpose(1, 2)
            tokens = self.dropout(functional.gelu(convolved))
        logits: torch.Tensor = self.classifier(tokens)
        return logits if self.transitions is None else with_transitions(logits, self.transitions)

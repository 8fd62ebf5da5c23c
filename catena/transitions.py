"""Learned scores of one label after another, as heads over tokens say them beside each token's own scores."""

from __future__ import annotations

import torch

#: What the weights of transitions are multiplied by. An optimiser like Adam moves every weight by about the
#: learning rate, which suits an encoder; scores of the size of logits would need thousands of steps.
_SCALE = 50.0


def with_transitions(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`(batch, length, labels + labels²)` of logits `(batch, length, labels)` and weights `(labels, labels)`.

    The learned scores are the same for every token and stand behind its own, so that all is in one tensor.
    """
    learned = (weights * _SCALE).flatten().expand(*logits.shape[:2], -1)
    return torch.cat([logits.float(), learned], dim=-1)

"""Records that weigh more or less than others in the loss."""

from __future__ import annotations

from typing import Protocol

import torch

#: The feature that says what a record weighs; it is never shown to the network.
WEIGHT = "weight"


class Loss(Protocol):
    """The mean loss of records."""

    def __call__(self, labels: torch.Tensor, *, logits: torch.Tensor) -> torch.Tensor: ...


def weighted_mean(
    loss: Loss, labels: torch.Tensor, weights: torch.Tensor, logits: torch.Tensor
) -> torch.Tensor:
    """Σ wᵢ · lossᵢ ÷ n over a batch's n records, by the mean `loss` of those that weigh the same.

    Divided by n and not by Σ wᵢ, as in FixMatch (arXiv:2001.07685): a batch of light records moves the
    weights less.
    """
    total = logits.new_zeros((), dtype=torch.float32)
    for weight in torch.unique(weights).tolist():
        rows = weights == weight
        share = weight * int(rows.sum()) / len(weights)
        total = total + share * loss(labels[rows], logits=logits[rows])
    return total

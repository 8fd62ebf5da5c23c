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
    loss: Loss,
    labels: torch.Tensor,
    weights: torch.Tensor,
    logits: torch.Tensor,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Σ wᵢ cᵢ · lossᵢ ÷ Σ cᵢ over a batch's records, by the mean `loss` of those that weigh the same.

    Not divided by Σ wᵢ, as in FixMatch (arXiv:2001.07685): a batch of light records moves the weights less.
    `class_weights` are those by which `loss` weighs classes, cᵢ that of a record's class; all 1 without, and
    where a record has a share of every class, since the mean is over records then.
    """
    counted = torch.ones_like(weights)
    if class_weights is not None and labels.ndim == 1:
        counted = class_weights[labels].to(weights.dtype)
    total = logits.new_zeros((), dtype=torch.float32)
    for weight in torch.unique(weights).tolist():
        rows = weights == weight
        share = weight * float(counted[rows].sum() / counted.sum())
        if share:
            total = total + share * loss(labels[rows], logits=logits[rows])
    return total

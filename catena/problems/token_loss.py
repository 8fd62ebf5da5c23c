"""The loss of networks that write: cross-entropy over the tokens of the targets, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Label of positions that are not to be learned.
IGNORED = -100


def token_loss(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy in nats of `logits` `(batch, length, vocabulary)` at `labels` `(batch, length)`.

    The label `IGNORED` does not count; of no others the loss is 0. With `label_smoothing`, that share of each
    target is spread over the vocabulary (Szegedy et al. 2016).
    """
    from torch.nn import functional

    chosen = labels >= 0
    count = int(chosen.sum())
    if not count:
        return logits.sum() * 0.0
    if count < labels.numel() / 2:
        # nothing of the vocabulary's size is computed for positions that do not count
        logits, labels = logits[chosen], labels[chosen]
    return functional.cross_entropy(
        logits.flatten(0, -2).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )


def measure_tokens(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of each row: summed negative log-likelihood (nats), tokens, likeliest ones among them `(batch, 3)`."""
    import torch
    from torch.nn import functional

    chosen = labels >= 0
    there = logits[chosen].float()
    wanted = labels[chosen]
    table = torch.zeros(*labels.shape, 3, device=labels.device)
    table[chosen] = torch.stack(
        [
            functional.cross_entropy(there, wanted, reduction="none"),
            torch.ones(len(wanted), device=labels.device),
            (there.argmax(dim=-1) == wanted).float(),
        ],
        dim=1,
    )
    return table.sum(dim=1)


def token_metrics(measured: object) -> dict[str, float]:
    """`log_loss` (nats per token), `perplexity` and `token_accuracy` of rows from `measure_tokens`."""
    import math

    import numpy as np

    loss, tokens, hits = np.asarray(measured, dtype=np.float64).sum(axis=0)
    mean = float(loss / max(tokens, 1))
    return {
        "log_loss": mean,
        "perplexity": math.exp(min(mean, 700.0)),
        "token_accuracy": float(hits / max(tokens, 1)),
    }

"""Linear-chain conditional random fields over tags (Lafferty et al. 2001): likelihood, best path, marginals.

A network with such a layer says, for every token, the scores of its `T` tags and then the `T²` learned scores
of one tag after another, the same for every token, as one vector of `T + T²`: so what it says is still an
array for each text, and whoever stores or moves it needs to know nothing of chains.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: Score of a transition that cannot be, such as O → I: finite, so that no gradient becomes NaN.
IMPOSSIBLE = -1e4


def tag_count(width: int) -> int:
    """`T` of vectors of `T + T²`. Raises `ValueError` where there is none."""
    tags = (math.isqrt(4 * width + 1) - 1) // 2
    if tags * tags + tags != width:
        raise ValueError(f"{width} is no number of tags and of their pairs together")
    return tags


def divide(logits: np.ndarray, tags: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores of tags `(tokens, tags)`, and learned transitions `(tags, tags)` where there are any."""
    if logits.shape[1] == tags:
        return logits, None
    learned = logits[0, tags:] if len(logits) else np.zeros(tags * tags)
    return logits[:, :tags], learned.reshape(tags, tags).astype(np.float64)


def chain_loss(
    logits: torch.Tensor, labels: torch.Tensor, following: np.ndarray, ignored: int
) -> torch.Tensor:
    """Negative log-likelihood, in nats for each labelled token, of the paths that `labels` are.

    `logits` `(batch, length, T + T²)`, `labels` `(batch, length)`. The tokens with the label `ignored` are
    no part of a chain: those around them follow one another. `following` `(T, T)` says which tag may come
    after which. Computed in float32, all chains of the batch at once.
    """
    import torch

    tags = len(following)
    chosen = labels != ignored
    count = chosen.sum()
    lengths = chosen.sum(dim=1)
    longest = int(lengths.max())
    if longest == 0:
        return logits.sum() * 0.0
    # Labelled tokens first, in their order: a stable sort of "not chosen".
    order = torch.argsort((~chosen).to(torch.uint8), dim=1, stable=True)[:, :longest]
    scores = logits[..., :tags].gather(1, order[..., None].expand(-1, -1, tags)).float()
    path = labels.gather(1, order).clamp(min=0)
    there = torch.arange(longest, device=labels.device) < lengths[:, None]
    possible = torch.tensor(following, device=logits.device)
    transitions = logits[0, 0, tags:].reshape(tags, tags).float().masked_fill(~possible, IMPOSSIBLE)

    said = scores.gather(2, path[..., None])[..., 0]
    moved = transitions[path[:, :-1], path[:, 1:]]
    of_path = (said * there).sum(dim=1) + (moved * there[:, 1:]).sum(dim=1)
    # In a chain without tokens the first place counts for nothing, in both sums.
    total = scores[:, 0] * there[:, :1]
    for at in range(1, longest):
        arriving = torch.logsumexp(total[:, :, None] + transitions, dim=1) + scores[:, at]
        total = torch.where(there[:, at, None], arriving, total)
    of_all = torch.where(lengths > 0, torch.logsumexp(total, dim=1), 0.0)
    return (of_all - of_path).sum() / count


def log_partition(
    scores: np.ndarray, learned: np.ndarray, first: np.ndarray | None, following: np.ndarray
) -> float:
    """Logarithm of the sum, over all possible paths, of the exponentials of their scores."""
    return float(_logsumexp(_forward(scores, _allowed(learned, following), first)[-1], axis=0))


def marginals(
    scores: np.ndarray, learned: np.ndarray, first: np.ndarray | None, following: np.ndarray
) -> np.ndarray:
    """Probability of each tag at each place `(tokens, tags)` over all possible paths (forward-backward)."""
    transitions = _allowed(learned, following)
    ahead = _forward(scores, transitions, first)
    behind = np.zeros(scores.shape)
    for at in range(len(scores) - 2, -1, -1):
        behind[at] = _logsumexp(transitions + (scores[at + 1] + behind[at + 1])[None, :], axis=1)
    total = ahead + behind
    return np.asarray(np.exp(total - _logsumexp(total, axis=1)[:, None]))


def path_likelihood(
    scores: np.ndarray, learned: np.ndarray, path: np.ndarray, following: np.ndarray
) -> float:
    """Log-likelihood of `path`, the numbers of tags, among all paths that could be, wherever they begin."""
    said = float(scores[np.arange(len(path)), path].sum())
    moved = float(_allowed(learned, following)[path[:-1], path[1:]].sum())
    return said + moved - log_partition(scores, learned, None, following)


def _allowed(learned: np.ndarray, following: np.ndarray) -> np.ndarray:
    return np.where(following, learned, -np.inf)


def _forward(scores: np.ndarray, transitions: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    ahead = np.empty(scores.shape, dtype=np.float64)
    ahead[0] = scores[0] if first is None else np.where(first, scores[0], -np.inf)
    for at in range(1, len(scores)):
        ahead[at] = _logsumexp(ahead[at - 1][:, None] + transitions, axis=0) + scores[at]
    return ahead


def _logsumexp(values: np.ndarray, axis: int) -> np.ndarray:
    highest = values.max(axis=axis, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        summed = np.log(np.exp(values - highest).sum(axis=axis))
    return np.asarray(summed + highest.squeeze(axis))

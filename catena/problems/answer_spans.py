"""The best span of tokens over the windows of a passage, and how likely it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catena.problems.outputs import Measured


@dataclass(frozen=True)
class Found:
    """A span of characters of the passage, its probability, and that of there being no answer.

    `start` is -1 where no window has a token of the passage.
    """

    start: int
    end: int
    probability: float
    nothing: float


def best_spans(
    outputs: Measured, features: Mapping[str, list[Any]], records: int, most_tokens: int
) -> list[Found]:
    """The best span of each record over all its windows.

    A window's probabilities are over its passage tokens and "not in this window", starts and ends apart.
    Nothing is in a passage if it is in none of the windows, so the least sure of them decides.
    """
    spans: list[tuple[float, int, int]] = [(-np.inf, -1, -1)] * records
    nothing = [0.0] * records
    for at, record in enumerate(features["record"]):
        starts = np.asarray(features["char_starts"][at])
        ends = np.asarray(features["char_ends"][at])
        scores = token_scores(np.asarray(outputs[at]), starts >= 0)
        nothing[record] = min(nothing[record], float(scores[0].sum()))
        found = best_span(scores, starts >= 0, most_tokens)
        if found is not None and found[0] > spans[record][0]:
            spans[record] = found[0], int(starts[found[1]]), int(ends[found[2]])
    return [
        Found(start, end, float(np.exp(score)), float(np.exp(missing)))
        for (score, start, end), missing in zip(spans, nothing, strict=True)
    ]


def token_scores(logits: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Logits `(tokens, 2)` → log probabilities of start and end over the first token and those `inside`."""
    allowed = inside.copy()
    allowed[0] = True
    scores = np.where(allowed[:, None], logits.astype(np.float64), -np.inf)
    highest = scores.max(axis=0)
    normalised: np.ndarray = scores - highest - np.log(np.exp(scores - highest).sum(axis=0))
    return normalised


def best_span(scores: np.ndarray, inside: np.ndarray, most_tokens: int) -> tuple[float, int, int] | None:
    """The likeliest span of up to `most_tokens` tokens `inside`: log probability, first token, last token."""
    firsts, lasts = (np.where(inside, scores[:, side], -np.inf) for side in (0, 1))
    best: tuple[float, int, int] | None = None
    for more in range(min(most_tokens, len(inside))):
        together = firsts[: len(firsts) - more] + lasts[more:]
        at = int(together.argmax())
        if np.isfinite(together[at]) and (best is None or together[at] > best[0]):
            best = float(together[at]), at, at + more
    return best


def token_overlap(said: tuple[int, int], truth: Sequence[tuple[int, int]]) -> float:
    """The best F1 of the tokens of a span (first and last, both within) with one of the right ones."""
    best = 0.0
    for first, last in truth:
        common = min(said[1], last) - max(said[0], first) + 1
        if common > 0:
            best = max(best, 2 * common / (said[1] - said[0] + last - first + 2))
    return best

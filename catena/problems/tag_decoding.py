"""From scores of tags to entities: the best valid sequence of IOB2 tags (Viterbi 1967), in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from catena.problems.spans import Entity, Span, line_starts
from catena.problems.tag_chains import divide, marginals
from catena.problems.tag_schemes import read_tags

#: Of one text: the words that pieces speak for, in their order, and the pieces' logits.
Scored = tuple[list[Span], np.ndarray]


def allowed_transitions(tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which tag may come first `(tags,)`, and which after which `(tags, tags)`.

    An I follows the B or I of its own label; everything else may follow anything.
    """
    return _rules(tuple(tags))


@lru_cache(maxsize=64)
def _rules(tags: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Made once, for texts come one by one; not to be written to."""
    inside = np.array([tag.startswith("I-") for tag in tags])
    labels = np.array([tag[2:] for tag in tags])
    rules = ~inside, ~inside[None, :] | (labels[:, None] == labels[None, :])
    for rule in rules:
        rule.setflags(write=False)
    return rules


def best_tags(
    scores: np.ndarray, first: np.ndarray, following: np.ndarray, learned: np.ndarray | None = None
) -> np.ndarray:
    """The valid sequence of tags whose scores `(words, tags)`, log-probabilities, have the highest sum.

    With `learned` `(tags, tags)`, scores of one tag after another count as well.
    """
    best: np.ndarray = scores.argmax(axis=1)
    if not len(best) or (learned is None and first[best[0]] and following[best[:-1], best[1:]].all()):
        return best
    blocked = np.where(following, 0.0 if learned is None else learned, -np.inf)
    total = np.where(first, scores[0], -np.inf)
    came_from = np.zeros(scores.shape, dtype=np.int64)
    for at in range(1, len(scores)):
        arriving = total[:, None] + blocked
        came_from[at] = arriving.argmax(axis=0)
        total = arriving.max(axis=0) + scores[at]
    best[-1] = total.argmax()
    for at in range(len(scores) - 1, 0, -1):
        best[at - 1] = came_from[at, best[at]]
    return best


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def word_scores(logits: np.ndarray, words: np.ndarray, tags: Sequence[str]) -> np.ndarray:
    """Log-probabilities of the tags of words `(words, tags)` from logits of their pieces `(pieces, tags)`.

    `words` numbers the word of each piece, ascending. A word of several pieces is B when its first
    piece is B and the others I; the mean over its pieces keeps the scores on one scale.
    """
    scores = log_softmax(logits)
    is_first = np.r_[True, words[1:] != words[:-1]] if len(words) else np.zeros(0, dtype=bool)
    if is_first.all():
        return scores
    continued = [tags.index(f"I-{tag[2:]}") if tag.startswith("B-") else at for at, tag in enumerate(tags)]
    scores = np.where(is_first[:, None], scores, scores[:, continued])
    starts = np.flatnonzero(is_first)
    sizes = np.diff(np.r_[starts, len(words)])
    return log_softmax(np.add.reduceat(scores, starts, axis=0) / sizes[:, None])


def by_record(outputs: Any, features: Mapping[str, list[Any]], records: int) -> list[Scored]:
    """The windows of each text put together; `outputs` holds the logits `(tokens, tags)` of each."""
    spans: list[list[Span]] = [[] for _ in range(records)]
    logits: list[list[np.ndarray]] = [[] for _ in range(records)]
    rows = zip(features["record"], features["word_starts"], features["word_ends"], outputs, strict=True)
    for record, starts, ends, values in rows:
        speaks = np.flatnonzero(np.asarray(starts) >= 0)
        spans[record] += ((starts[at], ends[at]) for at in speaks)
        logits[record].append(values[speaks])
    return [
        (words, np.concatenate(parts) if parts else np.zeros((0, 1), np.float32))
        for words, parts in zip(spans, logits, strict=True)
    ]


def decode(scored: Scored, tags: Sequence[str], text: str) -> tuple[list[tuple[Entity, float]], float]:
    """The best valid entities of one text, each with the least probability of a tag in it.

    No entity goes over the end of a line, where the text has several. Where the logits hold transitions
    (`tag_chains`), these count, and a tag's probability is its marginal one.
    Then the least probability of any word's tag, 1 where there is no word.
    """
    pieces, logits = scored
    if not pieces:
        return [], 1.0
    words = list(dict.fromkeys(pieces))
    number = {word: at for at, word in enumerate(words)}
    emissions, learned = divide(logits, len(tags))
    scores = word_scores(emissions, np.array([number[piece] for piece in pieces]), tags)
    rules = allowed_transitions(tags)
    edges = [0, *line_starts(text, words), len(words)]
    lines = [scores[start:end] for start, end in pairwise(edges)]
    best = np.concatenate([best_tags(line, *rules, learned) for line in lines])
    chances = np.exp(scores)
    if learned is not None:
        chances = np.concatenate([marginals(line, learned, *rules) for line in lines])
    sure = chances[np.arange(len(best)), best]
    found = [
        ((words[first][0], words[end - 1][1], label), float(sure[first:end].min()))
        for first, end, label in read_tags([tags[at] for at in best], "IOB2")
    ]
    return found, float(sure.min())

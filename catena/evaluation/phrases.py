"""The baseline for tagging: entities known from training, wherever they occur again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from catena.data.scripts import UNSPACED
from catena.evaluation.baselines import BaselineData, Learned
from catena.problems.spans import Entity, Span, canonical, from_canonical

_TOKEN = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+|[^\w\s]")
#: Entities of more tokens than this are not looked for.
_LONGEST = 12

Phrase = tuple[str, ...]


def known_phrases(data: BaselineData) -> Learned:
    """Finds the longest phrases first that were an entity in training at least every second time.

    Each gets the label it had most often there: the dictionary that the CoNLL-2003 shared task
    compared its systems with (Tjong Kim Sang and De Meulder 2003), less strict with ambiguous ones.
    """
    labels: dict[Phrase, Counter[str]] = {}
    texts = [_tokens(text) for text in data.train["text"]]
    for (tokens, spans), target in zip(texts, data.train["entities"], strict=True):
        for start, end, label in from_canonical(target):
            inside = [at for at, span in enumerate(spans) if span[0] >= start and span[1] <= end]
            if inside and len(inside) <= _LONGEST:
                labels.setdefault(tuple(tokens[inside[0] : inside[-1] + 1]), Counter())[label] += 1
    seen: Counter[Phrase] = Counter()
    for tokens, _ in texts:
        seen.update(phrase for _, phrase in _phrases(tokens, labels))
    known = {
        phrase: min(found, key=lambda label: (-found[label], label))
        for phrase, found in labels.items()
        if 2 * found.total() >= seen[phrase]
    }
    found = [canonical(_found(text, known)) for text in data.test["text"]]
    return np.array(found, dtype=object), None


def _tokens(text: str) -> tuple[list[str], list[Span]]:
    found = list(_TOKEN.finditer(text))
    return [one.group() for one in found], [one.span() for one in found]


def _phrases(tokens: list[str], known: Mapping[Phrase, object]) -> Iterator[tuple[int, Phrase]]:
    for start in range(len(tokens)):
        for length in range(min(_LONGEST, len(tokens) - start), 0, -1):
            phrase = tuple(tokens[start : start + length])
            if phrase in known:
                yield start, phrase


def _found(text: str, known: Mapping[Phrase, str]) -> Iterator[Entity]:
    tokens, spans = _tokens(text)
    free = 0
    for start, phrase in _phrases(tokens, known):
        if start >= free:
            free = start + len(phrase)
            yield spans[start][0], spans[free - 1][1], known[phrase]

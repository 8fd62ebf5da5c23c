"""Questions answered from a knowledge base, with sources, or honestly not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from catena.errors import ModelError
from catena.knowledge.index import Hit, KnowledgeBase
from catena.problems.answers import from_canonical

if TYPE_CHECKING:
    from catena.predictor import Predictor

#: Kinds of answers: a stretch that a model read in a passage, or a whole passage or an answer of the list.
READ, FOUND = "read", "found"
#: The least confidence at which an answer is given, chosen on XQuAD's validation questions and BANKING77's
#: training questions, which must be refused (docs/answering.md).
DEFAULT_THRESHOLDS = {READ: 0.25, FOUND: 0.35}


@dataclass(frozen=True)
class Reply:
    """What is known about a question.

    `kind` is `read` or `found`, `start` and `end` are where the answer is in the first of the `sources`.
    `known` says whether `confidence` reaches the threshold: if not, `answer` is only the best guess.
    """

    question: str
    answer: str
    confidence: float
    kind: str
    known: bool
    sources: tuple[Hit, ...]
    start: int = 0
    end: int = 0


def ask(
    base: KnowledgeBase,
    questions: Sequence[str],
    *,
    encoder: Path | None = None,
    reader: Predictor | None = None,
    count: int = 3,
    threshold: float | None = None,
) -> list[Reply]:
    """Answer each question from the `count` passages that fit it best.

    A frequent question's answer is given as it is. From documents `reader`, a model of the problem
    answering, reads the answer; without one the answer is the whole passage. `threshold` is the least
    confidence of an answer, by default the knowledge base's own. Raises `ModelError` for a model of
    another problem.
    """
    if reader is not None and reader.problem.name != "answering":
        raise ModelError(
            f"This model solves {reader.problem.name}; reading answers takes one of the problem answering."
        )
    found = base.search(questions, count, encoder)
    limits = DEFAULT_THRESHOLDS | base.thresholds
    replies = []
    readings = _read(reader, questions, found) if reader is not None else [None] * len(questions)
    for question, hits, reading in zip(questions, found, readings, strict=True):
        first = hits[0]
        if reading is None or first.passage.question:
            text = first.passage.text
            answer, confidence, kind, sources, start, end = text, first.match, FOUND, hits, 0, len(text)
        else:
            answer, confidence, start, end, at = reading
            kind, sources = READ, [hits[at], *hits[:at], *hits[at + 1 :]]
        least = limits[kind] if threshold is None else threshold
        known = bool(answer) and confidence >= least
        replies.append(Reply(question, answer, confidence, kind, known, tuple(sources), start, end))
    return replies


def _read(
    reader: Predictor, questions: Sequence[str], found: Sequence[Sequence[Hit]]
) -> list[tuple[str, float, int, int, int]]:
    """For each question the best answer in its passages: text, confidence, start, end, number of the hit."""
    pairs = [
        (at, number, question, hit)
        for at, (question, hits) in enumerate(zip(questions, found, strict=True))
        for number, hit in enumerate(hits)
    ]
    table = pd.DataFrame(
        {"question": [pair[2] for pair in pairs], "context": [pair[3].passage.text for pair in pairs]}
    )
    predicted = reader.predict(table)
    best: list[tuple[str, float, int, int, int]] = [("", 0.0, 0, 0, 0)] * len(questions)
    highest = [0.0] * len(questions)
    for (at, number, _, hit), said, sure in zip(
        pairs, predicted["prediction"], predicted["confidence"], strict=True
    ):
        for start, text in from_canonical(said):
            # A model that has read one passage at a time is too sure of itself in the wrong one (Clark and
            # Gardner 2018), so how well the passage fits weighs more than how likely the answer is in it.
            confidence = hit.match * math.sqrt(float(sure))
            if confidence * hit.match > highest[at]:
                highest[at] = confidence * hit.match
                best[at] = text, confidence, start, start + len(text), number
    return best

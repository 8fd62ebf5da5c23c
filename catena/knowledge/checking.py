"""How far a knowledge base's answers can be trusted: at which confidence how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catena.data.formats import read_records
from catena.data.text_stream import likely_encoding, sample_bytes
from catena.errors import DataError
from catena.evaluation.answer_matches import best_match, holds, normalised
from catena.knowledge.asking import READ, Reply
from catena.settings import DataSettings

_LEVELS = tuple(round(0.05 * step, 2) for step in range(20))
#: A read answer is right from this F1 on, as people who read it beside its source would say.
_RIGHT_FROM = 0.5


@dataclass(frozen=True)
class Level:
    """What happens where answers need at least `threshold`: shares of the questions.

    `answered` and `right` are of the questions that have an answer, `right` of those of them that are
    answered; `refused` of the questions that have none. NaN where there are no such questions.
    """

    threshold: float
    answered: float
    right: float
    refused: float


def read_questions(path: Path) -> tuple[list[str], list[str]]:
    """Columns `question` and `answer` of a file; an empty answer says that there is none to be found.

    Raises `DataError` where there is no question.
    """
    settings = DataSettings.model_validate(
        {
            "columns": {"question": "question", "answer": "answer"},
            "encoding": likely_encoding(sample_bytes(path)) or "utf-8" if path.is_file() else "utf-8",
        }
    )
    questions: list[str] = []
    answers: list[str] = []
    for batch in read_records(path, settings, ("question", "answer")):
        known = batch.records[batch.records["question"].fillna("").str.strip() != ""]
        questions += known["question"].tolist()
        answers += known["answer"].fillna("").str.strip().tolist()
    if not questions:
        raise DataError(f"{path.name} holds no question to check a knowledge base with.")
    return questions, answers


def is_right(reply: Reply, answer: str) -> bool:
    """Whether a reply says what was expected: much the same words, or a passage that holds all of them.

    An answer of nothing but articles and punctuation ("A", "?") has none, and only the same text is right.
    """
    if not answer or not reply.answer:
        return False
    if not normalised(answer):
        return reply.answer.strip().casefold() == answer.strip().casefold()
    if reply.kind == READ:
        return best_match(reply.answer, [answer])[1] >= _RIGHT_FROM
    return holds(reply.answer, answer)


def levels(replies: Sequence[Reply], answers: Sequence[str]) -> list[Level]:
    """What each threshold from 0 to 0.95 would do."""
    sure = np.array([reply.confidence for reply in replies])
    right = np.array([is_right(*pair) for pair in zip(replies, answers, strict=True)])
    there = np.array([bool(answer) for answer in answers])
    return [
        Level(
            level,
            _share(sure[there] >= level),
            _share(right[there & (sure >= level)]),
            _share(sure[~there] < level),
        )
        for level in _LEVELS
    ]


def lowest_threshold(replies: Sequence[Reply], answers: Sequence[str], precision: float) -> float | None:
    """The least confidence from which on `precision` of all answers given are right; None if never.

    Answers to questions that have none are wrong. At least 20 answers must remain, so that the share
    means something.
    """
    sure = np.array([reply.confidence for reply in replies])
    right = np.array([is_right(*pair) for pair in zip(replies, answers, strict=True)], dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # equal confidences stand or fall together
    last = np.append(np.diff(sure[order]) < 0, True)
    good = np.flatnonzero((share >= precision) & last)
    good = good[good >= 19]
    return float(sure[order][good[-1]]) if len(good) else None


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")

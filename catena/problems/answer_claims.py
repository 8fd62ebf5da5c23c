"""What a prediction says about an answer: asked, expected and compared, by its words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from catena.evaluation.answer_matches import normalised
from catena.problems.answers import from_canonical
from catena.problems.claims import Claim, Row


def answer_claim(said: Row | None) -> Claim:
    """That the answer is the one said, or that there is none; without `said`, that there is an answer.

    The support is the confidence in an answer of the same words, 0 where another is said.
    """
    if said is None:
        return Claim(
            "an answer",
            "probability that there is an answer",
            lambda table: 1.0 - _numbers(table, "no_answer"),
        )
    answers = from_canonical(str(said["prediction"]))
    if not answers:
        return Claim(
            "no answer",
            "probability that there is no answer",
            lambda table: _numbers(table, "no_answer"),
            True,
        )
    start, text = answers[0]
    return Claim(
        name=text,
        measured="confidence in this answer",
        support=lambda table: np.where(
            [normalised(str(answer)) == normalised(text) for answer in table["answer"]],
            _numbers(table, "confidence"),
            0.0,
        ),
        own={"context": [(start, start + len(text))]},
    )


def answered_as(said: Row, expected: str) -> bool:
    """Whether the answer is one of the expected ones, or none where none is."""
    wanted = {normalised(text) for _, text in from_canonical(expected)}
    return normalised(str(said["answer"])) in wanted if said["answer"] else not wanted


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    return table[column].to_numpy(dtype=np.float64)

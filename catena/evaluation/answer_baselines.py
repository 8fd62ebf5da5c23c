"""Simple rivals of a model that answers questions: the nearest sentence, and a telling phrase in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from catena.data.scripts import WORD
from catena.evaluation.baselines import word_options
from catena.problems.answers import canonical

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned

_SENTENCE = re.compile(r"[^.!?。！？]+(?:[.!?](?=\S)[^.!?。！？]*)*[.!?。！？]*[\"')\]]*")
#: Names, numbers and what is in quotes: runs of words that begin with a capital or hold a digit.
_PHRASE = re.compile(
    r"(?:[^\W\d_]*\d[\w.,%]*|[A-ZÀ-Þ][\w'’-]*)(?:\s+(?:[^\W\d_]*\d[\w.,%]*|[A-ZÀ-Þ][\w'’-]*))*"
)


def sentence(data: BaselineData) -> Learned:
    """The sentence of the passage with the greatest TF-IDF cosine to the question."""
    found = _nearest_sentences(data)
    return np.array([canonical([one]) for one in found], dtype=object), None


def phrase(data: BaselineData) -> Learned:
    """In that sentence the first name or number that the question does not mention, else all of it."""
    answers = []
    for question, (start, text) in zip(data.test["question"], _nearest_sentences(data), strict=True):
        asked = {word.casefold() for word in WORD.findall(question)}
        found = [
            (start + match.start(), match.group().rstrip(".,"))
            for match in _PHRASE.finditer(text)
            if not asked & {word.casefold() for word in WORD.findall(match.group())}
        ]
        # the first word of a sentence has its capital for another reason
        named = [one for one in found if one[0] > start] or found or [(start, text)]
        answers.append(canonical(named[:1]))
    return np.array(answers, dtype=object), None


def sentences(text: str) -> list[tuple[int, str]]:
    """The sentences of a text and where each begins."""
    found = []
    for match in _SENTENCE.finditer(text):
        said = match.group()
        stripped = said.strip()
        if stripped:
            found.append((match.start() + said.index(stripped), stripped))
    return found or [(0, text)]


def _nearest_sentences(data: BaselineData) -> list[tuple[int, str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = pd.concat([data.train["context"], data.test["context"]]).unique().tolist()
    vectorizer = TfidfVectorizer(sublinear_tf=True, **word_options(known))
    vectorizer.fit([text for context in known for _, text in sentences(context)])
    divided = {context: sentences(context) for context in data.test["context"].unique()}
    tables = {
        context: vectorizer.transform([text for _, text in parts]) for context, parts in divided.items()
    }
    asked = vectorizer.transform(data.test["question"])
    nearest = []
    for at, context in enumerate(data.test["context"]):
        scores = np.asarray((tables[context] @ asked[at].T).todense()).ravel()
        nearest.append(divided[context][int(scores.argmax())])
    return nearest

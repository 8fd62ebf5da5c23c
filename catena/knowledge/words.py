"""An index of words: which passages share words with a question, weighted by BM25."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

#: Okapi BM25 as Robertson and Zaragoza 2009 recommend it.
_SATURATION, _LENGTH_SHARE = 1.2, 0.75


@dataclass(frozen=True)
class WordIndex:
    """The BM25 weight of each word in each passage, sparse by rows (`data`, `indices`, `indptr`).

    `vocabulary` names the columns, `options` how words are found (scikit-learn's names).
    """

    vocabulary: tuple[str, ...]
    options: dict[str, Any]
    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray

    @classmethod
    def build(cls, texts: Sequence[str]) -> WordIndex:
        from sklearn.feature_extraction.text import CountVectorizer

        from catena.evaluation.baselines import word_options

        options = word_options(texts)
        vectorizer = CountVectorizer(**options)
        counts = vectorizer.fit_transform(texts).tocsr().astype(np.float64)
        frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
        rarity = np.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        norms = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * lengths / max(lengths.mean(), 1e-9))
        rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        data = counts.data * (_SATURATION + 1) / (counts.data + norms[rows]) * rarity[counts.indices]
        return cls(
            tuple(vectorizer.get_feature_names_out().tolist()),
            options,
            data.astype(np.float32),
            counts.indices.astype(np.int64),
            counts.indptr.astype(np.int64),
        )

    def scores(self, questions: Sequence[str]) -> np.ndarray:
        """BM25 of each question's words in each passage `(questions, passages)`."""
        asked = (self._vectorizer.transform(questions) > 0).astype(np.float32)
        return np.asarray((asked @ self._weights.T).todense(), dtype=np.float64)

    def coverage(self, question: str, passage: int) -> float:
        """The share of the question's words, weighted by their rarity, that a passage has (0 to 1)."""
        asked = set(self._analyzer(question))
        if not asked:
            return 0.0
        total = len(self.indptr) - 1
        unknown = float(np.log(1 + (total + 0.5) / 0.5))
        place = self._places
        weights = {word: float(self._rarity[place[word]]) if word in place else unknown for word in asked}
        there = set(self.indices[self.indptr[passage] : self.indptr[passage + 1]].tolist())
        found = sum(weight for word, weight in weights.items() if place.get(word, -1) in there)
        return found / max(sum(weights.values()), 1e-9)

    # What questions need besides the arrays is made at the first one and kept.

    @cached_property
    def _vectorizer(self) -> CountVectorizer:
        from sklearn.feature_extraction.text import CountVectorizer

        options = self.options | {"ngram_range": tuple(self.options.get("ngram_range", (1, 1)))}
        return CountVectorizer(vocabulary=list(self.vocabulary), **options)

    @cached_property
    def _analyzer(self) -> Callable[[str], list[str]]:
        analyzer: Callable[[str], list[str]] = self._vectorizer.build_analyzer()
        return analyzer

    @cached_property
    def _weights(self) -> csr_matrix:
        """BM25 `(passages, words)`."""
        from scipy.sparse import csr_matrix

        shape = (len(self.indptr) - 1, len(self.vocabulary))
        return csr_matrix((self.data, self.indices, self.indptr), shape=shape)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: at for at, word in enumerate(self.vocabulary)}

    @cached_property
    def _rarity(self) -> np.ndarray:
        """Of each word of the vocabulary, as BM25 weighs it."""
        frequency = np.bincount(self.indices, minlength=len(self.vocabulary))
        rarity: np.ndarray = np.log(1 + (len(self.indptr) - 1 - frequency + 0.5) / (frequency + 0.5))
        return rarity

    def is_sound(self, passages: int) -> bool:
        """Whether the arrays belong together and point nowhere outside."""
        begin, end = (self.indptr[0], self.indptr[-1]) if len(self.indptr) else (-1, -1)
        return (
            len(self.indptr) == passages + 1
            and begin == 0
            and end == len(self.data) == len(self.indices)
            and bool((np.diff(self.indptr) >= 0).all())
            and (
                not len(self.indices) or 0 <= self.indices.min() <= self.indices.max() < len(self.vocabulary)
            )
            and bool(np.isfinite(self.data).all())
        )

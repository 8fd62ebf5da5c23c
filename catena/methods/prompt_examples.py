"""Which training records a prompt shows as examples: drawn, balanced by label, or similar to the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catena.errors import SettingsError
from catena.methods.base import Records

#: Constants of BM25 as Robertson and Zaragoza 2009 recommend them.
_K1, _B = 1.5, 0.75


@dataclass(frozen=True)
class Example:
    """A record that the prompt may show: the tokens of its slots, and the number of its label, or what is
    said in its place."""

    slots: dict[str, list[int]]
    label: int
    said: str = ""

    @property
    def tokens(self) -> list[int]:
        """All of its tokens, by which it is compared."""
        return [token for ids in self.slots.values() for token in ids]

    def as_json(self) -> dict[str, Any]:
        return {"slots": self.slots, "label": self.label, "said": self.said}


def check_number(records: Records, shots: int) -> None:
    """Raise `SettingsError` where there are fewer records than examples wanted."""
    if len(records) < shots:
        raise SettingsError(
            f"`method.prompt.shots` is {shots}, but the training part has only {len(records)} records."
        )


def draw(labels: Sequence[int], count: int, balanced: bool, chance: np.random.Generator) -> list[int]:
    """Numbers of `count` records in the order in which they are shown.

    Balanced: of each label as many, as far as they go round; which labels get one more is drawn as well.
    """
    order = chance.permutation(len(labels)).tolist()
    if not balanced:
        return [int(row) for row in order[:count]]
    waiting: dict[int, list[int]] = {}
    for row in order:
        waiting.setdefault(int(labels[row]), []).append(int(row))
    kinds = sorted(waiting)
    turn = [kinds[at] for at in chance.permutation(len(kinds))]
    chosen: list[int] = []
    while len(chosen) < min(count, len(order)):
        for kind in turn:
            if waiting[kind] and len(chosen) < count:
                chosen.append(waiting[kind].pop(0))
    return [chosen[at] for at in chance.permutation(len(chosen))]


class Nearest:
    """The records of a pool that are most similar to a record (Liu et al. 2022, arXiv 2101.06804)."""

    def __init__(
        self, pool: Sequence[Example], measure: str, vocabulary: int, vectors: np.ndarray | None = None
    ) -> None:
        self.pool = pool
        self.measure = measure
        self.vocabulary = vocabulary
        if measure == "embedding":
            if vectors is None:
                raise ValueError("an embedding needs the pool's vectors")
            self.mean = vectors.mean(axis=0)
            self.vectors = _unit(vectors - self.mean)
        else:
            self._weigh([example.tokens for example in pool])

    def _weigh(self, texts: Sequence[Sequence[int]]) -> None:
        """Weights of tokens in the pool's texts: TF-IDF of length 1, or BM25's."""
        counts = self._counts(texts)
        if self.measure == "tfidf":
            from sklearn.feature_extraction.text import TfidfTransformer

            self.transform = TfidfTransformer(sublinear_tf=True).fit(counts)
            self.table = self.transform.transform(counts)
            return
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        holders = np.asarray((counts > 0).sum(axis=0)).ravel()
        rarity = np.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
        table = counts.tocoo()
        scale = _K1 * (1 - _B + _B * lengths[table.row] / max(lengths.mean(), 1e-9))
        table.data = rarity[table.col] * table.data * (_K1 + 1) / (table.data + scale)
        self.table = table.tocsr()

    def _counts(self, texts: Sequence[Sequence[int]]) -> Any:
        from scipy.sparse import csr_matrix

        rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        columns = np.array([token for text in texts for token in text], dtype=np.int64)
        shape = (len(texts), self.vocabulary)
        return csr_matrix((np.ones(len(columns)), (rows, columns)), shape=shape)

    def find(
        self, texts: Sequence[Sequence[int]], count: int, vectors: np.ndarray | None = None
    ) -> list[list[Example]]:
        """For each text the `count` most similar of the pool, the most similar last; never itself."""
        if self.measure == "embedding":
            assert vectors is not None  # noqa: S101 - the caller computes them for this measure
            scores = _unit(vectors - self.mean) @ self.vectors.T
        else:
            counts = self._counts(texts)
            asked = (
                self.transform.transform(counts) if self.measure == "tfidf" else (counts > 0).astype(float)
            )
            scores = np.asarray((asked @ self.table.T).todense())
        found = []
        for text, row in zip(texts, scores, strict=True):
            order = np.argsort(-row, kind="stable")[: count + 8]
            others = [self.pool[at] for at in order.tolist() if self.pool[at].tokens != list(text)]
            found.append(others[:count][::-1])
        return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


def example_from_json(content: Mapping[str, Any]) -> Example:
    """What `Example.as_json` gave. Raises `KeyError`, `TypeError` or `ValueError`."""
    slots = {str(name): [int(token) for token in ids] for name, ids in content["slots"].items()}
    return Example(slots, int(content["label"]), str(content["said"]))

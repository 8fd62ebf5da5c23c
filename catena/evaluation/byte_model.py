"""An n-gram model of bytes: what a language can be said to be like without any network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

#: Stands before a text.
_START = 0
_BYTES = 256

Numbers = NDArray[np.uint64]


class ByteModel:
    """Probability of a byte after the `order` bytes before it, smoothed after Witten and Bell (1991).

    A context seen c times, with t different bytes after it, keeps c / (c + t) for what was seen; the
    rest goes to what the context without its first byte says, and at last to all 256 bytes alike. Of the
    orders 1 to 7, four foresees the validation part of `presets/shakespeare.yaml` best.
    """

    def __init__(self, texts: Iterable[str], order: int = 4) -> None:
        self.order = order
        streams = [self._stream(text) for text in texts]
        self._tables = []
        for length in range(order + 1):
            keys = np.concatenate([self._keys(stream, length) for stream in streams])
            seen, counts = np.unique(keys, return_counts=True)
            contexts, starts = np.unique(seen >> np.uint64(8), return_index=True)
            totals = np.add.reduceat(counts, starts)
            followers = np.diff(np.append(starts, len(seen)))
            self._tables.append((seen, counts, contexts, totals, followers))

    def log_likelihood(self, text: str) -> float:
        """Of all bytes of a text, in nats."""
        stream = self._stream(text)
        chances = np.full(len(stream) - self.order, 1 / _BYTES)
        for length, (seen, counts, contexts, totals, followers) in enumerate(self._tables):
            keys = self._keys(stream, length)
            at, known = _find(contexts, keys >> np.uint64(8))
            place, there = _find(seen, keys)
            hits = np.where(there, counts[place], 0)
            total, kinds = totals[at], followers[at]
            chances = np.where(known, (hits + kinds * chances) / (total + kinds), chances)
        return float(np.log(chances).sum())

    def write(self, beginning: str, size: int, generator: np.random.Generator) -> str:
        """About `size` bytes that go on from `beginning`, drawn byte by byte."""
        stream = self._stream(beginning).tolist()
        start = len(stream)
        for _ in range(size):
            stream.append(int(generator.choice(_BYTES, p=self._chances(stream))))
        return bytes(stream[start:]).decode("utf-8", "ignore")

    def _chances(self, stream: list[int]) -> NDArray[np.float64]:
        chances = np.full(_BYTES, 1 / _BYTES)
        for length, (seen, counts, _, _, _) in enumerate(self._tables):
            context = int.from_bytes(bytes(stream[len(stream) - length :]), "big") << 8
            first, last = np.searchsorted(seen, np.array([context, context + _BYTES], dtype=np.uint64))
            if first == last:
                break
            found = np.zeros(_BYTES)
            found[(seen[first:last] & np.uint64(_BYTES - 1)).astype(np.int64)] = counts[first:last]
            chances = (found + (last - first) * chances) / (found.sum() + last - first)
        return np.asarray(chances / chances.sum())

    def _stream(self, text: str) -> NDArray[np.uint8]:
        return np.frombuffer(bytes([_START] * self.order) + text.encode(), dtype=np.uint8)

    def _keys(self, stream: NDArray[np.uint8], length: int) -> Numbers:
        """For each byte of a text: itself, and before it the `length` bytes before it, as one number."""
        count = len(stream) - self.order
        keys = np.zeros(count, dtype=np.uint64)
        for back in range(length, -1, -1):
            start = self.order - back
            keys = keys << np.uint64(8) | stream[start : start + count].astype(np.uint64)
        return keys


def _find(table: Numbers, keys: Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each key is in a sorted table, and whether it is."""
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return at, table[at] == keys

"""The candidates among the records of a file: bounded in number, and no two nearly the same."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from catena.data.near_duplicates import Search


def digest(text: str) -> bytes:
    """What a record is told apart by, in 16 bytes."""
    return hashlib.sha256(text.encode()).digest()[:16]


@dataclass(frozen=True)
class Candidate:
    """A record that may be chosen: `row` in its file, the cells that are written of it, its clean inputs,
    the text it is compared by, how useful it is, and why."""

    row: int
    cells: dict[str, Any]
    inputs: dict[str, str]
    compared: str
    score: float
    reason: str


@dataclass
class Pool:
    """The `limit` candidates with the highest rank, each text once; memory does not grow beyond them."""

    limit: int
    _heap: list[tuple[float, int, bytes]] = field(default_factory=list)
    _held: dict[bytes, Candidate] = field(default_factory=dict)

    def offer(self, rank: float, key: bytes, candidate: Candidate) -> None:
        """Take a candidate in if its rank (of equals: its being earlier) allows."""
        entry = (rank, -candidate.row, key)
        if key in self._held or (len(self._heap) >= self.limit and entry < self._heap[0]):
            return
        self._held[key] = candidate
        heapq.heappush(self._heap, entry)
        if len(self._heap) > self.limit:
            del self._held[heapq.heappop(self._heap)[2]]

    def best(self) -> list[Candidate]:
        """All candidates, the highest rank first."""
        return [self._held[key] for _, _, key in sorted(self._heap, reverse=True)]


def without_near(
    candidates: Sequence[Candidate], known: Sequence[str], search: Search, count: int
) -> list[Candidate]:
    """The first `count` candidates that are near to no `known` text, and to none that comes before them."""
    chosen: list[Candidate] = []
    rest = list(candidates)
    if known:
        rest = _far_from(rest, search.side(list(known)), len(known), search)
    while rest and len(chosen) < count:
        step = count - len(chosen)
        part, rest = rest[:step], rest[step:]
        if chosen:
            part = _far_from(part, search.side([one.compared for one in chosen]), len(chosen), search)
        chosen += _different(part, search)
    return chosen


def _different(candidates: list[Candidate], search: Search) -> list[Candidate]:
    """Those that are near to none before them: the first half, then what of the second is far from it."""
    if len(candidates) < 2:
        return candidates
    middle = len(candidates) // 2
    first = _different(candidates[:middle], search)
    side = search.side([one.compared for one in first])
    return first + _different(_far_from(candidates[middle:], side, len(first), search), search)


def _far_from(candidates: list[Candidate], side: Any, size: int, search: Search) -> list[Candidate]:
    if not candidates:
        return candidates
    ours = search.side([one.compared for one in candidates])
    every = np.ones(len(candidates), dtype=bool)
    near = set(search.find(ours, side, search.threshold, every, np.ones(size, dtype=bool)).lower.tolist())
    return [one for at, one in enumerate(candidates) if at not in near]


def in_steps(count: int, step: int) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))

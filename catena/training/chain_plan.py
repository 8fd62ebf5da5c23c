"""The batches of a chain: each of one tail, and how often each tail has its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from catena.settings import ChainSettings, TrainingSettings
from catena.training.batches import Plan, plan_training
from catena.training.tokens import TokenTable


class JoinedTable:
    """The tables of several tails as one: the rows of the second follow those of the first."""

    def __init__(self, tables: Mapping[str, TokenTable]) -> None:
        self.tables = dict(tables)
        self._names = list(tables)
        self._starts = np.cumsum([0, *(len(table) for table in tables.values())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """The features of a row, and in `tail` whose they are."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        name = self._names[number]
        return {**self.tables[name][row - int(self._starts[number])], "tail": name}

    def start(self, tail: str) -> int:
        """The first row of a tail."""
        return int(self._starts[self._names.index(tail)])


def shares(batches: Mapping[str, int], settings: ChainSettings, earlier: frozenset[str]) -> dict[str, float]:
    """The share of the batches that each tail gets, from the number of batches in one pass over its data.

    In a chain that is replayed, `settings.replay` of them belong to the earlier tails.
    """
    power = {"proportional": 1.0, "temperature": 1.0 / settings.temperature, "uniform": 0.0}[
        settings.sampling
    ]
    raw = {name: float(count) ** power for name, count in batches.items()}

    def normed(names: Sequence[str], whole: float) -> dict[str, float]:
        total = sum(raw[name] for name in names)
        return {name: whole * raw[name] / total for name in names}

    old = [name for name in batches if name in earlier]
    new = [name for name in batches if name not in earlier]
    if not old or not new:
        return normed([*old, *new], 1.0)
    return {**normed(old, settings.replay), **normed(new, 1.0 - settings.replay)}


def plan_chain(
    table: JoinedTable,
    training: TrainingSettings,
    settings: ChainSettings,
    seed: int,
    earlier: frozenset[str] = frozenset(),
) -> Plan:
    """The batches of the whole training, as rows of `table`.

    An epoch has as many batches as one pass over all tails' data has; in a chain that is replayed, as many
    as let the new tails' data pass once. Each tail's own order goes on from epoch to epoch, reshuffled after
    each pass over its data, and tails alternate at random.
    """
    streams = {
        name: _Stream(part.lengths, training, seed + number, table.start(name))
        for number, (name, part) in enumerate(table.tables.items())
    }
    once = {name: stream.once for name, stream in streams.items()}
    share = shares(once, settings, earlier)
    new = [name for name in once if name not in earlier]
    whole = sum(once.values())
    if new and len(new) < len(once):
        whole = round(sum(once[name] for name in new) / (1.0 - settings.replay))
    accumulation = training.gradient_accumulation
    batches: list[list[int]] = []
    ends: list[int] = []
    for number in range(int(np.ceil(training.epochs))):
        size = max(1, round(min(1.0, training.epochs - number) * whole))
        turns = [name for name, count in _counts(share, size).items() for _ in range(count)]
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        epoch = [next(streams[turns[index]]) for index in generator.permutation(len(turns))]
        # an optimiser step never mixes epochs, unless one epoch does not fill it
        if number + 1 < training.epochs and len(epoch) >= accumulation:
            epoch = epoch[: len(epoch) - len(epoch) % accumulation]
        batches += epoch
        ends.append(-(-len(batches) // accumulation))
        if training.max_steps is not None and ends[-1] >= training.max_steps:
            break
    if training.max_steps is not None:
        batches = batches[: training.max_steps * accumulation]
        ends[-1] = min(ends[-1], training.max_steps)
    return Plan(batches, ends, accumulation)


def _counts(share: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole numbers near `share` times `size` that sum up to `size` (largest remainders)."""
    exact = {name: part * size for name, part in share.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: size - sum(counts.values())]:
        counts[name] += 1
    return counts


class _Stream(Iterator[list[int]]):
    """The batches of one tail without end, pass after pass, as rows of the joined table."""

    def __init__(self, lengths: np.ndarray, training: TrainingSettings, seed: int, start: int) -> None:
        self._lengths, self._training, self._seed, self._start = lengths, training, seed, start
        self._passes = 0
        self._ready: list[list[int]] = []
        self.once = len(self._one_pass(0))

    def _one_pass(self, number: int) -> list[list[int]]:
        plan = plan_training(
            self._lengths,
            batch_tokens=self._training.batch_tokens,
            batch_size=self._training.batch_size,
            epochs=1.0,
            gradient_accumulation=1,
            max_steps=None,
            seed=int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]),
        )
        return plan.batches

    def __next__(self) -> list[int]:
        if not self._ready:
            self._ready = self._one_pass(self._passes)[::-1]
            self._passes += 1
        return [self._start + row for row in self._ready.pop()]

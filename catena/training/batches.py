"""Batches of similar length under a token budget, planned for the whole training in advance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from catena.problems import Measured

#: Lengths are padded to a multiple of this, so that few tensor shapes occur.
PAD_TO = 8
#: Batches' worth of records that are shuffled together before they are sorted by length.
_WINDOW = 50


@dataclass(frozen=True)
class Plan:
    """Every batch of a training, in order.

    Planned once from lengths and seed, so that the order of the data is one list: resuming means
    starting in its middle, whatever epoch that is in.
    """

    batches: list[list[int]]
    #: Optimiser steps at whose end an epoch is complete (the last may be cut short).
    epoch_ends: list[int]
    gradient_accumulation: int
    #: Tokens of a row that several records share; none where each record has a row of its own.
    packed: int | None = None
    #: Optimiser steps of earlier rounds of the same training.
    before: int = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    @property
    def steps(self) -> int:
        """Optimiser steps of the training."""
        return -(-len(self.batches) // self.gradient_accumulation)

    def epoch(self, step: int) -> float:
        """Epochs done after `step` optimiser steps."""
        before = 0
        for number, end in enumerate(self.epoch_ends):
            if step <= end:
                return number + (step - before) / max(end - before, 1)
            before = end
        return float(len(self.epoch_ends))


#: For methods that move no weight.
NOTHING_TO_TRAIN = Plan([], [], 1)


def plan_training(
    lengths: Sequence[int] | np.ndarray,
    *,
    batch_tokens: int,
    batch_size: int,
    epochs: float,
    gradient_accumulation: int,
    max_steps: int | None,
    seed: int,
    packed: int | None = None,
) -> Plan:
    """Plan all batches of all epochs.

    Each epoch is shuffled by a generator of its own (seeded by `seed` and its number), cut into
    windows, sorted by length within each, and filled into batches of at most `batch_size`
    records and `batch_tokens` tokens, padding included; a longer record makes a batch alone.

    With `packed`, the records of a window fill rows of that many tokens, the longest first and each into
    the fullest row that has room (best-fit decreasing), and a batch is as many rows, drawn at random, as
    `batch_tokens` allow; `batch_size` has no say.
    """
    lengths = np.asarray(lengths)
    batches: list[list[int]] = []
    ends: list[int] = []
    for number in range(int(np.ceil(epochs))):
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        if packed is None:
            epoch = _one_epoch(lengths, batch_tokens, batch_size, generator)
        else:
            epoch = _packed_epoch(lengths, batch_tokens, batch_size, packed, generator)
        share = min(1.0, epochs - number)
        if share < 1.0:
            epoch = epoch[: max(1, round(share * len(epoch)))]
        # an optimiser step never mixes epochs, unless one epoch does not fill it
        if number + 1 < epochs and len(epoch) >= gradient_accumulation:
            epoch = epoch[: len(epoch) - len(epoch) % gradient_accumulation]
        batches.extend(epoch)
        ends.append(-(-len(batches) // gradient_accumulation))
        if max_steps is not None and ends[-1] >= max_steps:
            break
    if max_steps is not None:
        batches = batches[: max_steps * gradient_accumulation]
        ends[-1] = min(ends[-1], max_steps)
    return Plan(batches, ends, gradient_accumulation, packed)


def plan_inference(
    lengths: Sequence[int] | np.ndarray, *, batch_tokens: int, batch_size: int
) -> list[list[int]]:
    """Batches for prediction, longest first (so that too little memory shows at once)."""
    lengths = np.asarray(lengths)
    return _fill(np.argsort(-lengths, kind="stable"), lengths, batch_tokens, batch_size)


def _one_epoch(
    lengths: np.ndarray, batch_tokens: int, batch_size: int, generator: np.random.Generator
) -> list[list[int]]:
    order = generator.permutation(len(lengths))
    batches: list[list[int]] = []
    window = _WINDOW * batch_size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches.extend(_fill(part, lengths, batch_tokens, batch_size))
    return [batches[index] for index in generator.permutation(len(batches))]


def _packed_epoch(
    lengths: np.ndarray, batch_tokens: int, batch_size: int, width: int, generator: np.random.Generator
) -> list[list[int]]:
    order = generator.permutation(len(lengths))
    rows: list[list[int]] = []
    window = _WINDOW * batch_size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        rows += _packed_rows(part[np.argsort(-lengths[part], kind="stable")], lengths, width)
    count = max(1, batch_tokens // width)
    shuffled = [rows[index] for index in generator.permutation(len(rows))]
    return [
        [record for row in shuffled[at : at + count] for record in row]
        for at in range(0, len(shuffled), count)
    ]


def _packed_rows(order: np.ndarray, lengths: np.ndarray, width: int) -> list[list[int]]:
    """Rows of at most `width` tokens of the records in `order` (longest first)."""
    rows: list[list[int]] = []
    # by the room that is left, the rows that have it
    by_room: list[list[int]] = [[] for _ in range(width + 1)]
    for record in order.tolist():
        length = min(int(lengths[record]), width)
        room = next((room for room in range(length, width + 1) if by_room[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, width
        else:
            row = by_room[room].pop()
        rows[row].append(record)
        by_room[room - length].append(row)
    return rows


def _fill(order: np.ndarray, lengths: np.ndarray, batch_tokens: int, batch_size: int) -> list[list[int]]:
    """Cut `order` (longest first) into batches."""
    batches: list[list[int]] = []
    position = 0
    while position < len(order):
        longest = -(-int(lengths[order[position]]) // PAD_TO) * PAD_TO
        size = max(1, min(batch_size, batch_tokens // max(longest, 1)))
        batches.append(order[position : position + size].tolist())
        position += size
    return batches


class RowOutputs:
    """What a network said of each row, gathered from batches in any order.

    `lengths` are the rows' tokens: outputs of a head over tokens lose their padding.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray) -> None:
        self._lengths = np.asarray(lengths)
        self._vectors: np.ndarray | None = None
        self._tokens: list[np.ndarray] = []

    def add(self, rows: Sequence[int], logits: torch.Tensor) -> None:
        """Logits `(rows, outputs)`, or `(rows, length, outputs)` of a head over tokens."""
        values = logits.float().cpu().numpy()
        if values.ndim == 2:
            if self._vectors is None:
                self._vectors = np.empty((len(self._lengths), values.shape[1]), dtype=np.float32)
            self._vectors[rows] = values
            return
        if not self._tokens:
            self._tokens = [values[0, :0]] * len(self._lengths)
        for row, one in zip(rows, values, strict=True):
            self._tokens[row] = one[: self._lengths[row]].copy()

    def outputs(self) -> Measured:
        """One array `(rows, outputs)`, or a list of arrays `(tokens, outputs)`; `(0, 0)` of no rows."""
        if self._tokens:
            return self._tokens
        return self._vectors if self._vectors is not None else np.empty((0, 0), dtype=np.float32)

"""What the frozen part of a network says of each record, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from transformers import PreTrainedModel

from catena import __version__
from catena.errors import BusyError, SettingsError, StorageError
from catena.files import complete_file, exclusive, sha256_file
from catena.methods import Method
from catena.methods.shortcut import Shortcut, by_token
from catena.problems import Problem
from catena.training.batches import PAD_TO, Plan, plan_inference
from catena.training.devices import Device
from catena.training.inputs import network_inputs
from catena.training.tokens import ListColumn, TokenTable

#: The feature that holds what is kept of a record, and the batch's tensor of it.
STATES = "frozen_outputs"
#: Size of the batches they are computed in. Always the same, since rounding depends on it and what is kept
#: is to depend on nothing but its key.
_BATCH_TOKENS = 4096
_BATCH_SIZE = 64
_GIGABYTE = 1_000_000_000
_SECONDS_BETWEEN_LINES = 10.0


class KeptTable:
    """A part of the tokenized data whose rows also hold what the frozen part says of them (`STATES`).

    Both stay on disk until they are asked for.
    """

    def __init__(self, table: TokenTable, file: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Raises `ValueError` where `file` is not whole or of other records."""
        self.table = table
        self.shape = shape
        self.dtype = dtype
        with pa.memory_map(str(file)) as source:
            stored = pa.ipc.open_stream(source).read_all()
        rows = stored.column("row").to_numpy()
        if not np.array_equal(np.sort(rows), np.arange(len(table))):
            raise ValueError("it holds other rows")
        self._places = np.argsort(rows)
        self._states = ListColumn(stored.column("states"))

    @property
    def lengths(self) -> np.ndarray:
        return self.table.lengths

    @property
    def labels(self) -> Any:
        return self.table.labels

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.table[row] | {STATES: self.states(row)}

    def states(self, row: int) -> torch.Tensor:
        """`(tokens, hidden)` where there is a vector for each token, else of the shape that is kept."""
        values = torch.from_numpy(self._states[int(self._places[row])].copy())
        if values.dtype == torch.int16:
            values = values.view(self.dtype)
        states: torch.Tensor = values.view(self.shape)
        return states


Part = TokenTable | KeptTable


def stacked_states(features: Sequence[Mapping[str, Any]], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Kept outputs of the records of a batch; those by token are filled up with zeros to its length."""
    states: list[torch.Tensor] = [feature[STATES] for feature in features]
    if "input_ids" not in batch or states[0].ndim == 1:
        return torch.stack(states)
    filled = states[0].new_zeros((len(states), batch["input_ids"].shape[1], states[0].shape[1]))
    for row, one in enumerate(states):
        filled[row, : len(one)] = one
    return filled


@dataclass(frozen=True)
class Keeper:
    """Keeps what the frozen part of `model` says in `folder`, where all trainings' may take `gigabytes`."""

    model: PreTrainedModel
    problem: Problem
    device: Device
    pad_token_id: int
    folder: Path
    gigabytes: float
    say: Callable[[str], None]

    def keep(
        self, method: Method, source: Path, training: TokenTable, validation: TokenTable, plan: Plan
    ) -> tuple[Shortcut, list[Part]]:
        """The way around the frozen part, and both parts of the data in `source` with what it says of them.

        Raises `SettingsError` where records change from epoch to epoch or share rows, where the network
        does not allow it, or where it would be more than is allowed; `StorageError` where the disk has no
        room. Whoever else keeps outputs in the folder is waited for.
        """
        if self.problem.augments:
            raise SettingsError(
                "`method.cache` keeps what frozen layers say of a record, but `problem.augmentation` alters "
                "it each time it is seen; switch one of them off."
            )
        if plan.packed is not None:
            raise SettingsError(
                "`method.cache` keeps what frozen layers say of each record, but with `training.packing` "
                "they share rows; switch one of them off."
            )
        lengths = training.lengths
        rows = sorted({0, len(training) - 1, int(lengths.argmin()), int(lengths.argmax())})
        with self.device.autocast:
            shortcut = method.shortcut(self.model, self._inputs(self._batch(training, rows)))
        parts = {source / "train.arrow": training, source / "validation.arrow": validation}
        network = self._network_key(shortcut)
        targets = {file: self._target(network, file, table) for file, table in parts.items()}
        tables: dict[Path, KeptTable] = {}
        with _alone(self.folder, self.say):
            shape = self._shape(shortcut, training)
            for file, table in parts.items():
                if (found := _opened(targets[file], table, shape, shortcut.dtype)) is not None:
                    os.utime(targets[file])  # what was used last is removed last
                    tables[file] = found
                    self.say(f"what the frozen layers say of the {file.stem} part is on disk already")
            missing = {
                targets[file]: _bytes(table, shape, shortcut.dtype)
                for file, table in parts.items()
                if file not in tables
            }
            self._make_room(missing, set(targets.values()))
            for file, table in parts.items():
                if file not in tables:
                    self.say(
                        f"keeping what the frozen layers say of the {file.stem} part: {len(table):,} "
                        f"records, about {_size(missing[targets[file]])}"
                    )
                    self._write(shortcut, table, targets[file])
                    tables[file] = KeptTable(table, targets[file], shape, shortcut.dtype)
        return shortcut, [tables[file] for file in parts]

    # -- what it is known by ------------------------------------------------------------------

    def _network_key(self, shortcut: Shortcut) -> str:
        """Digest of all that frozen outputs depend on but the records."""
        digest = hashlib.sha256()
        names = {id(module): name for name, module in self.model.named_modules()}
        config = self.model.config.to_dict()
        about = {
            "catena": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "device": [self.device.kind, self.device.name, self.device.precision, self.device.attention],
            "network": type(self.model).__name__,
            "config": {name: str(value) for name, value in config.items() if name != "_name_or_path"},
            "entry": names[id(shortcut.entry)],
            "layers": [names[id(layer)] for layer in shortcut.skipped],
        }
        digest.update(json.dumps(about, sort_keys=True).encode())
        frozen = {name: weight for name, weight in self.model.named_parameters() if not weight.requires_grad}
        for name, tensor in (frozen | dict(self.model.named_buffers())).items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _target(self, network: str, file: Path, table: TokenTable) -> Path:
        text = f"{network} {self.problem.name} {sha256_file(file)} {table.max_length}"
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.arrow"

    # -- where it lies ------------------------------------------------------------------------

    def _make_room(self, missing: Mapping[Path, int], own: set[Path]) -> None:
        """Remove what was used longest ago. Raises where there is no room even so."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)  # of a process that was killed, since nobody else writes now
        needed = sum(missing.values())
        if not needed:
            return
        limit = self.gigabytes * _GIGABYTE
        kept = {path: path.stat() for path in self.folder.glob("*.arrow")}
        mine = sum(stat.st_size for path, stat in kept.items() if path in own)
        if needed + mine > limit:
            raise SettingsError(
                f"`method.cache` would keep about {_size(needed + mine)} of frozen layers' outputs, more "
                f"than `method.cache_gigabytes` ({self.gigabytes:g}) allows; raise that, shorten "
                "`tokenization.max_length`, or switch `method.cache` off."
            )
        total = sum(stat.st_size for stat in kept.values())
        for path, stat in sorted(kept.items(), key=lambda item: item[1].st_mtime):
            if total + needed <= limit:
                break
            if path not in own:
                path.unlink(missing_ok=True)
                total -= stat.st_size
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StorageError(
                f"`method.cache` would keep about {_size(needed)} of frozen layers' outputs in "
                f"{self.folder}, where only {_size(free)} are free; free some space or switch it off."
            )

    # -- making it ----------------------------------------------------------------------------

    def _write(self, shortcut: Shortcut, table: TokenTable, target: Path) -> None:
        stored = pa.float32() if shortcut.dtype == torch.float32 else pa.int16()
        schema = pa.schema({"row": pa.int32(), "states": pa.list_(stored)})
        done, told = 0, time.monotonic()
        with (
            complete_file(target) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            for rows in plan_inference(table.lengths, batch_tokens=_BATCH_TOKENS, batch_size=_BATCH_SIZE):
                writer.write_batch(_record_batch(rows, *self._said(shortcut, table, rows), schema))
                done += len(rows)
                if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                    self.say(f"kept {done:,} of {len(table):,} records")
                    told = time.monotonic()

    def _shape(self, shortcut: Shortcut, table: TokenTable) -> tuple[int, ...]:
        """The shape of what is kept of a record; -1 stands for its tokens."""
        batch, states = self._said(shortcut, table, [0])
        return (-1, states.shape[2]) if by_token(states, batch) else tuple(states.shape[1:])

    @torch.inference_mode()
    def _said(
        self, shortcut: Shortcut, table: TokenTable, rows: Sequence[int]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """A batch, and what the frozen part says of it."""
        self.model.eval()
        batch = self._batch(table, rows)
        with self.device.autocast:
            return batch, shortcut.states(self._inputs(batch))

    def _batch(self, table: TokenTable, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = self.problem.collate([table[row] for row in rows], self.pad_token_id, PAD_TO)
        return {name: values.to(self.device.torch_device) for name, values in batch.items()}

    def _inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return network_inputs(self.model, batch, self.problem.generates)


def _bytes(table: TokenTable, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """About what a part takes on disk."""
    values = int(np.prod([abs(size) for size in shape]))
    return values * int(table.lengths.sum() if -1 in shape else len(table)) * dtype.itemsize


def _record_batch(
    rows: Sequence[int], batch: Mapping[str, torch.Tensor], states: torch.Tensor, schema: pa.Schema
) -> pa.RecordBatch:
    """The rows' states in the form of the file, without padding."""
    states = states.cpu()
    if by_token(states, batch):
        mask = batch["attention_mask"].bool()
        tokens, values = mask.sum(1).cpu().numpy(), states[mask.cpu()]
        if not np.array_equal(mask.cpu().numpy(), np.arange(mask.shape[1]) < tokens[:, None]):
            raise ValueError("padding stands before a text")
    else:
        tokens, values = np.ones(len(rows), dtype=np.int64), states.flatten(1)
    flat = values.contiguous().view(-1)
    if flat.dtype != torch.float32:
        flat = flat.view(torch.int16)  # the same two bytes; Arrow has no bfloat16
    offsets = np.concatenate([[0], np.cumsum(tokens * values.shape[1])]).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.numpy()))
    return pa.RecordBatch.from_arrays([pa.array(np.asarray(rows, dtype=np.int32)), column], schema=schema)


def _opened(file: Path, table: TokenTable, shape: tuple[int, ...], dtype: torch.dtype) -> KeptTable | None:
    """What is kept in `file`, if it is there and whole; what is damaged is removed."""
    if not file.exists():
        return None
    try:
        return KeptTable(table, file, shape, dtype)
    except (pa.ArrowInvalid, OSError, KeyError, ValueError):
        file.unlink(missing_ok=True)
        return None


@contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Nobody else writes into the folder, or removes from it, in the block."""
    with ExitStack() as stack:
        for attempt in count():
            try:
                stack.enter_context(exclusive(folder / "lock", "Keeping outputs of frozen layers"))
                break
            except BusyError:
                if not attempt:
                    say("waiting for another training that keeps outputs of frozen layers here")
                time.sleep(0.2)
        yield


def _size(amount: float) -> str:
    """Bytes in words."""
    if amount >= _GIGABYTE:
        return f"{amount / _GIGABYTE:.1f} GB"
    return f"{max(amount / 1e6, 0.1):.1f} MB"

"""Tokenized records in memory-mapped Arrow: written by the tokenize stage, read by the engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from catena.errors import DataError
from catena.files import complete_file


def write_tokens(target: Path, batches: Iterable[dict[str, list[Any]]]) -> int:
    """Stream features into an Arrow file, `input_ids` as 32-bit lists; returns the number of rows."""
    rows = 0
    with complete_file(target) as partial:
        writer: pa.RecordBatchStreamWriter | None = None
        try:
            for features in batches:
                batch = pa.RecordBatch.from_pydict(
                    {
                        name: pa.array(values, pa.list_(pa.int32()) if name == "input_ids" else None)
                        for name, values in features.items()
                    }
                )
                if writer is None:
                    writer = pa.ipc.new_stream(str(partial), batch.schema)
                writer.write_batch(batch)
                rows += batch.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows


class TokenTable:
    """One part of the tokenized data; rows stay on disk until they are asked for.

    With `max_length`, longer rows are shortened: their last token, which ends the text, stays.
    """

    def __init__(self, file: Path, max_length: int | None = None) -> None:
        if not file.is_file():
            raise DataError(f"{file} is missing; run the tokenize stage first.")
        try:
            with pa.memory_map(str(file)) as source:
                self._table = pa.ipc.open_stream(source).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{file} is cut off or damaged ({error}); run the tokenize stage again."
            ) from error
        chunks = self._table.column("input_ids").chunks
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self.lengths = np.concatenate([*map(np.diff, self._offsets), np.empty(0, np.int32)])
        self.max_length = max_length
        if max_length is not None:
            self.lengths = np.minimum(self.lengths, max_length)
        has_labels = "labels" in self._table.column_names
        self.labels = self._table.column("labels").to_numpy() if has_labels else None

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets = self._offsets[chunk]
        inside = row - int(self._starts[chunk])
        ids = self._values[chunk][offsets[inside] : offsets[inside + 1]]
        if self.max_length is not None and len(ids) > self.max_length:
            ids = np.concatenate([ids[: self.max_length - 1], ids[-1:]])
        features: dict[str, Any] = {"input_ids": ids}
        if self.labels is not None:
            features["labels"] = int(self.labels[row])
        return features

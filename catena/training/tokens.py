"""Tokenized records in memory-mapped Arrow: written by the tokenize stage, read by the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from catena.errors import DataError
from catena.files import complete_file
from catena.methods import Records

#: Columns that describe a row and are not shown to the network.
_NOT_FEATURES = ("id", "record", "augmented", "input_ids", "n_tokens", "length")


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


class ListColumn:
    """A list column as views into the file: values, and where each row's begin."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
        self.offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self.values = [chunk.values.to_numpy() for chunk in column.chunks]
        self.lengths = np.concatenate([*map(np.diff, self.offsets), np.empty(0, np.int32)])

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = int(np.searchsorted(self.starts, row, side="right")) - 1
        offsets, inside = self.offsets[chunk], row - int(self.starts[chunk])
        values: np.ndarray = self.values[chunk][offsets[inside] : offsets[inside + 1]]
        return values


@dataclass(frozen=True)
class SomeRows:
    """Some rows of records, in the order of `rows`."""

    records: Records
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        return self.records[int(self.rows[row])]


class TokenTable:
    """One part of the tokenized data; rows stay on disk until they are asked for.

    With `max_length`, longer rows are shortened: their last token, which ends the text, stays. So
    are the features named in `by_token`, which have one value for each token.
    """

    def __init__(self, file: Path, max_length: int | None = None, by_token: Collection[str] = ()) -> None:
        if not file.is_file():
            raise DataError(f"{file} is missing; run the tokenize stage first.")
        try:
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_stream(source).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{file} is cut off or damaged ({error}); run the tokenize stage again."
            ) from error
        self._rows = int(table.num_rows)
        self._ids = ListColumn(table.column("input_ids")) if "input_ids" in table.column_names else None
        self.max_length = max_length
        #: What each row takes of a batch's token budget.
        self.lengths = self._lengths(table)
        self._features: dict[str, np.ndarray | ListColumn] = {
            name: ListColumn(column) if pa.types.is_list(column.type) else column.to_numpy()
            for name, column in zip(table.column_names, table.columns, strict=True)
            if name not in _NOT_FEATURES
        }
        self._by_token = frozenset(by_token)
        #: The rows that no augmentation has made.
        self._collected: np.ndarray | None = None
        if "augmented" in table.column_names:
            self._collected = np.flatnonzero(~table.column("augmented").to_numpy())

    def _lengths(self, table: pa.Table) -> np.ndarray:
        if "length" in table.column_names:
            return np.asarray(table.column("length").to_numpy())
        if self._ids is None:
            return np.ones(self._rows, dtype=np.int64)
        most = self.max_length
        return self._ids.lengths if most is None else np.minimum(self._ids.lengths, most)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        features: dict[str, Any] = {} if self._ids is None else {"input_ids": self._cut(self._ids[row])}
        for name in self._features:
            features[name] = self._feature(name, row)
        return features

    @property
    def collected(self) -> Records:
        """The records that were collected: none that augmentation has altered or written, or with a
        pseudo-label."""
        if self._collected is None or len(self._collected) == len(self):
            return self
        return SomeRows(self, self._collected)

    @property
    def labels(self) -> Any:
        """The targets: an array, a list of arrays where a row has several, nothing where there are none."""
        values = self._features.get("labels")
        if isinstance(values, ListColumn):
            return [self._feature("labels", row) for row in range(self._rows)]
        return values

    def _feature(self, name: str, row: int) -> Any:
        values = self._features[name][row]
        return self._cut(values) if name in self._by_token else values

    def _cut(self, values: np.ndarray) -> np.ndarray:
        if self.max_length is None or len(values) <= self.max_length:
            return values
        return np.concatenate([values[: self.max_length - 1], values[-1:]])

"""Parquet files and folders saved by the `datasets` library."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catena.data.formats import Batch, Wanted, empty_broken, missing_columns
from catena.data.text_stream import check_present
from catena.data.values import column_as_text
from catena.errors import DataError

_ROWS = 20_000


def read_parquet(path: Path, wanted: Wanted) -> Iterator[Batch]:
    """Yield the records of a Parquet file, gzipped or not."""
    check_present(path)
    with _parquet(path) as file:
        _check_columns(path, file.schema_arrow.names, wanted)
        columns = [column for column in wanted.columns if column in file.schema_arrow.names]
        names = _class_names(file.schema_arrow.metadata)
        yield from _batches(path, file.iter_batches(batch_size=_ROWS, columns=columns), wanted, names)


def parquet_columns(path: Path) -> list[str]:
    """Names of a Parquet file's columns."""
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def read_dataset(path: Path, wanted: Wanted) -> Iterator[Batch]:
    """Yield the records of a folder that `Dataset.save_to_disk` wrote: one part of a data set."""
    if (path / "dataset_dict.json").is_file():
        parts = ", ".join(json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"])
        raise DataError(f"{path.name} holds several parts ({parts}); name one, as in `data.train: train`.")
    if not path.is_dir():
        check_present(path)
        raise DataError(f"{path.name} is a file, not a folder saved by the `datasets` library.")
    from datasets import ClassLabel, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (FileNotFoundError, pa.ArrowInvalid, ValueError, KeyError) as error:
        raise DataError(
            f"{path.name} is not a whole folder of the `datasets` library ({str(error).splitlines()[0]}); "
            "save it again with `save_to_disk`."
        ) from None
    _check_columns(path, dataset.column_names, wanted)
    columns = [column for column in wanted.columns if column in dataset.column_names]
    features = dataset.features
    kinds = {column: getattr(features[column], "feature", features[column]) for column in columns}
    names = {column: list(kind.names) for column, kind in kinds.items() if isinstance(kind, ClassLabel)}
    arrow = dataset.select_columns(columns).with_format("arrow")
    yield from _batches(path, arrow.iter(batch_size=_ROWS), wanted, names)


def _batches(
    path: Path, tables: Iterable[pa.Table | pa.RecordBatch], wanted: Wanted, names: dict[str, list[str]]
) -> Iterator[Batch]:
    row = 0
    for table in tables:
        texts = {
            wanted.columns[column]: column_as_text(
                table.column(column),
                names.get(column),
                f"{path.name}: column `{column}`",
                wanted.columns[column] in wanted.kept
                or wanted.contents.get(wanted.columns[column]) in ("tokens", "json"),
            )
            for column in table.schema.names
        }
        records = pa.table(texts).to_pandas()
        records["row"] = np.arange(row + 1, row + 1 + table.num_rows, dtype=np.int64)
        row += table.num_rows
        yield Batch(records, empty_broken())


def _check_columns(path: Path, there: list[str], wanted: Wanted) -> None:
    error = missing_columns(path, wanted, there)
    if error is not None:
        raise error
    for column in wanted.columns:
        if there.count(column) > 1:
            raise DataError(f"{path.name} has {there.count(column)} columns named {column!r}; rename one.")


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Names of numbered classes, also in lists, that the `datasets` library left in a Parquet file."""
    try:
        features: dict[str, Any] = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    kinds = {
        column: feature.get("feature", feature)
        for column, feature in features.items()
        if isinstance(feature, dict)
    }
    return {
        column: list(kind["names"])
        for column, kind in kinds.items()
        if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" and "names" in kind
    }


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """The opened Parquet file; whatever Arrow finds wrong in it within the block becomes a `DataError`."""
    with _seekable(path) as source:
        try:
            yield pq.ParquetFile(source)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path.name} is not a whole Parquet file ({str(error).splitlines()[0].rstrip('.')}); "
                "copy or download it again."
            ) from None


@contextmanager
def _seekable(path: Path) -> Iterator[IO[bytes]]:
    """The file opened for reading at any place; a gzipped one is unpacked into a nameless file first."""
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as unpacked:
        try:
            with gzip.open(path) as source:
                shutil.copyfileobj(source, unpacked, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DataError(f"{path.name} is cut off or not gzipped; copy or download it again.") from None
        unpacked.seek(0)
        yield cast(IO[bytes], unpacked)

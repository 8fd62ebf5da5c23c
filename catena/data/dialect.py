"""How a user's file is written: encoding, separators, quotes, header line, columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from catena.data.formats import read_records
from catena.data.guesses import guess_delimiter, guess_header, guess_quoting
from catena.data.text_stream import likely_encoding, open_text, sample_bytes
from catena.errors import DataError
from catena.settings import DataSettings
from catena.settings.data import Format

#: Records that guesses look at.
SAMPLE_RECORDS = 5_000


def how_to_read(path: Path, kind: Format, named: Sequence[str]) -> tuple[DataSettings, list[str]]:
    """Settings that read the file, and its columns; its roles are still to be chosen.

    `named` are columns that the user has named, which tells a header line.
    """
    update: dict[str, Any] = {"name": "data", "format": kind, "train": path.name}
    if kind in ("parquet", "dataset"):
        return DataSettings(**update), _binary_columns(path, kind)
    encoding = likely_encoding(sample_bytes(path)) or "utf-8"
    update["encoding"] = encoding
    if kind == "jsonl":
        return DataSettings(**update), _json_columns(path, encoding)
    with open_text(path, encoding) as (_, stream):
        head = stream.peek(1 << 18)[: 1 << 18].decode("utf-8", "ignore").splitlines()[:200]
    delimiter = "\t" if kind == "orange" else guess_delimiter(head, "," if kind == "csv" else "\t")
    update["quoting"] = kind == "csv" or guess_quoting(head, delimiter)
    if delimiter != ("," if kind == "csv" else "\t"):
        update["delimiter"] = delimiter
    rows = list(
        csv.reader(
            head, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if update["quoting"] else csv.QUOTE_NONE
        )
    )
    first = [field.strip() for field in rows[0]] if rows else []
    if kind != "orange" and not guess_header(rows, named):
        first = [f"column_{number}" for number in range(1, len(first) + 1)]
        update["column_names"] = tuple(first)
    return DataSettings(**update), first


def _binary_columns(path: Path, kind: Format) -> list[str]:
    if kind == "dataset":
        from datasets import load_from_disk

        return list(load_from_disk(str(path)).column_names)
    from catena.data.columnar import parquet_columns

    return parquet_columns(path)


def _json_columns(path: Path, encoding: str) -> list[str]:
    from catena.data.json_lines import json_columns

    return json_columns(path, encoding)


def first_records(path: Path, settings: DataSettings, columns: Sequence[str]) -> pd.DataFrame:
    """The first records with all columns, under their own names."""
    unique = [name for name in dict.fromkeys(columns) if columns.count(name) == 1]
    for batch in read_records(path, settings.model_copy(update={"columns": {}}), (), keep=unique):
        return batch.records[unique].head(SAMPLE_RECORDS)
    raise DataError(f"{path.name} has no records; put them there or name another file.")

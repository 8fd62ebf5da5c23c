"""CSV, TSV and Orange's tab-separated files, parsed by Arrow in blocks."""

from __future__ import annotations

import bisect
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from catena.data.formats import Batch, Wanted, broken_rows, missing_columns
from catena.data.text_stream import TextStream, check_line_ends, open_text
from catena.errors import DataError
from catena.settings import DataSettings

#: Bytes parsed at once; a single record may not be larger.
_BLOCK = 32 << 20
_HEADER_LIMIT = 1 << 20
_ORANGE_TYPES = {"", "c", "continuous", "d", "discrete", "s", "string", "t", "time", "basket"}
_ORANGE_FLAGS = ("class", "meta", "ignore", "i", "c", "m", "w", "weight")


def read_delimited(path: Path, kind: str, settings: DataSettings, wanted: Wanted) -> Iterator[Batch]:
    """Yield the records of a delimited file; rows with too few or too many columns come as broken."""
    with open_text(path, settings.encoding) as (stream, buffered):
        check_line_ends(path, buffered)
        delimiter = settings.delimiter or ("," if kind == "csv" else "\t")
        names = _columns(path, kind, settings, delimiter, buffered)
        error = missing_columns(path, wanted, names, _hint(settings))
        if error is not None:
            raise error
        for column in wanted.columns:
            if names.count(column) > 1:
                raise DataError(
                    f"{path.name} has {names.count(column)} columns named {column!r}, so it is not clear "
                    "which one is meant; rename one in the header."
                )
        yield from _parse(path, settings, delimiter, names, wanted, stream, buffered)


def is_orange(path: Path) -> bool:
    """Whether the second and third line are Orange's types and flags."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
            lines = [stream.readline(_HEADER_LIMIT).decode("utf-8", "replace") for _ in range(3)]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    types = [field.strip().lower() for field in lines[1].rstrip("\r\n").split("\t")]
    flags = [field.strip().lower() for field in lines[2].rstrip("\r\n").split("\t")]
    # Discrete columns may list their values instead of `discrete`, so one known type is enough.
    return (
        len(types) == len(flags) == len(lines[0].rstrip("\r\n").split("\t"))
        and any(field and field in _ORANGE_TYPES for field in types)
        and all(not field or field.split(" ")[0].startswith(_ORANGE_FLAGS) for field in flags)
    )


def _columns(
    path: Path, kind: str, settings: DataSettings, delimiter: str, buffered: io.BufferedReader[TextStream]
) -> list[str]:
    """Names of the file's columns; reads past its header, if it has one."""
    if settings.column_names is not None:
        names = list(settings.column_names)
        first = buffered.peek(_HEADER_LIMIT).split(b"\n", 1)[0].decode("utf-8", "replace")
        fields = next(csv.reader([first], delimiter=delimiter, **_quoting(settings)), [])
        if len(fields) != len(names) and '"' not in first:
            raise DataError(
                f"{path.name} has {len(fields)} columns in its first row but `data.column_names` names "
                f"{len(names)}; name every column, and check `data.delimiter` (now {delimiter!r})."
            )
        return names
    names = _header(path, delimiter, settings, buffered)
    if not names:
        raise DataError(f"{path.name} holds nothing but blank lines; put the records there.")
    if kind == "orange":
        for _ in range(2):
            buffered.readline(_HEADER_LIMIT)
    return names


def _header(
    path: Path, delimiter: str, settings: DataSettings, buffered: io.BufferedReader[TextStream]
) -> list[str]:
    """The first record's fields; quoted fields may hold line breaks."""
    text = ""
    while len(text) < _HEADER_LIMIT:
        line = buffered.readline(_HEADER_LIMIT).decode("utf-8")
        text += line
        if not line or (text.strip() and not (settings.quoting and text.count('"') % 2)):
            break
    fields = next(csv.reader(io.StringIO(text.lstrip("\r\n")), delimiter=delimiter, **_quoting(settings)), [])
    return [field.strip() for field in fields]


def _hint(settings: DataSettings) -> str:
    if settings.column_names is not None:
        return " (the names come from `data.column_names`)"
    return ", or `data.column_names` where the file has no header line"


def _quoting(settings: DataSettings) -> dict[str, Any]:
    return {} if settings.quoting else {"quoting": csv.QUOTE_NONE}


def _parse(
    path: Path,
    settings: DataSettings,
    delimiter: str,
    names: list[str],
    wanted: Wanted,
    stream: TextStream,
    buffered: io.BufferedReader[TextStream],
) -> Iterator[Batch]:
    positions = {names.index(column): name for column, name in wanted.columns.items() if column in names}
    placeholders = [str(position) for position in range(len(names))]
    broken: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    rows = 0
    last: object = None
    try:
        reader = pa_csv.open_csv(
            pa.PythonFile(buffered, mode="r"),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK, column_names=placeholders, encoding="utf8"
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if settings.quoting else False,
                newlines_in_values=settings.quoting,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[str(position) for position in positions],
                column_types={str(position): pa.large_string() for position in positions},
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        handed = 0
        for block in reader:
            numbers = row_numbers(rows, block.num_rows, [row.number for row in broken])
            records = pa.table(block.columns, names=list(positions.values())).to_pandas()
            records["row"] = numbers
            rows = int(numbers[-1]) if len(numbers) else rows
            if len(numbers):
                last = block.slice(block.num_rows - 1).to_pylist()[0]
            yield Batch(records, _broken(broken[handed:]))
            handed = len(broken)
        if len(broken) > handed:
            yield Batch(_no_records(positions), _broken(broken[handed:]))
    except pa.ArrowInvalid as error:
        if stream.failure is not None:
            raise stream.failure from None
        if "Empty CSV" in str(error):
            return
        row = max([rows, *(entry.number for entry in broken)]) + 1
        raise DataError(
            f"{path.name}, row {row} or after: a record is larger than {_BLOCK >> 20} MB, most likely "
            f"because a double quote is never closed; close it, or set `data.quoting: false` ({error})."
        ) from None
    if settings.quoting and stream.quotes % 2:
        _check_last(path, rows, last, broken)


def _check_last(path: Path, rows: int, last: object, broken: list[pa_csv.InvalidRow]) -> None:
    """Raise `DataError` when the file's end was swallowed by a quote that is never closed."""
    if broken and broken[-1].number > rows:
        row, swallowed = broken[-1].number, "\n" in broken[-1].text
    else:
        row = rows
        swallowed = isinstance(last, dict) and any("\n" in str(value) for value in last.values())
    if swallowed:
        raise DataError(
            f"{path.name}, row {row}: a double quote is opened and never closed; close it (a quote within a "
            "quoted field is written twice), or set `data.quoting: false` where quotes are literal text."
        )


def row_numbers(before: int, count: int, invalid: list[int]) -> np.ndarray:
    """Numbers of the next `count` records after record `before`, leaving out the `invalid` ones (sorted)."""
    skipped = bisect.bisect_right(invalid, before)
    numbers = np.arange(before + 1, before + 1 + count + len(invalid) - skipped, dtype=np.int64)
    return np.setdiff1d(numbers, np.asarray(invalid[skipped:], dtype=np.int64), assume_unique=True)[:count]


def _broken(rows: list[pa_csv.InvalidRow]) -> pd.DataFrame:
    return broken_rows(
        [row.number for row in rows],
        [row.text for row in rows],
        [f"{row.actual_columns} columns instead of {row.expected_columns}" for row in rows],
    )


def _no_records(positions: dict[int, str]) -> pd.DataFrame:
    columns = {name: pd.array([], dtype="str") for name in positions.values()}
    return pd.DataFrame(columns | {"row": pd.array([], dtype="int64")})

"""JSON Lines: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows, missing_columns
from catena.data.text_stream import check_line_ends, open_text
from catena.data.values import LabelKinds, as_text, tokens_as_text
from catena.errors import DataError

_LINES = 20_000
_LINE_LIMIT = 256 << 20


def read_json_lines(path: Path, encoding: str, wanted: Wanted) -> Iterator[Batch]:
    """Yield the records of a JSON Lines file; lines that are no JSON object come as broken.

    Raises `DataError` when a wanted column occurs in none of the first lines, when the file is one
    JSON array, and at the first label of another type than those before.
    """
    kinds = LabelKinds(path, wanted)
    with open_text(path, encoding) as (_, stream):
        check_line_ends(path, stream)
        if stream.peek(64).lstrip()[:1] == b"[":
            raise DataError(
                f"{path.name} is one JSON array, not JSON Lines; write one object a line, "
                f"for example with `jq -c '.[]' {path.name} > {path.stem}.jsonl`."
            )
        lines = (line for line in iter(lambda: stream.readline(_LINE_LIMIT), b"") if line.strip())
        row = 0
        while chunk := list(islice(lines, _LINES)):
            batch = _batch(chunk, row, wanted, kinds)
            if row == 0 and len(batch.records):
                _check_columns(path, chunk, wanted)
            row += len(chunk)
            yield batch


def _batch(lines: list[bytes], before: int, wanted: Wanted, kinds: LabelKinds) -> Batch:
    """The records of some lines, the first of them being row `before + 1`."""
    rows: list[int] = []
    values: dict[str, list[str | None]] = {name: [] for name in wanted.columns.values()}
    broken_numbers: list[int] = []
    starts: list[str] = []
    reasons: list[str] = []
    for number, line in enumerate(lines, before + 1):
        try:
            parsed = json.loads(line)
            if not isinstance(parsed, dict):
                raise ValueError(f"a JSON {_kind(parsed)} instead of an object")
            record = _texts(parsed, number, wanted, kinds)
        except (ValueError, RecursionError) as error:
            reason = f"not valid JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
            broken_numbers.append(number)
            starts.append(line[:2000].decode("utf-8", "replace"))
            reasons.append(reason)
            continue
        rows.append(number)
        for name, value in record.items():
            values[name].append(value)
    records = pd.DataFrame({name: pd.array(column, dtype="str") for name, column in values.items()})
    records["row"] = pd.array(rows, dtype="int64")
    return Batch(records, broken_rows(broken_numbers, starts, reasons))


def _texts(parsed: dict[str, Any], row: int, wanted: Wanted, kinds: LabelKinds) -> dict[str, str | None]:
    """The wanted values of one object as text; raises `ValueError` with the reason when one has none."""
    texts: dict[str, str | None] = {}
    for column, name in wanted.columns.items():
        value = parsed.get(column)
        if name == wanted.target:
            kinds.check(value, row)
        content = wanted.contents.get(name)
        if content == "tokens" and isinstance(value, list):
            value = tokens_as_text(value, column)
        if isinstance(value, list | dict) and name not in wanted.kept and content != "json":
            raise ValueError(f"`{column}` holds a JSON {_kind(value)} instead of text")
        text = as_text(value)
        if text is not None and not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError(
                    f"`{column}` holds half of a surrogate pair, which is no character"
                ) from None
        texts[name] = text
    return texts


def _check_columns(path: Path, lines: list[bytes], wanted: Wanted) -> None:
    """Raise `DataError` when a wanted column occurs in none of `lines`."""
    error = missing_columns(path, wanted, _fields(lines))
    if error is not None:
        raise error


def json_columns(path: Path, encoding: str) -> list[str]:
    """Names of the fields in the first lines of a JSON Lines file."""
    with open_text(path, encoding) as (_, stream):
        return _fields(list(islice(iter(lambda: stream.readline(_LINE_LIMIT), b""), _LINES)))


def _fields(lines: list[bytes]) -> list[str]:
    """Names of all fields of the objects in `lines`."""
    there: dict[str, None] = {}
    for line in lines:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(parsed, dict):
            there |= dict.fromkeys(parsed)
    return list(there)


def _kind(value: object) -> str:
    names = {list: "array", dict: "object", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")

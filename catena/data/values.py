"""Values of any type as text: how numbers, truth values and missing values in a column are read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catena.data.formats import Wanted
from catena.errors import DataError


def as_text(value: Any) -> str | None:
    """A JSON value as text: `1` and `1.0` are "1", `true` is "true", null and NaN are missing.

    Arrays and objects are written as compact JSON.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def tokens_as_text(tokens: list[Any], column: str) -> str:
    """Tokens with a space between them; raises `ValueError` where that would not give them back."""
    if not tokens or not all(isinstance(token, str) and len(token.split()) == 1 for token in tokens):
        raise ValueError(f"`{column}` holds no tokens, an empty one, or one with a space in it")
    return " ".join(token.strip() for token in tokens)


class LabelKinds:
    """Watches that all labels of a file are of one type, since 1 and "1" may or may not be one class."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        self._column = next((c for c, name in wanted.columns.items() if name == wanted.target), "")
        self._first: tuple[str, object, int] | None = None

    def check(self, value: object, row: int) -> None:
        """Raise `DataError` when the label in `row` is of another type than the first one."""
        if value is None:
            return
        if isinstance(value, bool):
            kind = "true/false"
        else:
            kind = "a number" if isinstance(value, int | float) else "text"
        if self._first is None:
            self._first = (kind, value, row)
        elif kind != self._first[0]:
            before, example, where = self._first
            raise DataError(
                f"{self._path.name}: the labels in `{self._column}` are of mixed types, {before} "
                f"in row {where} ({example!r}) and {kind} in row {row} ({value!r:.60}); "
                "write all of them the same way."
            )


def column_as_text(
    values: pa.ChunkedArray | pa.Array, class_names: list[str] | None, where: str, listed: bool = False
) -> pa.Array:
    """An Arrow column as large strings, by the rules of `as_text`; numbered classes by their names.

    Lists and structs become JSON where the column is one that may hold them (`listed`).
    Raises `DataError` (beginning with `where`) for types that are no text.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_dictionary(kind):
        return column_as_text(values.dictionary_decode(), class_names, where)
    if class_names is not None and pa.types.is_integer(kind):
        numbers = pc.if_else(pc.less(values, 0), None, values)
        if (pc.max(numbers).as_py() or 0) >= len(class_names):
            raise DataError(f"{where}: a class number is not among the {len(class_names)} named classes.")
        return pc.take(pa.array(class_names, pa.large_string()), numbers)
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_finite(values), values, None)
        # Larger whole numbers do not fit into 64-bit integers.
        whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
        integral = pc.cast(pc.cast(pc.floor(values), pa.int64(), safe=False), pa.large_string())
        return pc.if_else(whole, integral, pc.cast(values, pa.large_string()))
    if listed and (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind)):
        rows = values.to_pylist()
        if class_names is not None:
            rows = [row and _class_names(row, class_names, where) for row in rows]
        return pa.array([as_text(row) for row in rows], pa.large_string())
    if pa.types.is_nested(kind):
        raise DataError(f"{where} holds {kind}, which is no text; flatten it, or choose another column.")
    try:
        return pc.cast(values, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where} holds {kind}, which cannot be read as text ({error}).") from None


def _class_names(numbers: list[Any], names: list[str], where: str) -> list[str]:
    """The names of some numbered classes."""
    if not all(isinstance(number, int) and 0 <= number < len(names) for number in numbers):
        raise DataError(f"{where}: a class number is not among the {len(names)} named classes.")
    return [names[number] for number in numbers]

"""CoNLL files: a token and its tags on each line, a blank line after each sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows, missing_columns
from catena.data.text_stream import open_text
from catena.settings import DataSettings

_SENTENCES = 5_000
_LINE_LIMIT = 1 << 20
_DOCUMENT = "-DOCSTART-"
#: The role whose column becomes running text; all others become JSON lists of one value a token.
_TEXT = "text"
_NUMBER = re.compile(r"-?[1-9]\d*")


@dataclass
class _Sentence:
    """The lines of one sentence: the number of the first, their columns, and what is wrong with them."""

    row: int
    lines: list[list[str]] = field(default_factory=list)
    reason: str = ""


def read_conll(path: Path, settings: DataSettings, wanted: Wanted) -> Iterator[Batch]:
    """Yield the sentences of a CoNLL file; `row` is the number of the line where each begins.

    Columns are divided by white space, or by `data.delimiter` (a tab where the first line has one). They
    are called as in `data.column_names`, or by number: `1` is the first, `-1` and `last` are the last.
    Tokens become text with a space between them; lines `-DOCSTART-` and comments are left out. A
    sentence whose lines differ in their number of columns comes as broken. Raises `DataError` for
    columns that the file does not have.
    """
    with open_text(path, settings.encoding) as (_, stream):
        lines = (line.decode("utf-8", "replace") for line in iter(lambda: stream.readline(_LINE_LIMIT), b""))
        sentences = _sentences(lines, settings)
        columns: dict[str, int] | None = None
        while chunk := list(islice(sentences, _SENTENCES)):
            if columns is None:
                width = next((len(s.lines[0]) for s in chunk if s.lines), 0)
                columns = _columns(path, settings, wanted, width)
            yield _batch(chunk, columns)


def _sentences(lines: Iterator[str], settings: DataSettings) -> Iterator[_Sentence]:
    delimiter = settings.delimiter
    width = len(settings.column_names or ()) or None
    sentence: _Sentence | None = None
    for number, line in enumerate(lines, 1):
        complete = line.endswith("\n")
        line = line.rstrip("\r\n")
        if not line.strip():
            if sentence is not None:
                yield sentence
            sentence = None
            continue
        if width is None and delimiter is None and "\t" in line.strip():
            delimiter = "\t"
        columns = line.split(delimiter) if delimiter is not None else line.split()
        if sentence is None and (columns[0] == _DOCUMENT or (line.startswith("#") and len(columns) != width)):
            continue
        width = width or len(columns)
        sentence = sentence or _Sentence(number)
        if not sentence.reason:
            sentence.reason = _fault(columns, width, number, complete)
        sentence.lines.append(columns)
    if sentence is not None:
        yield sentence


def _fault(columns: list[str], width: int, number: int, complete: bool) -> str:
    if len(columns) != width:
        ending = "" if complete else ", the last: the file seems cut off"
        return f"{len(columns)} columns instead of {width} (line {number}{ending})"
    return ""


def _columns(path: Path, settings: DataSettings, wanted: Wanted, width: int) -> dict[str, int]:
    """Where the wanted columns are, by the name they get."""
    names = list(settings.column_names or map(str, range(1, width + 1)))
    aliases = {"first": 0, "last": width - 1}
    places: dict[str, int] = {}
    there = list(names)
    for column, name in wanted.columns.items():
        if column in names:
            places[name] = names.index(column)
        elif column in aliases:
            places[name] = aliases[column]
            there.append(column)
        elif _NUMBER.fullmatch(column) and 0 < abs(int(column)) <= width:
            places[name] = int(column) - 1 if int(column) > 0 else width + int(column)
            there.append(column)
    error = missing_columns(path, wanted, there, " by name, by number, or `last`")
    if error is not None:
        raise error
    return places


def _batch(sentences: list[_Sentence], columns: dict[str, int]) -> Batch:
    if _TEXT in columns:
        _check_tokens(sentences, columns[_TEXT])
    sound = [sentence for sentence in sentences if not sentence.reason]
    broken = [sentence for sentence in sentences if sentence.reason]
    records = pd.DataFrame(
        {
            name: pd.array([_value(name, sentence, at) for sentence in sound], dtype="str")
            for name, at in columns.items()
        }
    )
    records["row"] = pd.array([sentence.row for sentence in sound], dtype="int64")
    texts = [" ".join(line[0] for line in sentence.lines) for sentence in broken]
    return Batch(
        records,
        broken_rows([sentence.row for sentence in broken], texts, [sentence.reason for sentence in broken]),
    )


def _value(name: str, sentence: _Sentence, at: int) -> str:
    values = [line[at].strip() for line in sentence.lines]
    return " ".join(values) if name == _TEXT else json.dumps(values, ensure_ascii=False)


def _check_tokens(sentences: list[_Sentence], at: int) -> None:
    """Note sentences with a token that running text would not show as one."""
    for sentence in sentences:
        if not sentence.reason and any(len(line[at].split()) != 1 for line in sentence.lines):
            sentence.reason = "an empty token, or one with a space in it"

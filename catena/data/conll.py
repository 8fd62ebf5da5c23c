"""CoNLL files: a token and its tags on each line, a blank line after each sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path

import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows, missing_columns
from catena.data.text_stream import check_line_ends, open_text
from catena.errors import DataError
from catena.settings import DataSettings

_SENTENCES = 5_000
_DOCUMENTS = 250
#: Longest document that is one record, in sentences; longer ones give several.
_LONGEST = 1_000
_LINE_LIMIT = 1 << 20
_DOCUMENT = "-DOCSTART-"
#: The role whose column becomes running text; all others become JSON lists of one value a token.
_TEXT = "text"
_NUMBER = re.compile(r"-?[1-9]\d*")
#: A comment as CoNLL-U has them, which may have as many words as there are columns.
_COMMENT = re.compile(r"# ?[\w:.-]+ ?= ")


@dataclass
class _Sentence:
    """The lines of one sentence: the number of the first, their columns, and what is wrong with them."""

    row: int
    lines: list[list[str]] = field(default_factory=list)
    reason: str = ""
    #: How many documents had begun before it, by the lines that say so; 0 where none said so.
    document: int = 0
    #: Where further sentences begin among the lines, once a record holds several.
    breaks: list[int] = field(default_factory=list)


def read_conll(path: Path, settings: DataSettings, wanted: Wanted) -> Iterator[Batch]:
    """Yield the sentences of a CoNLL file; `row` is the number of the line where each begins.

    Columns are divided by white space, or by `data.delimiter` (a tab where the first line has one). They
    are called as in `data.column_names`, or by number: `1` is the first, `-1` and `last` are the last.
    Tokens become text with a space between them; lines `-DOCSTART-` and comments are left out. A
    sentence whose lines differ in their number of columns comes as broken. Raises `DataError` for
    columns that the file does not have.

    With `data.conll_unit: document` a record holds the sentences of a document, in a line of its text each;
    those that are broken come by themselves. Raises `DataError` where nothing says what a document is.
    """
    by_document = settings.conll_unit == "document"
    with open_text(path, settings.encoding) as (_, stream):
        check_line_ends(path, stream)
        lines = (line.decode("utf-8", "replace") for line in iter(lambda: stream.readline(_LINE_LIMIT), b""))
        sentences = _sentences(lines, settings)
        first = next(sentences, None)
        if first is None:
            return
        columns = _columns(path, settings, wanted, len(first.lines[0]))
        sentences = _checked(chain([first], sentences), columns.get(_TEXT))
        if by_document:
            sentences = _documents(sentences, path)
        while chunk := list(islice(sentences, _DOCUMENTS if by_document else _SENTENCES)):
            yield _batch(chunk, columns)


def _sentences(lines: Iterator[str], settings: DataSettings) -> Iterator[_Sentence]:
    delimiter = settings.delimiter
    width = len(settings.column_names or ()) or None
    sentence: _Sentence | None = None
    document = 0
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
        if columns[0] == _DOCUMENT:
            if sentence is not None:
                yield sentence
            sentence = None
            document += 1
            continue
        if sentence is None and line.startswith("#") and (len(columns) != width or _COMMENT.match(line)):
            continue
        width = width or len(columns)
        sentence = sentence or _Sentence(number, document=document)
        if not sentence.reason:
            sentence.reason = _fault(columns, width, number, complete)
        sentence.lines.append(columns)
    if sentence is not None:
        yield sentence


def _documents(sentences: Iterator[_Sentence], path: Path) -> Iterator[_Sentence]:
    """The sound sentences of each document put together; broken ones as they are, after it.

    The first document's beginning may go without saying, but not that of all.
    """
    unsaid = DataError(
        f"{path.name} does not say where documents begin, in lines {_DOCUMENT}; "
        "set `data.conll_unit` to sentence."
    )
    whole: _Sentence | None = None
    broken: list[_Sentence] = []
    for sentence in sentences:
        if sentence.reason:
            broken.append(sentence)
            continue
        if whole is not None and whole.document == sentence.document and len(whole.breaks) + 1 < _LONGEST:
            whole.breaks.append(len(whole.lines))
            whole.lines += sentence.lines
            continue
        if whole is not None:
            if not sentence.document:
                raise unsaid
            yield whole
        yield from broken
        whole, broken = sentence, []
    if whole is not None:
        if not whole.document:
            raise unsaid
        yield whole
    yield from broken


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
    if name != _TEXT:
        return json.dumps(values, ensure_ascii=False)
    edges = [0, *sentence.breaks, len(values)]
    return "\n".join(" ".join(values[start:end]) for start, end in pairwise(edges))


def _checked(sentences: Iterable[_Sentence], at: int | None) -> Iterator[_Sentence]:
    """Note sentences with a token, in column `at`, that running text would not show as one."""
    for sentence in sentences:
        sound = at is None or all(
            len(line[at].split()) == 1 for line in sentence.lines if not sentence.reason
        )
        if not sound:
            sentence.reason = "an empty token, or one with a space in it"
        yield sentence

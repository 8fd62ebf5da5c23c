"""Plain text: running text cut into blocks, or documents with blank lines between them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pandas as pd

from catena.data.formats import Batch, Wanted, empty_broken
from catena.data.text_stream import open_text
from catena.errors import DataError
from catena.settings import DataSettings

_RECORDS = 2_000
_CHUNK = 1 << 16
#: Longest document between blank lines that is read, in characters; more is no text with documents in it.
_LONGEST = 16 << 20


def read_text(path: Path, settings: DataSettings, wanted: Wanted) -> Iterator[Batch]:
    """Yield the blocks or documents of a text file; `row` is the number of the line where each begins.

    Blocks are at most `data.block_characters` long and, put one after the other, are the file, except that
    lines end as on Unix and that blocks of nothing but white space are left out. They end before white
    space, where there is some in their second half. Raises `DataError` where another column than `text` is
    asked for.
    """
    others = [name for column, name in wanted.columns.items() if name != "text"]
    if others or len(wanted.columns) != 1:
        raise DataError(
            f"{path.name} is plain text and has no columns but its text; set `data.columns` to `text: text` "
            "and `data.keep` to []."
        )
    with open_text(path, settings.encoding) as (_, stream):
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        chunks = (decoder.decode(chunk) for chunk in iter(lambda: stream.read(_CHUNK), b""))
        lines = _unix_lines(chunks)
        if settings.block_characters:
            records = _blocks(lines, settings.block_characters)
        else:
            records = _documents(lines, path)
        while found := list(islice(records, _RECORDS)):
            yield Batch(
                pd.DataFrame(
                    {
                        "text": pd.array([text for _, text in found], dtype="str"),
                        "row": pd.array([row for row, _ in found], dtype="int64"),
                    }
                ),
                empty_broken(),
            )


def _unix_lines(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces, with `\\n` for all ends of lines."""
    held = ""
    for chunk in chunks:
        text = held + chunk
        held = "\r" if text.endswith("\r") else ""  # half of an end of a line, maybe
        yield text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
    if held:
        yield "\n"


def _blocks(pieces: Iterator[str], most: int) -> Iterator[tuple[int, str]]:
    row = 1
    text = ""
    ended = False
    while not ended:
        while len(text) <= most and not ended:
            piece = next(pieces, None)
            ended = piece is None
            text += piece or ""
        at = 0
        # `text` holds more than a block until the file has ended, so a cut never depends on the pieces.
        while len(text) - at > most or (ended and at < len(text)):
            end = at + _cut(text[at : at + most + 1], most)
            block = text[at:end]
            if block.strip():
                yield row + len(block[: len(block) - len(block.lstrip())].split("\n")) - 1, block
            row += block.count("\n")
            at = end
        text = text[at:]


def _cut(text: str, most: int) -> int:
    """How much of `text` makes a block."""
    if len(text) <= most:
        return len(text)
    for at in range(most, most // 2, -1):
        if text[at].isspace() and not text[at - 1].isspace():
            return at
    return most


def _documents(pieces: Iterator[str], path: Path) -> Iterator[tuple[int, str]]:
    row = number = 1
    lines: list[str] = []
    size = 0
    for line in _lines(pieces, path):
        if line.strip():
            if not lines:
                row = number
            lines.append(line)
            size += len(line)
            if size > _LONGEST:
                raise _too_long(path, row)
        elif lines:
            yield row, "\n".join(lines)
            lines, size = [], 0
        number += 1
    if lines:
        yield row, "\n".join(lines)


def _lines(pieces: Iterator[str], path: Path) -> Iterator[str]:
    held: list[str] = []  # joined once, since a line may have many pieces
    size = 0
    number = 1
    for piece in pieces:
        end, *more = piece.split("\n")
        held.append(end)
        size += len(end)
        if more:
            *complete, begun = "".join(held), *more
            yield from complete
            number += len(complete)
            held, size = [begun], len(begun)
        if size > _LONGEST:
            raise _too_long(path, number)
    if size:
        yield "".join(held)


def _too_long(path: Path, row: int) -> DataError:
    return DataError(
        f"{path.name}, line {row}: more than {_LONGEST:,} characters without a blank line are no document; "
        "set `data.block_characters` to have the text cut."
    )

"""Parallel text files: one file a language, the same line of each says the same; or one such file alone."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pandas as pd

from catena.data.formats import Batch, Wanted, empty_broken
from catena.data.text_stream import TextStream, check_line_ends, open_text
from catena.errors import DataError

_LINES = 20_000
_LINE_LIMIT = 1 << 20


def parallel_files(path: Path, columns: Sequence[str]) -> list[Path]:
    """The files behind `path`: `<path>.<column>` or `<path>.<column>.gz` for each of the columns.

    Where only one column is wanted, `path` may be its file. Raises `DataError` where one is missing, or there
    both gzipped and not.
    """
    if len(columns) == 1 and path.is_file():
        return [path]
    files = []
    for column in columns:
        plain, zipped = (path.with_name(f"{path.name}.{column}{ending}") for ending in ("", ".gz"))
        if plain.is_file() and zipped.is_file():
            raise DataError(f"There are both {plain.name} and {zipped.name}; keep one of them.")
        if not plain.is_file() and not zipped.is_file():
            raise DataError(
                f"There is neither {plain.name} nor {zipped.name} in {path.parent}; the files of the format "
                "`parallel` are called by the part's name and the column's, such as train.en and train.de."
            )
        files.append(plain if plain.is_file() else zipped)
    return files


def read_parallel(path: Path, encoding: str, wanted: Wanted) -> Iterator[Batch]:
    """Yield the pairs of lines; `row` is the line's number. An empty line is a missing value.

    Raises `DataError` where the files have different numbers of lines, or a line is longer than 1 MiB.
    """
    files = parallel_files(path, list(wanted.columns))
    names = list(wanted.columns.values())
    with ExitStack() as stack:
        lines = [_lines(file, stack.enter_context(open_text(file, encoding))[1]) for file in files]
        row = 0
        while True:
            chunks = [list(islice(one, _LINES)) for one in lines]
            counts = list(map(len, chunks))
            if len(set(counts)) > 1:
                raise DataError(_unequal(files, lines, [row + count for count in counts]))
            if not counts[0]:
                return
            records = pd.DataFrame(
                {
                    name: pd.array([line if line.strip() else None for line in chunk], dtype="str")
                    for name, chunk in zip(names, chunks, strict=True)
                }
            )
            records["row"] = pd.array(range(row + 1, row + counts[0] + 1), dtype="int64")
            row += counts[0]
            yield Batch(records, empty_broken())


def _lines(file: Path, stream: io.BufferedReader[TextStream]) -> Iterator[str]:
    """The lines without their ends, which are line feeds alone, or files would no longer be parallel."""
    check_line_ends(file, stream)
    for number, line in enumerate(iter(lambda: stream.readline(_LINE_LIMIT), b""), 1):
        if len(line) == _LINE_LIMIT:
            raise DataError(
                f"{file.name}: line {number} is longer than {_LINE_LIMIT:,} bytes; write one sentence or "
                "short text a line."
            )
        yield line.decode("utf-8").rstrip("\r\n")


def _unequal(files: Sequence[Path], lines: Sequence[Iterator[str]], counts: list[int]) -> str:
    totals = [count + sum(1 for _ in rest) for count, rest in zip(counts, lines, strict=True)]
    listed = " and ".join(f"{file.name} {total:,}" for file, total in zip(files, totals, strict=True))
    return (
        f"The parallel files have different numbers of lines ({listed}), so nobody knows which lines belong "
        "together; find the lines that are missing, or were broken in two."
    )

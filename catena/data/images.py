"""Images from folders with one folder for each class, and from tables with a column of paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows, empty_broken, missing_columns
from catena.data.pictures import ENDINGS, as_uri, printable
from catena.errors import DataError

#: The columns that a folder of images has.
COLUMNS = ("image", "label", "file")
#: What is held in memory of pictures at once, in bytes and in files.
_BATCH_BYTES = 32 << 20
_BATCH_FILES = 2_000
#: A larger file is no picture to learn from.
_MOST_BYTES = 256 << 20


def looks_like_images(folder: Path) -> bool:
    """Whether a folder holds pictures, or folders that do."""
    for path in sorted(folder.iterdir())[:50]:
        if path.suffix.lower() in ENDINGS and path.is_file():
            return True
        if path.is_dir() and any(inner.suffix.lower() in ENDINGS for inner in path.iterdir()):
            return True
    return False


def image_files(folder: Path) -> list[Path]:
    """All files below `folder` but hidden ones, in the order of their names; links are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def class_of(file: Path, folder: Path) -> str | None:
    """The class of a picture: the name, in print, of the folder that it lies in, directly below `folder`."""
    parts = file.relative_to(folder).parts
    return printable(parts[0]) if len(parts) > 1 else None


def read_image_folder(folder: Path, wanted: Wanted) -> Iterator[Batch]:
    """The pictures below `folder` as data URIs, with the columns `image`, `label` and `file`.

    Where the label is wanted, a picture that is in no class's folder is broken. Raises `DataError` for a
    folder without pictures or without classes.
    """
    error = missing_columns(folder, wanted, COLUMNS, " (the columns of a folder of images)")
    if error is not None:
        raise error
    files = image_files(folder)
    if not files:
        raise DataError(f"The folder {folder.name} holds no files; put the pictures there, a folder a class.")
    labelled = wanted.target is not None and not wanted.optional
    if labelled and not any(class_of(file, folder) for file in files):
        raise DataError(
            f"The folder {folder.name} holds pictures but no folders; put those of each class into a folder "
            "named like the class."
        )
    batch = _Gathering(wanted)
    for row, file in enumerate(files, 1):
        name = printable(file.relative_to(folder).as_posix())
        label = class_of(file, folder)
        if labelled and label is None:
            batch.refuse(row, name, "picture in no class's folder")
        else:
            content, reason = read_picture(file, folder)
            if reason:
                batch.refuse(row, name, reason)
            else:
                batch.take(row, {"image": as_uri(content, name), "label": label, "file": name}, len(content))
        if batch.full:
            yield batch.done()
            batch = _Gathering(wanted)
    yield batch.done()


def with_pictures(batches: Iterator[Batch], role: str, folder: Path) -> Iterator[Batch]:
    """Batches of a table with a column of paths below `folder`, with data URIs in their place.

    What is a data URI already stays as it is. Batches are divided where the pictures read fill one.
    """
    for whole in batches:
        column = whole.records[role].tolist()
        unread = whole.broken
        start = 0
        while start < len(column) or start == 0:
            values, reasons = _some_pictures(column, start, folder)
            records = whole.records.iloc[start : start + len(values)].copy()
            bad = pd.Series(reasons, index=records.index, dtype="str") != ""
            broken = broken_rows(
                records["row"][bad].tolist(),
                records[role][bad].tolist(),
                [reason for reason in reasons if reason],
            )
            records[role] = pd.array(values, dtype="str")
            if len(unread):
                broken = pd.concat([unread, broken], ignore_index=True)
                unread = unread[:0]
            yield Batch(records[~bad], broken)
            start += max(len(values), 1)


def _some_pictures(
    column: Sequence[str | None], start: int, folder: Path
) -> tuple[list[str | None], list[str]]:
    """Data URIs from `start` on until a batch is full, and why others have none ("" for those that have)."""
    values: list[str | None] = []
    reasons: list[str] = []
    size = 0
    for given in column[start : start + _BATCH_FILES]:
        if not isinstance(given, str) or given.startswith("data:"):
            values.append(given if isinstance(given, str) else None)
            reasons.append("")
            continue
        inside = not Path(given).is_absolute() and ".." not in Path(given).parts
        content, reason = (
            read_picture(folder / given, folder) if inside else (b"", "path outside the data folder")
        )
        values.append(None if reason else as_uri(content, given))
        reasons.append(reason)
        size += len(content)
        if size >= _BATCH_BYTES:
            break
    return values, reasons


def read_picture(file: Path, folder: Path) -> tuple[bytes, str]:
    """The bytes of a file below `folder`, or why it cannot be read."""
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            return b"", "link out of the data folder"
        if not file.is_file():
            return b"", "no such file"
        if file.stat().st_size > _MOST_BYTES:
            return b"", f"larger than {_MOST_BYTES >> 20} MiB"
        return file.read_bytes(), ""
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # no right to read it, a name with a NUL or too long, links in a circle
        return b"", "cannot be opened"


class _Gathering:
    """A batch in the making."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._rows: list[int] = []
        self._values: dict[str, list[str | None]] = {name: [] for name in wanted.columns.values()}
        self._broken: list[tuple[int, str, str]] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        return self._bytes >= _BATCH_BYTES or len(self._rows) + len(self._broken) >= _BATCH_FILES

    def take(self, row: int, values: dict[str, str | None], size: int) -> None:
        self._rows.append(row)
        self._bytes += size
        for column, name in self._wanted.columns.items():
            self._values[name].append(values.get(column))

    def refuse(self, row: int, name: str, reason: str) -> None:
        self._broken.append((row, name, reason))

    def done(self) -> Batch:
        records = pd.DataFrame({name: pd.array(values, dtype="str") for name, values in self._values.items()})
        records["row"] = pd.array(self._rows, dtype="int64")
        broken = broken_rows(*map(list, zip(*self._broken, strict=True))) if self._broken else empty_broken()
        return Batch(records, broken)

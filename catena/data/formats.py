"""Reading records from any supported format, batch by batch, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from catena.errors import DataError
from catena.settings import DataSettings
from catena.settings.data import Format

_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".tab": "orange",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "numpy",
    ".npy": "numpy",
}
#: What a column may hold instead of text: a list of tokens, which become text with spaces between them; lists
#: or objects, which are kept as JSON; a picture's path.
Content = Literal["tokens", "json", "picture"]

#: How much of a rejected text is kept.
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Wanted:
    """The columns to read: `column` → the name it gets; which name is the target, which may be missing,
    which are only carried along, and which hold something else than text."""

    columns: dict[str, str]
    target: str | None = None
    optional: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    contents: Mapping[str, Content] = field(default_factory=dict)

    @property
    def picture(self) -> str | None:
        """The name of the column of pictures, if there is one."""
        return next((name for name in self.columns.values() if self.contents.get(name) == "picture"), None)


@dataclass(frozen=True)
class Batch:
    """Some consecutive records of a file.

    `records` holds the wanted columns under their new names, as text or missing, and `row`, the number
    of the record in the file, from 1. `broken` holds the rows that are no records: `row`, the start of
    their `text`, and the `reason`.
    """

    records: pd.DataFrame
    broken: pd.DataFrame


def read_records(
    path: Path,
    settings: DataSettings,
    roles: Sequence[str] | None = None,
    *,
    target: str | None = None,
    keep: Sequence[str] = (),
    target_required: bool = True,
    contents: Mapping[str, Content] | None = None,
) -> Iterator[Batch]:
    """Yield the records of `path`, with columns named by role, in batches of a few megabytes.

    `roles` are the roles wanted (all of `settings.columns` by default) and `target` the one that holds
    the label; with `target_required=False` a file without it is fine, as when predicting. Columns in
    `keep` come along under their own names. `contents` are those of the problem (`Problem.contents`).
    Raises `DataError` for what makes the file unreadable as a
    whole: missing, empty, cut off, in another encoding, without a wanted column.
    """
    columns: dict[str, str] = {}
    for role in settings.columns if roles is None else roles:
        if role not in settings.columns:
            raise DataError(f"`data.columns` names no column for `{role}`; add `{role}: <column>`.")
        columns[settings.columns[role]] = role
    kept = frozenset(name for name in keep if name not in columns)
    if taken := sorted(kept & {"row", *columns.values()}):
        raise DataError(
            f"The column `{taken[0]}` cannot be kept, because records have another of this name; rename it "
            "in the file."
        )
    columns |= {name: name for name in keep if name in kept}
    if target is not None and target not in columns.values():
        target = None
    optional = frozenset() if target_required or target is None else frozenset({target})
    wanted = Wanted(columns, target, optional, kept, contents or {})
    kind = file_format(path, settings.format)
    if wanted.picture is not None and kind not in ("images", "numpy"):
        from catena.data.images import with_pictures

        yield from with_pictures(_read(path, kind, settings, wanted), wanted.picture, path.parent)
    else:
        yield from _read(path, kind, settings, wanted)


def _read(path: Path, kind: Format, settings: DataSettings, wanted: Wanted) -> Iterator[Batch]:
    if kind in ("images", "numpy"):
        if wanted.picture is None:
            raise DataError(f"{path.name} holds images; set `problem.name` to images, or name another file.")
        if not path.exists():
            raise DataError(f"There is no {path.name} in {path.parent}; put it there or name another.")
        if kind == "numpy":
            from catena.data.arrays import read_arrays

            yield from read_arrays(path, wanted)
        else:
            from catena.data.images import read_image_folder

            yield from read_image_folder(path, wanted)
    elif kind in ("csv", "tsv", "orange"):
        from catena.data.delimited import read_delimited

        yield from read_delimited(path, kind, settings, wanted)
    elif kind == "jsonl":
        from catena.data.json_lines import read_json_lines

        yield from read_json_lines(path, settings.encoding, wanted)
    elif kind == "conll":
        from catena.data.conll import read_conll

        yield from read_conll(path, settings, wanted)
    elif kind == "squad":
        from catena.data.squad import read_squad

        yield from read_squad(path, settings.encoding, wanted)
    elif kind == "parallel":
        from catena.data.parallel import read_parallel

        yield from read_parallel(path, settings.encoding, wanted)
    elif kind == "text":
        from catena.data.plain_text import read_text

        yield from read_text(path, settings, wanted)
    else:
        from catena.data.columnar import read_dataset, read_parquet

        yield from read_parquet(path, wanted) if kind == "parquet" else read_dataset(path, wanted)


def file_format(path: Path, declared: str = "auto") -> Format:
    """The format of `path`: the declared one, or what its ending says.

    A `.tab` file without Orange's type and flag lines is plain TSV, a `.json` file that does not begin as
    SQuAD's do is JSON Lines.
    """
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir() and declared in ("auto", "dataset"):
        from catena.data.images import looks_like_images

        return "images" if declared == "auto" and looks_like_images(path) else "dataset"
    if declared != "auto":
        kind: Format = declared  # type: ignore[assignment]  # settings allow no other value
        return kind
    ending = Path(name).suffix
    if ending not in _ENDINGS:
        raise DataError(
            f"The name {path.name} does not say how the file is written; set `data.format` to one of "
            "csv, tsv, orange, jsonl, conll, squad, parallel, text, parquet, images, numpy."
        )
    kind = _ENDINGS[ending]
    if kind == "orange" and path.is_file():
        from catena.data.delimited import is_orange

        return "orange" if is_orange(path) else "tsv"
    if ending == ".json" and path.is_file():
        from catena.data.squad import is_squad

        return "squad" if is_squad(path) else "jsonl"
    return kind


def record_files(path: Path, settings: DataSettings) -> list[Path]:
    """The files that hold the records of `path`: itself, all files of a folder, or one for each column."""
    if file_format(path, settings.format) == "parallel":
        from catena.data.parallel import parallel_files

        return parallel_files(path, [*settings.columns.values(), *settings.keep])
    if path.suffix.lower() == ".npy":
        from catena.data.arrays import array_files

        return array_files(path, settings.columns)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def missing_columns(path: Path, wanted: Wanted, there: Sequence[str], hint: str = "") -> DataError | None:
    """The error for wanted columns that are not `there`, naming the nearest ones; None if all are."""
    import difflib

    for column, name in wanted.columns.items():
        if column in there or name in wanted.optional:
            continue
        near = difflib.get_close_matches(column, there, n=1, cutoff=0.5) or [
            other for other in there if other.lower() == column.lower()
        ]
        listed = ", ".join(repr(_short(other)) for other in there[:12]) + (" …" if len(there) > 12 else "")
        nearest = f"; the nearest is {near[0]!r}" if near else ""
        return DataError(
            f"{path.name} has no column {column!r}{nearest}: it has {listed or 'none'}; "
            f"set `data.{'keep' if name in wanted.kept else 'columns'}` accordingly{hint}."
        )
    return None


def empty_broken() -> pd.DataFrame:
    """A `Batch.broken` without rows."""
    return broken_rows([], [], [])


def broken_rows(rows: Sequence[int], texts: Sequence[str], reasons: Sequence[str]) -> pd.DataFrame:
    """A `Batch.broken`."""
    return pd.DataFrame(
        {
            "row": pd.array(list(rows), dtype="int64"),
            "text": pd.array([text[:SHOWN_CHARACTERS] for text in texts], dtype="str"),
            "reason": pd.array(list(reasons), dtype="str"),
        }
    )


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"

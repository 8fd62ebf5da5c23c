"""All files of a data set, read, cleaned and screened: accepted records, rejected rows, file facts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from catena.data.formats import file_format, read_records, record_files
from catena.data.screening import REJECTED_COLUMNS, Screen
from catena.errors import DataError
from catena.files import sha256_file, sha256_folder
from catena.problems import Problem
from catena.settings import Settings

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_PROGRESS_ROWS = 200_000


@dataclass(frozen=True)
class RawFile:
    """One file of the data set: which part it is for, its records, its rejected rows, its facts."""

    part: str
    records: pd.DataFrame
    rejected: pd.DataFrame
    facts: dict[str, Any]


def _shown(folder: Path) -> str:
    """The folder below `data/raw`; a tail's lies inside that of its chain."""
    return folder.as_posix().rpartition("/data/raw/")[2] if "/data/raw/" in folder.as_posix() else folder.name


def read_files(settings: Settings, problem: Problem, folder: Path) -> list[RawFile]:
    """Read the training file and, where named, the validation and test files.

    Raises `DataError` when a file cannot be used as a whole, or too many of its rows cannot.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder data/raw/{_shown(folder)}; `catena fetch` gets it where `data.source` is "
            f"set, `dvc pull` restores a version that DVC knows, or put the files there."
        )
    names = {"train": settings.data.train, "validation": settings.data.validation, "test": settings.data.test}
    screen = Screen.from_settings(settings, problem)
    files = []
    for part, name in names.items():
        if name is None:
            continue
        twin = next((other for other in names if other != part and names[other] == name), None)
        if twin is not None:
            raise DataError(
                f"`data.{part}` and `data.{twin}` both name {name}; each part needs a file of its own."
            )
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"`data.{part}`: {name} lies outside data/raw/{_shown(folder)}; name a file within."
            )
        files.append(_read(folder, name, part, settings, problem, screen))
    classes = problem.classes(pd.concat([file.records[problem.target_role] for file in files]))
    if classes is not None:
        check_labels(classes, problem.target_role)
    return files


def _read(
    folder: Path, name: str, part: str, settings: Settings, problem: Problem, screen: Screen
) -> RawFile:
    path = folder / name
    accepted: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    rows = shown = 0
    roles = problem.raw_roles(settings.data.columns)
    # Whether 1 and "1" are one and the same is only a question where targets name classes.
    named = roles[-1] if problem.fewest_classes else None
    for batch in read_records(
        path, settings.data, roles, target=named, keep=settings.data.keep, contents=problem.contents
    ):
        good, bad = screen.apply(batch, name)
        accepted.append(good)
        rejected.append(bad)
        rows += len(batch.records) + len(batch.broken)
        if rows - shown >= _PROGRESS_ROWS:
            print(f"{name}: {rows:,} rows read", flush=True)
            shown = rows
    if rows == 0:
        raise DataError(f"{name} has no records; put them there or name another file in `data.{part}`.")
    refused = pd.concat(rejected, ignore_index=True)[list(REJECTED_COLUMNS)].sort_values("row")
    check_share(name, refused, rows, settings.preparation.max_rejected_fraction)
    kind, files = file_format(path, settings.data.format), record_files(path, settings.data)
    facts = {
        "name": name,
        "part": part,
        "format": kind,
        "encoding": None if kind in ("parquet", "dataset", "images", "numpy") else settings.data.encoding,
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": sha256_folder(path) if path.is_dir() else sha256_file(*files),
        "rows": rows,
    }
    return RawFile(part, pd.concat(accepted, ignore_index=True), refused, facts)


def check_share(name: str, unusable: pd.DataFrame, rows: int, limit: float) -> None:
    """Raise `DataError` with the commonest reasons when more than `limit` of a file's rows are unusable."""
    if len(unusable) <= limit * rows:
        return
    kinds = Counter(unusable["kind"].tolist())
    first: dict[str, int] = dict(
        unusable.sort_values("row", ascending=False)[["kind", "row"]].itertuples(index=False)
    )
    top = sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:3]
    reasons = "; ".join(f"{kinds[kind]:,} × {kind} (first in row {first[kind]:,})" for kind in top)
    more = f"; {len(kinds) - 3} more reasons" if len(kinds) > 3 else ""
    raise DataError(
        f"{name}: {len(unusable):,} of {rows:,} rows ({len(unusable) / rows:.1%}) cannot be used, "
        f"over the limit of {limit:.1%}: {reasons}{more}; correct the file, or `data` in params.yaml "
        "if it is read wrongly, or raise `preparation.max_rejected_fraction`."
    )


def check_labels(labels: pd.Series, role: str) -> None:
    """Raise `DataError` when two labels are the same number written in two ways, such as 1 and 1.0."""
    spellings: dict[float, str] = {}
    for label in sorted(str(value) for value in labels.unique()):
        if not _NUMBER.fullmatch(label):
            continue
        other = spellings.setdefault(float(label), label)
        if other != label and ("." in label or "." in other):
            raise DataError(
                f"The {role}s {other!r} and {label!r} are one number written in two ways; "
                "write it one way, or give both the same name in `data.labels`."
            )

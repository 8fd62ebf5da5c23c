"""All files of a data set, read, cleaned and screened: accepted records, rejected rows, file facts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from catena.data.formats import Batch, file_format, read_records, record_files
from catena.data.screening import REJECTED_COLUMNS, Screen
from catena.errors import DataError
from catena.files import sha256_file, sha256_folder
from catena.problems import Problem
from catena.settings import DataSettings, Settings

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_PROGRESS_ROWS = 200_000


@dataclass(frozen=True)
class RawFile:
    """One file of the data set: which part it is for, its records, its rejected rows, its facts.

    Parts may be split off unless its records were chosen to be learned from, and would be a skewed test.
    """

    part: str
    records: pd.DataFrame
    rejected: pd.DataFrame
    facts: dict[str, Any]
    divisible: bool = True


def _shown(folder: Path) -> str:
    """The folder below `data/raw`; a tail's lies inside that of its chain."""
    return folder.as_posix().rpartition("/data/raw/")[2] if "/data/raw/" in folder.as_posix() else folder.name


def read_files(settings: Settings, problem: Problem, folder: Path) -> list[RawFile]:
    """Read the training file and, where named, the further ones, the validation and the test file.

    Raises `DataError` when a file cannot be used as a whole, or too many of its rows cannot.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder data/raw/{_shown(folder)}; `catena fetch` gets it where `data.source` is "
            f"set, `dvc pull` restores a version that DVC knows, or put the files there."
        )
    check_columns(settings.data, problem)
    screen = Screen.from_settings(settings, problem)
    filled_in = with_filled_in_labels(settings)
    filled_in_screen = Screen.from_settings(filled_in, problem)
    files = []
    for part, name, field in named_files(settings, folder):
        if field == "labelled":
            files.append(_read(folder, name, part, filled_in, problem, filled_in_screen, filled_in=True))
        elif field != "unlabelled":
            files.append(_read(folder, name, part, settings, problem, screen))
    classes = problem.classes(pd.concat([file.records[problem.target_role] for file in files]))
    if classes is not None:
        check_labels(classes, problem.target_role)
    return files


def check_columns(data: DataSettings, problem: Problem) -> None:
    """Raise `DataError` where `data.columns`, as it was written, names a role that is never read."""
    roles = problem.raw_roles(data.columns)
    strange = [role for role in data.columns if role not in roles]
    if strange and "columns" in data.model_fields_set:
        raise DataError(
            f"`data.columns` names a column for `{strange[0]}`, which {problem.name} does not read; it reads "
            f"{', '.join(roles)}. Columns to carry along are named in `data.keep`."
        )


def named_files(settings: Settings, folder: Path) -> list[tuple[str, str, str]]:
    """The files that `data` names: the part each is for, its name, and the field that names it.

    Raises `DataError` where two fields name one file, or a name leads out of `folder`.
    """
    data = settings.data
    named = [("train", data.train, "train")]
    named += [("train", name, "labelled") for name in data.labelled]
    named += [(part, getattr(data, part) or "", part) for part in ("validation", "test", "unlabelled")]
    named = [one for one in named if one[1]]
    fields: dict[str, str] = {}
    for _, name, field in named:
        if name in fields:
            both = f"`data.{fields[name]}` and `data.{field}` both name {name}"
            twice = f"`data.{field}` names {name} twice"
            raise DataError(f"{twice if field == fields[name] else both}; each part needs a file of its own.")
        fields[name] = field
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"`data.{field}`: {name} lies outside data/raw/{_shown(folder)}; name a file within."
            )
    return named


def with_filled_in_labels(settings: Settings) -> Settings:
    """The settings by which files of `data.labelled` are read: plain CSV or JSON Lines.

    People fill in what they see: the readable names of `data.labels` are understood as well as its values.
    """
    names = settings.data.labels
    plain = {
        "format": "auto",
        "encoding": "utf-8",
        "delimiter": None,
        "quoting": True,
        "column_names": None,
        "labels": None if names is None else {name: name for name in names.values()} | names,
    }
    return settings.model_copy(update={"data": settings.data.model_copy(update=plain)})


def _read(
    folder: Path,
    name: str,
    part: str,
    settings: Settings,
    problem: Problem,
    screen: Screen,
    filled_in: bool = False,
) -> RawFile:
    path = folder / name
    accepted: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    rows = shown = 0
    roles = problem.raw_roles(settings.data.columns)
    # Whether 1 and "1" are one and the same is only a question where targets name classes.
    named = roles[-1] if problem.fewest_classes else None
    # Of files that were filled in by hand only what is learned from is asked for.
    keep = () if filled_in else settings.data.keep
    passed_over = 0
    for batch in read_records(path, settings.data, roles, target=named, keep=keep, contents=problem.contents):
        if filled_in:
            empty = blank(batch.records[roles[-1]])
            passed_over += int(empty.sum())
            kept = {name: "" for name in settings.data.keep if name not in batch.records}
            batch = Batch(batch.records[~empty].assign(**kept), batch.broken)
        good, bad = screen.apply(batch, name)
        accepted.append(good)
        rejected.append(bad)
        rows += len(batch.records) + len(batch.broken)
        if rows - shown >= _PROGRESS_ROWS:
            print(f"{name}: {rows:,} rows read", flush=True)
            shown = rows
    if passed_over and rows == 0:
        raise DataError(
            f"{name}: all {passed_over:,} labels are still empty; fill some in, or take the file out of "
            "`data.labelled`."
        )
    if rows == 0:
        field = "labelled" if filled_in else part
        raise DataError(f"{name} has no records; put them there or name another file in `data.{field}`.")
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
    if passed_over:
        facts["passed_over"] = passed_over
    return RawFile(part, pd.concat(accepted, ignore_index=True), refused, facts, not filled_in)


def blank(values: pd.Series) -> pd.Series:
    """Where a column says nothing."""
    return values.isna() | (values.fillna("").str.strip() == "")


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

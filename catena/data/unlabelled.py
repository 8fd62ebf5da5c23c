"""The records without labels that `data.unlabelled` names: read, cleaned, kept apart from all others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.data.cleaning import Cleaner
from catena.data.duplicates import Verdicts
from catena.data.formats import Batch, file_format, read_records, record_files
from catena.data.reading import RawFile, blank, check_share, named_files
from catena.data.screening import REJECTED_COLUMNS, Screen
from catena.errors import DataError, SettingsError
from catena.files import sha256_file, sha256_folder
from catena.problems import Problem
from catena.settings import Settings

#: The column with what an unlabelled file says of its records, which nothing is learned from.
GIVEN = "given"
#: Parts that a text without a label must not repeat, those whose repetition would flatter the figures first.
_ORDER = ("test", "validation", "train")


@dataclass(frozen=True)
class Unlabelled:
    """What came of the file: `records` with `id`, the inputs, `given` (a canonical target, "" where it says
    nothing that the model could), `source` and `row`; the file's facts; and what to report."""

    records: pd.DataFrame
    file: RawFile
    report: dict[str, Any]
    warnings: list[str]


def read_unlabelled(
    settings: Settings,
    problem: Problem,
    folder: Path,
    parts: Mapping[str, pd.DataFrame],
    label_names: Sequence[str],
) -> Unlabelled | None:
    """The records of `data.unlabelled`, if there is one, that no part of the labelled data has.

    Texts of the validation and the test part are left out with their near duplicates: learned from, even by
    a label of the model's own, they would make the figures look better than they are. Raises `DataError` for
    a file that cannot be used, `SettingsError` where the problem cannot learn from it.
    """
    name = settings.data.unlabelled
    if name is None:
        return None
    if not problem.learns_unlabelled:
        raise SettingsError(
            f"`data.unlabelled` is not there for the problem {problem.name}, whose predictions cannot be "
            "learned from by their confidence; leave it out."
        )
    named_files(settings, folder)
    file, labelled = _read(folder, name, settings, problem)
    records = file.records
    verdicts = Verdicts.none(len(records))
    _settle_repeats(problem, records, parts, verdicts)
    near = _settle_near_duplicates(settings, problem, records, parts, verdicts)
    stays = verdicts.stays
    kept = records[stays].reset_index(drop=True)
    kept.insert(0, "id", pd.Series(_ids(problem, kept), dtype="str"))
    known = _known(problem, kept[GIVEN], label_names)
    kept[GIVEN] = kept[GIVEN].where(known, "")
    gone = np.flatnonzero(~stays)
    left_out = pd.DataFrame(
        {
            "source": name,
            "row": records["row"].iloc[gone],
            "text": pd.array(
                problem.show([t[:500] for t in problem.record_texts(records.iloc[gone])]), "str"
            ),
            "label": "",
            "kind": pd.array(verdicts.kinds[gone], dtype="str"),
            "reason": pd.array(verdicts.reasons[gone], dtype="str"),
        }
    )
    rejected = pd.concat([file.rejected, left_out], ignore_index=True)[list(REJECTED_COLUMNS)]
    rejected = rejected.sort_values("row", kind="stable").reset_index(drop=True)
    if kept.empty:
        raise DataError(
            f"{name}: no record is left to learn from without a label; all {len(records):,} are in the "
            "labelled files already, or nearly so. Name another file in `data.unlabelled`, or none."
        )
    kinds = pd.Series(verdicts.kinds[gone], dtype="str").value_counts().sort_index()
    report = {
        "name": name,
        "records": len(kept),
        "left_out": {str(kind): int(count) for kind, count in kinds.items()},
        "near_duplicates": near,
        "with_label": labelled,
    }
    warnings = (
        []
        if not labelled
        else [
            f"{name} has labels in {labelled:,} of {file.facts['rows']:,} rows; they are not learned from, "
            "and only tell how many pseudo-labels are right. To learn from them, name the file in "
            "`data.labelled`"
        ]
    )
    return Unlabelled(kept, RawFile("unlabelled", kept, rejected, file.facts), report, warnings)


def _read(folder: Path, name: str, settings: Settings, problem: Problem) -> tuple[RawFile, int]:
    """The readable records, with `given`; and how many rows have a label."""
    path = folder / name
    roles = problem.raw_roles(settings.data.columns)
    target = roles[-1]
    screen = Screen.from_settings(settings, problem, targets=False)
    accepted: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    rows = labelled = 0
    for batch in read_records(
        path, settings.data, roles, target=target, target_required=False, contents=problem.contents
    ):
        records = batch.records
        rows += len(records) + len(batch.broken)
        there = records[target] if target in records else pd.Series(pd.NA, index=records.index, dtype="str")
        labelled += int((~blank(there)).sum())
        good, bad = screen.apply(Batch(records.drop(columns=target, errors="ignore"), batch.broken), name)
        good[GIVEN] = _canonical(problem, there[good.index], settings.data.labels)
        accepted.append(good)
        rejected.append(bad)
    if rows == 0:
        raise DataError(f"{name} has no records; put them there or name another file in `data.unlabelled`.")
    refused = pd.concat(rejected, ignore_index=True)[list(REJECTED_COLUMNS)].sort_values("row")
    check_share(name, refused, rows, settings.preparation.max_rejected_fraction)
    kind = file_format(path, settings.data.format)
    unlabelled = settings.data.model_copy(
        update={"columns": {role: column for role, column in settings.data.columns.items() if role != target}}
    )
    files = record_files(path, unlabelled)
    facts = {
        "name": name,
        "part": "unlabelled",
        "format": kind,
        "encoding": None if kind in ("parquet", "dataset", "images", "numpy") else settings.data.encoding,
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": sha256_folder(path) if path.is_dir() else sha256_file(*files),
        "rows": rows,
    }
    columns = [*problem.input_roles, GIVEN, "source", "row"]
    return RawFile("unlabelled", pd.concat(accepted, ignore_index=True)[columns], refused, facts), labelled


def _canonical(problem: Problem, values: pd.Series, names: Mapping[str, str] | None) -> pd.Series:
    """Targets in their canonical form, "" where they say nothing, or nothing that can be read."""
    told = values[~blank(values)]
    codes, distinct = pd.factorize(told)
    read, reasons = problem.read_targets(Cleaner().clean([str(value) for value in distinct]), names)
    usable = ["" if reason else target for target, reason in zip(read, reasons, strict=True)]
    found = pd.Series([usable[code] for code in codes], index=told.index, dtype="str")
    return found.reindex(values.index, fill_value="")


def _known(problem: Problem, given: pd.Series, label_names: Sequence[str]) -> pd.Series:
    """Where a target says nothing but classes that the model can say."""
    told = given[given != ""]
    classes = problem.classes(told)
    foreign = pd.Index([]) if classes is None else classes.index[~classes.isin(label_names)]
    return pd.Series((given != "") & ~given.index.isin(foreign), index=given.index)


def _settle_repeats(
    problem: Problem, records: pd.DataFrame, parts: Mapping[str, pd.DataFrame], verdicts: Verdicts
) -> None:
    """Reject texts that come again in the file, or that a labelled part has."""
    texts = problem.record_texts(records)
    verdicts.reject(np.flatnonzero(texts.duplicated()), "duplicate", "duplicate in the unlabelled file")
    for part in reversed(_ORDER):
        same = np.flatnonzero(texts.isin(problem.record_texts(parts[part])))
        verdicts.reject(same, f"in the {part} part", f"the {part} part has this record")


def _settle_near_duplicates(
    settings: Settings,
    problem: Problem,
    records: pd.DataFrame,
    parts: Mapping[str, pd.DataFrame],
    verdicts: Verdicts,
) -> int:
    """Reject near duplicates of test and validation records; how many there were."""
    if settings.preparation.near_duplicates == "off":
        return 0
    search = problem.near_duplicates(settings.preparation.near_duplicate_threshold)
    texts = problem.compared_texts(records).tolist()
    ours, found = search.side(texts), 0
    for part in ("test", "validation"):
        theirs = search.side(problem.compared_texts(parts[part]).tolist())
        every = np.ones(len(parts[part]), dtype=bool)
        near = search.find(ours, theirs, search.threshold, verdicts.stays, every)
        partners = parts[part][["source", "row"]].iloc[near.higher]
        reasons = [
            f"near duplicate ({similarity:.2f}) of {source} row {row} ({part} part)"
            for source, row, similarity in zip(
                partners["source"], partners["row"], near.similarity, strict=True
            )
        ]
        verdicts.reject(near.lower, f"near duplicate of the {part} part", np.array(reasons, dtype=object))
        found += len(near.lower)
    return found


def _ids(problem: Problem, records: pd.DataFrame) -> list[str]:
    texts = problem.record_texts(records)
    return ["u" + hashlib.sha256(text.encode()).hexdigest()[:15] for text in texts]

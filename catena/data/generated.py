"""Records that a model wrote (`catena generate`), for the training part and for no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.data.formats import read_records
from catena.data.screening import Screen
from catena.errors import DataError, SettingsError
from catena.problems import Problem
from catena.settings import DataSettings, Settings

#: The column that says of each record that a model wrote it.
MARK = "generated"
_TRUE = frozenset({"true", "1", "1.0", "yes"})


def generated_records(
    settings: Settings,
    problem: Problem,
    folder: Path,
    parts: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The records of `preparation.augmentation.generated` that may be learned from, and what was left out.

    Left out are those that cannot be used, that have a class which the data has not, that repeat a text of
    any part, and near duplicates of validation and test texts: a model may have learned them by heart. Raises
    `DataError` for a file that cannot be read, or holds records that are not marked as generated.
    """
    name = str(settings.preparation.augmentation.generated)
    if not problem.tokenizes or len(problem.input_roles) != 1 or not problem.truncates:
        raise SettingsError(
            f"`preparation.augmentation.generated` adds texts, and the records of {problem.name} are "
            "more than a text and its target; leave it out."
        )
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(
            f"`preparation.augmentation.generated`: {name} lies outside data/raw/{folder.name}; name a "
            "file within."
        )
    role = problem.input_roles[0]
    records, left_out = _read(settings, problem, folder / name)
    used = pd.concat([part[role] for part in parts.values()])
    records = _without(records, records[role].isin(used), "text that the data has", left_out)
    records = _without(records, records[role].duplicated(), "repeat", left_out)
    if classes:
        members = problem.classes(records[problem.target_role])
        foreign = set() if members is None else set(members.index[~members.isin(classes)])
        records = _without(records, records.index.isin(foreign), "class that the data has not", left_out)
    near = _near(settings, problem, records, [parts["validation"], parts["test"]])
    records = _without(records, near, "near duplicate of a validation or test text", left_out)
    records = records.reset_index(drop=True)
    return records, {"file": name, "records": len(records), "left_out": dict(left_out)}


def _read(settings: Settings, problem: Problem, path: Path) -> tuple[pd.DataFrame, Counter[str]]:
    roles = (*problem.input_roles, problem.target_role)
    written = DataSettings(name=settings.data.name, columns={role: role for role in roles})
    screen = Screen.from_settings(settings.model_copy(update={"data": written}), problem)
    accepted: list[pd.DataFrame] = []
    left_out: Counter[str] = Counter()
    for batch in read_records(path, written, roles, target=problem.target_role, keep=(MARK,)):
        marks = batch.records[MARK].astype("str").str.strip().str.casefold()
        if not marks.isin(_TRUE).all():
            row = batch.records["row"][~marks.isin(_TRUE)].iloc[0]
            raise DataError(
                f"{path.name}, row {row}: the column `{MARK}` is not true, so it is no record that a "
                "model wrote; real records belong into `data.train`."
            )
        good, bad = screen.apply(batch, path.name)
        accepted.append(good)
        left_out.update(bad["kind"].tolist())
    if not accepted:
        raise DataError(f"{path.name} has no records; leave `preparation.augmentation.generated` out.")
    return pd.concat(accepted, ignore_index=True), left_out


def _without(records: pd.DataFrame, where: Any, kind: str, left_out: Counter[str]) -> pd.DataFrame:
    """The records but for those `where`, which are counted."""
    rows = np.asarray(where, dtype=bool)
    if rows.any():
        left_out[kind] += int(rows.sum())
    return records[~rows]


def _near(
    settings: Settings, problem: Problem, records: pd.DataFrame, kept: list[pd.DataFrame]
) -> np.ndarray:
    """Whether each record is a near duplicate of one in `kept`, where such are looked for."""
    found = np.zeros(len(records), dtype=bool)
    if settings.preparation.near_duplicates == "off" or not len(records):
        return found
    search = problem.near_duplicates(settings.preparation.near_duplicate_threshold)
    own = search.side(problem.compared_texts(records).tolist())
    for part in kept:
        other = search.side(problem.compared_texts(part).tolist())
        ones = np.ones(len(part), dtype=bool)
        near = search.find(own, other, search.threshold, np.ones(len(records), dtype=bool), ones)
        found[near.lower] = True
    return found

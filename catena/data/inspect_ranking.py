"""A look at a file with queries, items and how relevant they are to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from catena.data.commented import group
from catena.data.dialect import first_records, how_to_read
from catena.data.formats import file_format, read_records
from catena.data.inspection import Inspection, Wanted
from catena.data.quality import lengths
from catena.data.scripts import latin_share, unspaced_share, word_counts
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import DataSettings, ProblemSettings
from catena.settings.data import Format

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

#: What columns are called, by role.
_NAMES: Mapping[str, Sequence[str]] = {
    "query": ("query", "search", "search_query", "search_term", "history", "user_history"),
    "item": ("item", "document", "doc", "passage", "product", "product_title", "candidate", "film", "movie"),
    "relevance": ("relevance", "rating", "score", "grade", "stars", "clicked", "label"),
}
_SAMPLE = 1000
#: Word pieces a pretrained tokenizer makes of a word between spaces, on average, punctuation included.
_PIECES_PER_WORD = 1.6
_PERCENTILES = {"min": 0, "p25": 25, "p50": 50, "p75": 75, "max": 100}


def inspect_ranking(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a file of pairs; None for any other.

    A file is one of pairs where its columns are called so, the relevance holds numbers and queries come more
    than once, or where the user says so. Raises `DataError` where that then cannot be.
    """
    said = wanted.problem == "ranking" or bool({"query", "item"} & wanted.columns.keys())
    if not said and wanted.text is not None:
        return None
    try:
        kind = file_format(path)
    except DataError:
        if said:
            raise
        return None
    if kind == "conll":
        return None
    settings, columns = how_to_read(path, kind, [name for _, name in wanted.options()])
    given = {"query": wanted.text, "relevance": wanted.label, **wanted.columns}
    by_lower = {name.lower(): name for name in reversed(columns)}
    chosen = {
        role: given.get(role) or next((by_lower[name] for name in names if name in by_lower), None)
        for role, names in _NAMES.items()
    }
    if said:
        wanted.check_columns(path, columns)
        wanted.check_roles("ranking", _NAMES)
    roles = {role: column for role, column in chosen.items() if column is not None}
    missing = next((role for role in _NAMES if role not in roles), None)
    if missing is not None:
        if said:
            raise DataError(
                f"No column of {path.name} is called like the {missing} of pairs; name it with "
                f"`--column {missing}=…` (the columns are {', '.join(map(repr, columns))})."
            )
        return None
    twice = next((column for column in roles.values() if list(roles.values()).count(column) > 1), None)
    if twice is not None:
        both = " and ".join(role for role, column in roles.items() if column == twice)
        raise DataError(f"Column {twice!r} of {path.name} cannot be {both} at once; name another.")
    if not said and not _looks_like_pairs(first_records(path, settings, columns), roles):
        return None
    settings = settings.model_copy(
        update={"columns": roles, "test": wanted.test.name if wanted.test is not None else None}
    )
    return _measured(path, wanted.test, kind, settings, columns)


def ranking_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what ranking needs otherwise than one class a text."""
    root["preparation"]["near_duplicates"] = DoubleQuotedScalarString("off")  # YAML 1.1 would read false
    root["preparation"].yaml_add_eol_comment("pairs of one query resemble each other", "near_duplicates")
    root["training"]["metric"] = "ndcg"
    root["evaluation"] = group(baselines=(["popularity", "tfidf", "bm25"], ""))
    root["gate"] = group(metric=("ndcg", ""), floors=(group(ndcg=(0.2, "")), ""))


def _looks_like_pairs(sample: pd.DataFrame, roles: Mapping[str, str]) -> bool:
    relevance = sample[roles["relevance"]].dropna().tolist()
    _, reasons = get_problem("ranking").read_targets([" ".join(one.split()) for one in relevance], None)
    return bool(relevance) and not any(reasons) and bool(sample[roles["query"]].dropna().duplicated().any())


def _measured(
    path: Path, test: Path | None, kind: Format, settings: DataSettings, columns: Sequence[str]
) -> Inspection:
    read_targets = get_problem("ranking").read_targets
    pairs: list[pd.Series] = []
    numbers: list[float] = []
    queries: set[str] = set()
    broken = records = unusable = 0
    for batch in read_records(path, settings, tuple(_NAMES)):
        broken += len(batch.broken)
        records += len(batch.records)
        whole = batch.records.dropna(subset=list(_NAMES))
        read, reasons = read_targets([" ".join(one.split()) for one in whole["relevance"]], None)
        usable = np.array([not reason for reason in reasons], dtype=bool)
        unusable += len(batch.records) - int(usable.sum())
        numbers += [float(one) for one, reason in zip(read, reasons, strict=True) if not reason]
        pairs.append((whole["query"] + " " + whole["item"])[usable])
        queries.update(whole["query"])
    if test is not None:
        for _ in read_records(test, settings, tuple(_NAMES)):
            break  # the columns are there
    column = settings.columns["relevance"]
    if len(set(numbers)) < 2:
        what = f"is {numbers[0]:g} for every pair" if numbers else "holds no number of 0 or more"
        raise DataError(
            f"Column {column!r} of {path.name} {what}, so there is no order to learn; name another with "
            "`--column relevance=…`."
        )
    texts = pd.concat(pairs, ignore_index=True).astype("str")
    words = word_counts(texts)
    estimate = float(np.percentile(words, 95)) * _PIECES_PER_WORD + 3
    rejected = broken + unusable
    notes = [f"{len(queries):,} queries have {len(numbers) / max(len(queries), 1):.1f} items each on average"]
    notes += [f"{rejected:,} rows cannot be read and will be rejected"] if rejected else []
    return Inspection(
        path=path,
        test=test,
        format=kind,
        data=settings,
        columns=tuple(columns),
        records=records,
        broken=broken,
        characters=lengths(texts.str.len()),
        words=lengths(words),
        max_length=min(max(-(-int(estimate) // 16) * 16, 32), 256),
        unspaced=unspaced_share(texts.head(_SAMPLE)),
        latin=latin_share(texts.head(_SAMPLE)),
        notes=tuple(notes),
        problem="ranking",
        problem_settings=_threshold(np.asarray(numbers)),
        numbers={name: float(np.percentile(numbers, at)) for name, at in _PERCENTILES.items()},
    )


def _threshold(numbers: np.ndarray) -> dict[str, tuple[Any, str]]:
    """What counts as relevant, where the default would count every pair: about the better half."""
    default = float(ProblemSettings.model_fields["relevant_from"].default)
    if numbers.min() < default <= numbers.max():
        return {}
    grades = np.unique(numbers)[1:]
    shares = [float((numbers >= grade).mean()) for grade in grades]
    best = int(np.argmin(np.abs(np.asarray(shares) - 0.5)))
    grade = float(grades[best])
    return {
        "relevant_from": (
            int(grade) if grade.is_integer() else grade,
            f"counts as relevant: {shares[best]:.0%} of the pairs",
        )
    }

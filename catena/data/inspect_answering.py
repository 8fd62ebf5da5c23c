"""A look at a file of questions about passages: SQuAD's JSON, JSON Lines, Parquet, CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from catena.data.commented import group
from catena.data.dialect import first_records, how_to_read
from catena.data.formats import file_format, read_records
from catena.data.inspection import Inspection, Wanted
from catena.data.quality import lengths
from catena.data.scripts import latin_share, unspaced_share, word_counts
from catena.data.text_stream import likely_encoding, sample_bytes
from catena.errors import DataError
from catena.problems import get_problem
from catena.problems.answers import read_answers
from catena.settings import DataSettings

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

#: What columns are called, by role.
_NAMES: Mapping[str, Sequence[str]] = {
    "question": ("question",),
    "context": ("context", "passage", "paragraph"),
    "answers": ("answers", "answer"),
}
_ROLES = tuple(_NAMES)
_SAMPLE = 1000
#: Word pieces a pretrained tokenizer makes of a word between spaces, on average, punctuation included.
_PIECES_PER_WORD = 1.4


def inspect_answering(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a file whose columns are those of SQuAD; None for any other.

    Raises `DataError` where the user says that it is one, and columns are then missing or mistyped.
    """
    # a context is something that other problems have, too
    said = wanted.problem == "answering" or bool({"question", "answers"} & wanted.columns.keys())
    if path.is_dir():
        return None
    try:
        kind = file_format(path)
    except DataError:
        return None
    if kind == "squad":
        settings = DataSettings(
            name="data", format=kind, encoding=likely_encoding(sample_bytes(path)) or "utf-8"
        )
        there = list(_ROLES)
    elif kind in ("csv", "tsv", "jsonl", "parquet"):
        settings, there = how_to_read(path, kind, [name for _, name in wanted.options()])
    else:
        return None
    columns = {role: role for role in _ROLES} if kind == "squad" else _columns(there, wanted)
    if not said and not _looks_like_answers(path, settings, there, columns, wanted):
        return None
    wanted.check_roles("answering", _ROLES)
    wanted.check_columns(path, there)
    missing = next((role for role in _ROLES if role not in columns), None)
    if missing is not None:
        raise DataError(
            f"No column of {path.name} is called like the {missing} of SQuAD; name it with "
            f"`--column {missing}=…` (the columns are {', '.join(map(repr, there))})."
        )
    twice = next((name for name in columns.values() if list(columns.values()).count(name) > 1), None)
    if twice is not None:
        both = " and ".join(role for role, name in columns.items() if name == twice)
        raise DataError(f"Column {twice!r} of {path.name} cannot be {both} at once; name another.")
    update = {"train": path.name, "test": wanted.test.name if wanted.test is not None else None}
    return _measured(path, wanted.test, settings.model_copy(update={**update, "columns": columns}))


def answering_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what answering needs otherwise than one class a text."""
    comment = "longer passages are read in windows that overlap"
    root["tokenization"] = group(max_length=(inspection.max_length, comment))
    if root["backbone"].get("type", "pretrained") != "pretrained":
        root["backbone"]["type"] = "transformer"
        root["tokenization"]["tokenizer"] = "wordpiece" if inspection.unspaced < 0.5 else "characters"
    root["training"] = group(
        epochs=(5, ""), learning_rate=(0.0003, ""), batch_size=(16, ""), batch_tokens=(4096, "")
    )
    root["evaluation"] = group(baselines=(["sentence", "phrase"], ""))
    root["gate"]["floors"] = group(f1=(0.3, "of SQuAD, 0 to 1"))


def _columns(there: Sequence[str], wanted: Wanted) -> dict[str, str]:
    """The columns by role, as far as they are there: those that the user names, else those called so."""
    by_lower = {name.lower(): name for name in reversed(there)}
    given = {"question": wanted.text, "answers": wanted.label, **wanted.columns}
    found = {
        role: given.get(role) or next((by_lower[name] for name in names if name in by_lower), None)
        for role, names in _NAMES.items()
    }
    return {role: name for role, name in found.items() if name is not None and name in there}


def _looks_like_answers(
    path: Path, settings: DataSettings, there: Sequence[str], columns: Mapping[str, str], wanted: Wanted
) -> bool:
    """Whether all columns are there and, where the user names some, most answers are in the passages."""
    if len(set(columns.values())) < len(_ROLES):
        return False
    if not wanted.options() or settings.format == "squad":
        return True
    sample = first_records(path, settings, there).head(_SAMPLE)
    good = 0
    for context, raw in zip(sample[columns["context"]], sample[columns["answers"]], strict=True):
        if isinstance(context, str) and isinstance(raw, str) and raw.strip():
            with suppress(ValueError):
                read_answers(raw, context)
                good += 1
    return good > len(sample) / 2


def _measured(path: Path, test: Path | None, settings: DataSettings) -> Inspection:
    passages: dict[str, int] = {}
    questions: list[int] = []
    kinds: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    broken = records = 0
    contents = get_problem("answering").contents
    for batch in read_records(path, settings, _ROLES, contents=contents):
        broken += len(batch.broken)
        records += len(batch.records)
        rows = zip(*(batch.records[role] for role in _ROLES), strict=True)
        for question, context, raw in rows:
            if not all(isinstance(value, str) and value.strip() for value in (question, context, raw)):
                unusable["missing question, context or answers"] += 1
                continue
            try:
                spans = read_answers(raw, context)
            except ValueError as error:
                unusable[str(error)] += 1
                continue
            passages[context] = passages.get(context, 0) + 1
            questions.append(len(question.split()))
            kinds["with an answer" if spans else "without"] += 1
    if not passages:
        reason = f": {unusable.most_common(1)[0][0]}" if unusable else ""
        raise DataError(f"{path.name} has no usable question{reason}; correct the file or name its columns.")
    if test is not None:
        for _ in read_records(test, settings, _ROLES, contents=contents):
            break  # the columns are there
    texts = pd.Series(list(passages), dtype="str")
    words = word_counts(texts)
    estimate = (float(np.percentile(words, 95)) + max(questions)) * _PIECES_PER_WORD + 3
    notes = [f"{len(passages):,} passages; all questions about one stay in one part"]
    notes += [f"{broken:,} rows cannot be read and will be rejected"] if broken else []
    notes += [f"{count:,} questions will be rejected: {reason}" for reason, count in unusable.most_common(3)]
    return Inspection(
        path=path,
        test=test,
        format=file_format(path, settings.format),
        data=settings,
        columns=tuple(settings.columns.values()),
        records=records,
        broken=broken,
        classes=dict(kinds.most_common()),
        characters=lengths(texts.str.len()),
        words=lengths(words),
        max_length=min(max(-(-int(estimate) // 32) * 32, 64), 384),
        unescape_html=False,
        strip_quotes=False,
        unspaced=unspaced_share(texts.head(_SAMPLE)),
        latin=latin_share(texts.head(_SAMPLE)),
        notes=tuple(notes),
        problem="answering",
    )

"""A look at a file of questions about passages: SQuAD's JSON, JSON Lines, Parquet, CSV."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from catena.data.commented import group
from catena.data.formats import Format, file_format, read_records
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

_ROLES = ("question", "context", "answers")
#: Names that data sets give to passages and answers.
_CONTEXTS = ("context", "passage", "paragraph")
_ANSWERS = ("answers", "answer")
_SAMPLE = 1000
#: Word pieces a pretrained tokenizer makes of a word between spaces, on average, punctuation included.
_PIECES_PER_WORD = 1.4


def inspect_answering(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a file whose columns are those of SQuAD; None for any other."""
    if path.is_dir():
        return None
    try:
        kind = file_format(path)
    except DataError:
        return None
    columns = {role: role for role in _ROLES} if kind == "squad" else _columns(path, kind, wanted)
    if columns is None:
        return None
    wanted.check_roles("answering", columns)
    test = wanted.test
    settings = DataSettings(
        name="data",
        format=kind,
        train=path.name,
        test=test.name if test is not None else None,
        encoding=likely_encoding(sample_bytes(path)) or "utf-8" if kind != "parquet" else "utf-8",
        columns=columns,
    )
    return _measured(path, test, settings)


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


def _columns(path: Path, kind: Format, wanted: Wanted) -> dict[str, str] | None:
    if kind == "jsonl":
        from catena.data.json_lines import json_columns

        there = json_columns(path, likely_encoding(sample_bytes(path)) or "utf-8")
    elif kind == "parquet":
        from catena.data.columnar import parquet_columns

        there = parquet_columns(path)
    else:
        return None
    guesses = {
        "question": wanted.text or ("question" if "question" in there else None),
        "context": next((name for name in _CONTEXTS if name in there), None),
        "answers": wanted.label or next((name for name in _ANSWERS if name in there), None),
    }
    found = {role: wanted.columns.get(role, name) for role, name in guesses.items()}
    columns = {role: name for role, name in found.items() if name is not None and name in there}
    return columns if len(columns) == len(_ROLES) else None


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

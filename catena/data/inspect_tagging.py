"""A look at a file with entities: CoNLL columns, or JSON Lines with spans or tags."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.data.commented import group
from catena.data.formats import file_format, read_records
from catena.data.inspection import Inspection, Wanted
from catena.data.quality import lengths
from catena.data.scripts import latin_share, unspaced_share, word_counts
from catena.data.text_stream import likely_encoding, open_text, sample_bytes
from catena.errors import DataError
from catena.problems import get_problem
from catena.problems.spans import cuts_a_word, read_entities
from catena.settings import DataSettings

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

_TAG = re.compile(r"O|[BIESLUMW]-\S+")
_LINES = 300
_SAMPLE = 1000
#: Word pieces a pretrained tokenizer makes of a word between spaces, on average, punctuation included.
_PIECES_PER_WORD = 1.6


def inspect_tagging(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a file whose records have entities; None for any other."""
    if path.is_dir():
        return None
    text = wanted.columns.get("text", wanted.text)
    label = wanted.columns.get("entities", wanted.label)
    test = wanted.test
    try:
        kind = file_format(path)
    except DataError:  # no ending that says it, as is the custom with CoNLL files
        kind = "conll"
    encoding = likely_encoding(sample_bytes(path)) or "utf-8"
    if kind == "jsonl":
        columns = _json_columns(path, encoding, text, label)
    elif kind == "conll" or Path(path.name.removesuffix(".gz")).suffix == ".txt":
        kind = "conll"
        columns = _tag_columns(path, encoding, text, label)
    else:
        return None
    if columns is None:
        return None
    wanted.check_roles("tagging", columns)
    settings = DataSettings(
        name="data",
        format=kind,
        train=path.name,
        test=test.name if test is not None else None,
        encoding=encoding,
        columns=columns,
    )
    return _measured(path, test, settings)


def tagging_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what tagging needs otherwise than one class a text."""
    if root["backbone"].get("type") == "convolutional":
        root["backbone"]["type"] = "transformer"
    del root["training"]["metric"]
    root["evaluation"] = group(baselines=(["phrases"], "entities known from training"))
    root["gate"]["floors"] = group(entity_f1=(0.5, ""))


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with open_text(path, encoding) as (_, stream):
        lines = islice(iter(lambda: stream.readline(1 << 20), b""), 4 * _LINES)
        yield from islice((line.decode("utf-8", "replace") for line in lines if line.strip()), _LINES)


def _tag_columns(path: Path, encoding: str, text: str | None, label: str | None) -> dict[str, str] | None:
    """The first and the last column, where the last (or the one named) holds tags."""
    rows = [line.split() for line in _lines(path, encoding) if not line.startswith(("-DOCSTART-", "#"))]
    widths = Counter(map(len, rows))
    if not rows or widths.most_common(1)[0][0] < 2:
        return None
    at = int(label) - 1 if label is not None and label.isdecimal() else -1
    tags = [row[at] for row in rows if -len(row) <= at < len(row)]
    named = sum(tag != "O" for tag in tags if _TAG.fullmatch(tag))
    if not named or sum(_TAG.fullmatch(tag) is not None for tag in tags) < 0.9 * len(tags):
        return None
    return {"text": text or "1", "entities": label or "last"}


def _json_columns(path: Path, encoding: str, text: str | None, label: str | None) -> dict[str, str] | None:
    records: list[dict[str, Any]] = []
    for line in _lines(path, encoding):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    entities = label or next((name for name in names if _holds(records, name, _is_entities)), None)
    if entities is None or not _holds(records, entities, _is_entities):
        return None
    tagged = _holds(records, entities, _is_tags)
    kind: type = list if tagged else str
    sizes = {
        name: sum(len(record[name]) for record in records if isinstance(record.get(name), kind))
        for name in names
        if name != entities
    }
    text = text or max(sizes, key=lambda name: sizes[name], default=None)
    return None if text is None or not sizes.get(text) else {"text": text, "entities": entities}


def _holds(records: list[dict[str, Any]], name: str, check: Any) -> bool:
    values = [record[name] for record in records if record.get(name)]
    return bool(values) and sum(map(check, values)) > 0.5 * len(values)


def _is_tags(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in value)


def _is_entities(value: Any) -> bool:
    if _is_tags(value):
        return True
    spans = value if isinstance(value, list) else []
    return bool(spans) and all(
        (isinstance(span, dict) and {"start", "end", "label"} <= span.keys())
        or (isinstance(span, list) and len(span) == 3 and isinstance(span[0], int))
        for span in spans
    )


def _measured(path: Path, test: Path | None, settings: DataSettings) -> Inspection:
    contents = get_problem("tagging").contents
    labels: Counter[str] = Counter()
    texts: list[str] = []
    unusable: Counter[str] = Counter()
    broken = cut = records = 0
    for batch in read_records(path, settings, ("text", "entities"), target="entities", contents=contents):
        broken += len(batch.broken)
        records += len(batch.records)
        for text, raw in zip(batch.records["text"], batch.records["entities"], strict=True):
            if not isinstance(text, str) or not isinstance(raw, str):
                unusable["missing text or entities"] += 1
                continue
            try:
                entities = read_entities(raw, text, "auto")
            except ValueError as error:
                unusable[str(error)] += 1
                continue
            texts.append(text)
            labels.update(label for _, _, label in entities)
            cut += cuts_a_word(text, entities)
    if not texts:
        reason = f": {unusable.most_common(1)[0][0]}" if unusable else ""
        raise DataError(f"{path.name} has no usable record{reason}; correct the file or name its columns.")
    if test is not None:
        for _ in read_records(test, settings, ("text", "entities"), target="entities", contents=contents):
            break  # the columns are there
    characters, words = pd.Series(texts, dtype="str").str.len(), word_counts(pd.Series(texts, dtype="str"))
    estimate = float(np.percentile(words, 99)) * _PIECES_PER_WORD + 2
    notes = [f"{broken:,} rows cannot be read and will be rejected"] if broken else []
    notes += [f"{count:,} records will be rejected: {reason}" for reason, count in unusable.most_common(3)]
    return Inspection(
        path=path,
        test=test,
        format=file_format(path, settings.format),
        data=settings,
        columns=tuple(settings.columns.values()),
        records=records,
        broken=broken,
        classes=dict(labels.most_common()),
        characters=lengths(characters),
        words=lengths(words),
        max_length=min(max(-(-int(estimate) // 16) * 16, 32), 256),
        unspaced=unspaced_share(texts[:_SAMPLE]),
        latin=latin_share(texts[:_SAMPLE]),
        notes=tuple(notes),
        problem="tagging",
        problem_settings={"words": ("tokenizer", "entities end before punctuation")}
        if cut > len(texts) // 100
        else {},
    )

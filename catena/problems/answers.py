"""Answers in a passage: reading what a user wrote, finding it in the passage, its canonical form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

#: First character of an answer in its passage, and its text.
Answer = tuple[int, str]
Span = tuple[int, int]

#: How far from `answer_start` an answer that is several times in its passage may be, in characters.
_NEAR = 20
#: Most places of an answer for which no place is given.
_PLACES = 20
_FORM = "answers are not in a form of SQuAD, nor texts"


def canonical(answers: Iterable[Answer]) -> str:
    """The text that stands for these acceptable answers: a JSON list of `[start, text]`, sorted."""
    listed = [[start, text] for start, text in sorted(set(answers))]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def from_canonical(target: str) -> list[Answer]:
    """The answers that `canonical` wrote; none where the passage does not answer the question.

    Raises `ValueError` or `TypeError` for any other text.
    """
    return [(int(start), text) for start, text in json.loads(target)]


def spans_as_text(spans: Iterable[Span]) -> str:
    """Spans `[start, end]` as JSON: what answers are between reading and cleaning."""
    return json.dumps([[start, end] for start, end in sorted(set(spans))])


def read_answers(raw: str, context: str) -> list[Span]:
    """Where the answers that a user wrote are in `context`; none where the list of them is empty.

    Forms: SQuAD's list of objects with `text` and `answer_start`; the `datasets` library's object of
    two lists; `[start, text]` pairs; a list of texts; one text. A text without a place counts wherever
    it occurs. Raises `ValueError` with the reason where an answer is not in its passage.
    """
    spans: list[Span] = []
    for text, start in _given(raw):
        spans += _places(text, start, context)
    return sorted(set(spans))


def _given(raw: str) -> Iterator[tuple[str, int | None]]:
    """Each answer's text and, where it is given, where it begins."""
    value: Any = raw
    if raw.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = raw  # a text that happens to begin with a bracket
    if isinstance(value, str):
        yield value, None
        return
    if isinstance(value, dict):
        yield from _columns(value)
        return
    for one in value:
        if isinstance(one, str):
            yield one, None
        elif isinstance(one, dict):
            yield from _columns(one)
        elif isinstance(one, list) and len(one) == 2 and isinstance(one[1], str):
            yield one[1], _whole(one[0])
        else:
            raise ValueError(_FORM)


def _columns(value: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    """An object of one answer, or of a list of texts and a list of places."""
    texts, starts = value.get("text"), value.get("answer_start")
    if isinstance(texts, str):
        texts, starts = [texts], [starts]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(_FORM)
    if starts is None:
        starts = [None] * len(texts)
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise ValueError("as many answers as places are needed")
    yield from zip(texts, map(_whole, starts), strict=True)


def _whole(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("an answer's place is not a whole number")


def _places(text: str, start: int | None, context: str) -> Sequence[Span]:
    """Where an answer is: at `start`, or nearby, where characters were counted in another way."""
    text = text.strip()
    if not text:
        raise ValueError("empty answer")
    found = list(_occurrences(text, context))
    if not found:
        raise ValueError("answer not in its passage")
    if start is None:
        return [(at, at + len(text)) for at in found[:_PLACES]]
    exact = [at for at in (start, _from_bytes(context, start), _from_units(context, start)) if at in found]
    if not exact:
        near = sorted(found, key=lambda at: abs(at - start))
        if len(near) > 1 and abs(near[0] - start) > _NEAR:
            raise ValueError("answer not where `answer_start` says, but elsewhere several times")
        exact = near
    return [(exact[0], exact[0] + len(text))]


def _occurrences(text: str, context: str) -> Iterator[int]:
    at = context.find(text)
    while at >= 0:
        yield at
        at = context.find(text, at + 1)


def _from_bytes(context: str, start: int) -> int:
    """The character at byte `start` of the UTF-8 text; -1 where that is none."""
    return len(context.encode()[:start].decode("utf-8", "ignore")) if start >= 0 else -1


def _from_units(context: str, start: int) -> int:
    """The character at UTF-16 unit `start`, as languages such as JavaScript count."""
    return len(context.encode("utf-16-le")[: 2 * start].decode("utf-16-le", "ignore")) if start >= 0 else -1

"""Entities as character spans of a text: their canonical form, reading and checking them, words and tags."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from catena.data.scripts import UNSPACED
from catena.problems.tag_schemes import read_tags

#: First character, the one after the last, and the label.
Entity = tuple[int, int, str]
Span = tuple[int, int]

#: Runs between white space; where a script puts no spaces between words, its characters.
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

_FORM = "entities are not a list of start, end and label"


def canonical(entities: Iterable[Entity]) -> str:
    """The text that stands for these entities: a JSON list of `[start, end, label]`, sorted."""
    listed = [list(entity) for entity in sorted(entities)]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def from_canonical(target: str) -> list[Entity]:
    """The entities that `canonical` wrote. Raises `ValueError` or `TypeError` for any other text."""
    return [(int(start), int(end), label) for start, end, label in json.loads(target)]


def read_entities(raw: str, text: str, scheme: str) -> list[Entity]:
    """Entities as a user wrote them: spans of `text`, or a tag for each of its words.

    Spans are objects with `start`, `end` and `label`, or lists of the three; white space at their ends
    is left out. Raises `ValueError` with the reason why they are none.
    """
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("entities are not valid JSON") from None
    if not isinstance(given, list):
        raise ValueError(_FORM)
    if given and all(isinstance(tag, str) for tag in given):
        return tagged_words(given, text, scheme)
    entities = sorted(_entity(each, text) for each in given)
    for before, after in pairwise(entities):
        if after[0] < before[1]:
            raise ValueError("overlapping entities")
    return entities


def tagged_words(tags: Sequence[str], text: str, scheme: str) -> list[Entity]:
    """The entities in the words of `text`, divided at white space, that `tags` name, one for each word.

    Each line is read by itself: an entity ends where its line does. Raises `ValueError` where there are
    more or fewer words, and for tags that are none.
    """
    words = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    if len(words) != len(tags):
        raise ValueError("tokens and tags of different length")
    entities: list[Entity] = []
    for start, end in pairwise([0, *line_starts(text, words), len(words)]):
        here = words[start:end]
        entities += (
            (here[first][0], here[last - 1][1], label)
            for first, last, label in read_tags(tags[start:end], scheme)
        )
    return entities


def line_starts(text: str, words: Sequence[Span]) -> list[int]:
    """Which of the words (ascending) are the first of their line, but for the very first."""
    if "\n" not in text:
        return []
    return [
        at
        for at, (before, after) in enumerate(pairwise(words), 1)
        if "\n" in text[min(before[1], after[0]) : after[0]]
    ]


def words_of(text: str) -> list[Span]:
    """Where the words of a text are."""
    return [(found.start(), found.end()) for found in _WORD.finditer(text)]


def word_tags(words: Sequence[Span], entities: Iterable[Entity]) -> list[str]:
    """The IOB2 tag of each word; a word that an entity touches belongs to it."""
    tags = ["O"] * len(words)
    starts = [start for start, _ in words]
    ends = [end for _, end in words]
    for start, end, label in entities:
        prefix = "B"
        for at in range(bisect_right(ends, start), bisect_left(starts, end)):
            if tags[at] == "O":  # of two entities in one word the first names it
                tags[at] = f"{prefix}-{label}"
                prefix = "I"
    return tags


def cuts_a_word(text: str, entities: Iterable[Entity]) -> bool:
    """Whether an entity begins or ends inside a word."""
    words = words_of(text)
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    return any(start not in starts or end not in ends for start, end, _ in entities)


def _entity(given: Any, text: str) -> Entity:
    values: tuple[Any, ...]
    if isinstance(given, dict):
        values = tuple(given.get(name) for name in ("start", "end", "label"))
    elif isinstance(given, list) and len(given) == 3:
        values = tuple(given)
    else:
        raise ValueError(_FORM)
    start, end, label = values
    if label is None or (isinstance(label, str) and not label.strip()):
        raise ValueError("entity without a label")
    numbers = (isinstance(value, int) and not isinstance(value, bool) for value in (start, end))
    if not isinstance(label, str) or not all(numbers):
        raise ValueError(_FORM)
    if not 0 <= start <= end <= len(text):
        raise ValueError("entity outside its text")
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    end -= len(inside) - len(inside.rstrip())
    if start >= end:
        raise ValueError("empty entity")
    return start, end, " ".join(label.split())

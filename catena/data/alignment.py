"""Which characters of a cleaned text come from which of the text as it was given."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

from catena.data.cleaning import Cleaner
from catena.data.scripts import UNSPACED

#: What is cleaned by itself: white space, words, and single characters of scripts without spaces.
_FINE = re.compile(rf"\s+|[{UNSPACED}]|[^\s{UNSPACED}]+")
_COARSE = re.compile(r"\s+|\S+")


@dataclass(frozen=True)
class Alignment:
    """For each character of the cleaned text, where in the given text it begins and ends."""

    cleaned: str
    starts: list[int]
    ends: list[int]

    def to_cleaned(self, start: int, end: int) -> tuple[int, int]:
        """The span of the cleaned text that stands for characters `start` to `end` of the given one."""
        first = bisect_right(self.ends, start)
        while first > 0 and self.starts[first - 1] >= start:  # one character may become two
            first -= 1
        last = bisect_left(self.starts, end)
        return first, max(first, last)

    def to_given(self, start: int, end: int) -> tuple[int, int]:
        """The span of the given text that characters `start` to `end` of the cleaned one stand for."""
        return self.starts[start], self.ends[end - 1]


def align(text: str, cleaner: Cleaner) -> Alignment:
    """Clean `text` and say where each character of the result was."""
    cleaned = cleaner.clean([text])[0]
    if cleaned == text:
        return Alignment(cleaned, list(range(len(text))), list(range(1, len(text) + 1)))
    # Quotes enclose the whole text, so they are taken off at the end.
    inner = replace(cleaner, strip_quotes=False)
    quoted = inner.clean([text])[0]
    for pieces in (_FINE, _COARSE, re.compile(r"[\s\S]+")):
        found = _by_pieces(text, inner, pieces)
        if found.cleaned == quoted:
            break
    if quoted == cleaned:
        return found
    at = quoted.index(cleaned)
    here = slice(at, at + len(cleaned))
    return Alignment(cleaned, found.starts[here], found.ends[here])


def _by_pieces(text: str, cleaner: Cleaner, pieces: re.Pattern[str]) -> Alignment:
    """Clean piece by piece; the result is right where no piece depends on its neighbours."""
    whole: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    space: tuple[int, int] | None = None
    for found in pieces.finditer(text):
        piece, at = found.group(), found.start()
        if cleaner.collapse_whitespace and piece.isspace():
            space = found.span() if whole else None
            continue
        cleaned = cleaner.clean([piece])[0]
        if not cleaned:
            continue
        if space is not None:
            whole.append(" ")
            starts.append(space[0])
            ends.append(space[1])
            space = None
        whole.append(cleaned)
        if cleaned == piece:
            starts += range(at, at + len(piece))
            ends += range(at + 1, at + len(piece) + 1)
            continue
        lengths = [len(cleaner.clean([piece[:end]])[0]) for end in range(len(piece) + 1)]
        reached = _last_with(lengths, len(cleaned))
        starts += (at + end for end in reached[:-1])
        ends += (at + end for end in reached[1:])
    return Alignment("".join(whole), starts, ends)


def _last_with(lengths: list[int], length: int) -> list[int]:
    """For 0 … `length`, the longest beginning of the piece that is cleaned to no more characters."""
    reached = []
    end = len(lengths) - 1
    for most in range(length, -1, -1):
        while end > 0 and lengths[end] > most:
            end -= 1
        reached.append(end)
    return reached[::-1]

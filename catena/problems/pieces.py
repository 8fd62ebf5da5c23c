"""Stretches of texts that can be left out: words, or in long texts some words in a row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from catena.data.scripts import UNSPACED

#: What white space divides; of scripts without spaces, each character.
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


class InputPiece(Protocol):
    """A part of one input that is left out at once."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Piece:
    """A stretch of one text that is left out at once: a word, or in long texts some words in a row."""

    role: str
    start: int
    end: int
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"input": self.role, "start": self.start, "end": self.end, "text": self.text}


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text stand; of scripts without spaces, its characters."""
    return [found.span() for found in _WORD.finditer(text)]


def divide(inputs: Mapping[str, str], roles: Sequence[str], most: int) -> list[Piece]:
    """The words of the inputs; of more than `most`, stretches of equally many in a row."""
    words = {role: words_of(inputs[role]) for role in roles}
    total = sum(map(len, words.values()))
    size = max(math.ceil(total / max(most - len(roles) + 1, 1)), 1)
    pieces = []
    for role, spans in words.items():
        for at in range(0, len(spans), size):
            start, end = spans[at][0], spans[min(at + size, len(spans)) - 1][1]
            pieces.append(Piece(role, start, end, inputs[role][start:end]))
    return pieces


def without(record: pd.DataFrame, *pieces: Piece) -> pd.DataFrame:
    """The record with pieces left out, and the white space that then is too much."""
    left = {role: str(record[role].iloc[0]) for role in record}
    for piece in sorted(pieces, key=lambda one: -one.start):
        text = left[piece.role]
        before, after = text[: piece.start], text[piece.end :]
        left[piece.role] = before + after.lstrip() if not before or before[-1].isspace() else before + after
    return pd.DataFrame({role: [text.strip()] for role, text in left.items()}, dtype="str")

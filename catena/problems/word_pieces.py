"""Word pieces: the words they belong to, overlapping windows of them, and the case that a tokenizer drops."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from catena.data.scripts import UNSPACED
from catena.problems.spans import Span, line_starts, words_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNSPACED = re.compile(f"[{UNSPACED}]")
#: How a word is written, as numbers: 0 is no word, 1 has no letter with case.
SHAPES = ("none", "caseless", "lower", "capitalized", "upper", "letter", "mixed")


@dataclass(frozen=True)
class Pieces:
    """The word pieces of one text: their ids, how the piece's word is written, and the word's number.

    `words` are where the words are. A piece that belongs to none has the number -1. `firsts` says
    which piece is the first of its word.
    """

    ids: list[int]
    shapes: list[int]
    numbers: list[int]
    firsts: list[bool]
    words: list[Span]


@dataclass(frozen=True)
class Window:
    """Pieces `start` to `end` of a text; those from `owned_from` to `owned_to` have most context here."""

    start: int
    end: int
    owned_from: int
    owned_to: int


def split_pieces(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, own_words: bool) -> list[Pieces]:
    """The word pieces of each text.

    Words are runs between white space; where a script has none, and everywhere with `own_words`, they
    are what the tokenizer itself takes for words. Between two lines stands the tokenizer's separator.
    """
    if not texts:
        return []
    found = tokenizer(
        list(texts), add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False
    )
    separator: int | None = tokenizer.sep_token_id
    pieces = [
        _one_text(text, encoding.ids, encoding.offsets, encoding.word_ids, own_words)
        for text, encoding in zip(texts, found.encodings, strict=True)
    ]
    if separator is None:
        return pieces
    return [_separated(one, text, separator) for one, text in zip(pieces, texts, strict=True)]


def _separated(pieces: Pieces, text: str, separator: int) -> Pieces:
    """The same with a separator, which belongs to no word, before each line but the first."""
    starts = frozenset(line_starts(text, pieces.words))
    if not starts or not pieces.ids:
        return pieces
    rows: list[tuple[int, int, int, bool]] = []
    for row in zip(pieces.ids, pieces.shapes, pieces.numbers, pieces.firsts, strict=True):
        if row[3] and row[2] in starts:
            rows.append((separator, 0, -1, False))
        rows.append(row)
    ids, shapes, numbers, firsts = map(list, zip(*rows, strict=True))
    return Pieces(ids, shapes, numbers, firsts, pieces.words)


def _one_text(
    text: str, ids: list[int], offsets: list[Span], word_ids: list[int | None], own_words: bool
) -> Pieces:
    own = _own_words(text, offsets, word_ids)
    if own_words:
        words = [own[key] for key in dict.fromkeys(word_ids) if key in own]
    elif text.isascii() or _UNSPACED.search(text) is None:
        words = words_of(text)
    else:
        words = _refined(text, list(own.values()))
    starts = [start for start, _ in words]
    numbers: list[int] = []
    firsts: list[bool] = []
    last = -1
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        at = bisect_right(starts, start) - 1 if start < end else -1
        if at >= 0 and start >= words[at][1]:
            at = -1
        numbers.append(at)
        firsts.append(at > last)
        last = max(last, at)
    looks: dict[int | None, int] = {key: shape(text[start:end]) for key, (start, end) in own.items()}
    return Pieces(ids, [looks.get(key, 1) for key in word_ids], numbers, firsts, words)


def _own_words(text: str, offsets: list[Span], word_ids: list[int | None]) -> dict[int | None, Span]:
    """Where the tokenizer's own words are, without white space around them."""
    own: dict[int | None, Span] = {}
    for (start, end), key in zip(offsets, word_ids, strict=True):
        if start < end:
            before = own.get(key, (start, end))
            own[key] = min(start, before[0]), max(end, before[1])
    stripped: dict[int | None, Span] = {}
    for key, (start, end) in own.items():
        inside = text[start:end]
        start += len(inside) - len(inside.lstrip())
        end -= len(inside) - len(inside.rstrip())
        if start < end:
            stripped[key] = start, end
    return stripped


def _refined(text: str, own: list[Span]) -> list[Span]:
    """Words between white space; those in scripts without spaces divided as the tokenizer does."""
    edges = sorted({edge for span in own for edge in span})
    words: list[Span] = []
    for start, end in _runs(text):
        if _UNSPACED.search(text, start, end) is None:
            words.append((start, end))
            continue
        inner = edges[bisect_right(edges, start) : bisect_right(edges, end - 1)]
        cuts = [start, *inner, end]
        words += pairwise(cuts)
    return words


def _runs(text: str) -> list[Span]:
    runs: list[Span] = []
    at = 0
    for word in text.split():
        at = text.index(word, at)
        runs.append((at, at + len(word)))
        at += len(word)
    return runs


def windows(pieces: int, capacity: int, overlap: int) -> list[Window]:
    """Windows of `capacity` pieces over a text, each sharing `overlap` with the next.

    Every piece is owned by exactly one window, the one where its nearer edge is farthest away.
    """
    if pieces <= capacity:
        return [Window(0, pieces, 0, pieces)]
    step = capacity - min(overlap, capacity // 2)
    starts = [*range(0, pieces - capacity, step), pieces - capacity]
    # In the middle of an overlap both windows give the same context.
    borders = [
        0,
        *((after + before + capacity) // 2 for before, after in pairwise(starts)),
    ]
    return [
        Window(start, start + capacity, first, end)
        for start, first, end in zip(starts, borders, [*borders[1:], pieces], strict=True)
    ]


@lru_cache(maxsize=8)
def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    around = tokenizer("a", return_special_tokens_mask=True)
    ids: list[int] = around["input_ids"]
    mask: list[int] = around["special_tokens_mask"]
    before = mask.index(0) if 0 in mask else len(mask)
    after = mask[::-1].index(0) if 0 in mask else 0
    return ids[:before], ids[len(ids) - after :]


@lru_cache(maxsize=8)
def lowers_case(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether upper and lower case become the same tokens."""
    upper, lower = tokenizer(["PARIS Rome", "paris rome"], add_special_tokens=False)["input_ids"]
    return bool(upper == lower) and tokenizer.unk_token_id not in upper


@lru_cache(maxsize=100_000)
def shape(word: str) -> int:
    """How a word is written: its place in `SHAPES`."""
    letters = [character for character in word if character.lower() != character.upper()]
    if not letters:
        return 1
    upper = [character.isupper() or character.istitle() for character in letters]
    if not any(upper):
        return 2
    if all(upper):
        return 4 if len(letters) > 1 else 5
    return 3 if upper[0] and not any(upper[1:]) else 6

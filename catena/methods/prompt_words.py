"""Tokens of a record as pieces of text and as words, for language models that are asked about words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from catena.data.scripts import UNSPACED_CHARACTER

if TYPE_CHECKING:
    from catena.methods.prompt_asking import Asker

#: What byte-level and SentencePiece vocabularies begin a word with.
_BEGINNINGS = ("Ġ", "▁", "Ċ")
#: Tokens that a character of UTF-8 can be divided into.
_MOST = 4
_HALF = "\ufffd"

#: A piece of text, and the first and the last of the tokens that spell it.
Piece = tuple[str, int, int]


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """The text of each token; where several tokens spell one character, of all of these together."""
    found: list[Piece] = []
    first = 0
    while first < len(ids):
        last = first
        text = tokenizer.decode([ids[first]])
        while text.endswith(_HALF) and last + 1 < min(first + _MOST, len(ids)):
            last += 1
            text = tokenizer.decode(list(ids[first : last + 1]))
        if text.endswith(_HALF):  # the beginning of a character, which a longer text would go on with
            last = first
        if tokenizer.convert_ids_to_tokens(ids[first])[:1] == "▁" and not text.startswith(" "):
            text = f" {text}"
        found.append((text, first, last))
        first = last + 1
    return found


def words(asker: Asker, ids: Sequence[int]) -> list[list[int]]:
    """The places of the tokens of each word, in order: every token is in one.

    Words are runs between spaces, without the punctuation before and after them, which counts as words too;
    where a script has no spaces they are its characters, or the tokens with several. A vocabulary without
    spaces (WordPiece) marks what goes on.
    """
    tokenizer = asker.layout.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    runs: list[list[Piece]] = []
    before = ""
    for piece in pieces(tokenizer, ids):
        text, first, _ = piece
        if asker.layout.sensitive:
            alone = UNSPACED_CHARACTER.match(text.strip()[:1]) or UNSPACED_CHARACTER.match(before[-1:])
            begins = tokens[first][:1] in _BEGINNINGS or bool(alone)
        else:
            begins = not tokens[first].startswith("##")
        if (begins and before.strip()) or not runs:
            runs.append([])
        runs[-1].append(piece)
        before = text
    return [
        [at for _, first, last in word for at in range(first, last + 1)]
        for run in runs
        for word in _without_punctuation(run)
    ]


def _without_punctuation(run: list[Piece]) -> list[list[Piece]]:
    """The run itself between what is punctuation before it and after it."""
    spoken = [at for at, (text, _, _) in enumerate(run) if any(map(str.isalnum, text))]
    if not spoken:
        return [run]
    first, last = spoken[0], spoken[-1] + 1
    if not "".join(text for text, _, _ in run[:first]).strip():
        first = 0  # a space that is a token of its own
    return [part for part in (run[:first], run[first:last], run[last:]) if part]


def bare(asker: Asker, ids: Sequence[int], word: Sequence[int]) -> list[int]:
    """The tokens of a word as if no space stood before it."""
    own = [ids[at] for at in word]
    if not asker.layout.sensitive:
        return own
    return list(asker.layout.literal(asker.layout.tokenizer.decode(own).strip())) or own

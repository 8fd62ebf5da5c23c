"""Texts with entities → rows of word pieces, each piece with the tag it is to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from catena.problems.spans import from_canonical, word_tags
from catena.problems.tag_schemes import tag_names
from catena.problems.word_pieces import Pieces, Window, lowers_case, special_tokens, split_pieces, windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from catena.settings import ProblemSettings

#: Label of tokens that the loss leaves out: special ones, and pieces that speak for no word.
IGNORED = -100


def tag_features(
    texts: Sequence[str],
    targets: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    label_names: Sequence[str],
    settings: ProblemSettings,
) -> dict[str, list[Any]]:
    """One row for each window of a text.

    All features but `record` and `n_tokens` have one value for each token. `word_starts` and `word_ends`
    say which word a piece speaks for (-1: for none), `shape_ids` how its word is written, `labels` its
    tag's number. `n_tokens` counts each token in one window only.
    """
    shaped = settings.case_shapes == "on" or (settings.case_shapes == "auto" and lowers_case(tokenizer))
    fillings = {"word_starts": -1, "word_ends": -1}
    if shaped:
        fillings["shape_ids"] = 0
    if targets is not None:
        fillings["labels"] = IGNORED
    names = ("input_ids", "n_tokens", "record", *fillings)
    features: dict[str, list[Any]] = {name: [] for name in names}
    before, after = special_tokens(tokenizer)
    capacity = max(max_length - len(before) - len(after), 1)
    tags = tag_names(label_names)
    for record, pieces in enumerate(split_pieces(texts, tokenizer, settings.words == "tokenizer")):
        said = None if targets is None else _labels(pieces, targets[record], tags)
        for window in windows(len(pieces.ids), capacity, settings.window_overlap):
            here = range(window.start, window.end)
            values = _words(pieces, speaking(pieces, window, settings.labelled_pieces == "all"), here)
            values["shape_ids"] = pieces.shapes[window.start : window.end]
            if said is not None:
                inside = zip(here, values["word_starts"], strict=True)
                values["labels"] = [said[at] if start >= 0 else IGNORED for at, start in inside]
            features["input_ids"].append([*before, *pieces.ids[window.start : window.end], *after])
            for name, filling in fillings.items():
                features[name].append(
                    [*[filling] * len(before), *values[name], *[filling] * len(after)],
                )
            ends = len(before) * (window.start == 0) + len(after) * (window.end == len(pieces.ids))
            features["n_tokens"].append(window.owned_to - window.owned_from + ends)
            features["record"].append(record)
    return features


def speaking(pieces: Pieces, window: Window, every: bool) -> list[bool]:
    """Which pieces of a window speak for a word: its first, or all, where the first has most context."""
    speaks: list[bool] = []
    word = -1
    for at in range(window.start, window.end):
        number = pieces.numbers[at]
        if number >= 0 and pieces.firsts[at] and window.owned_from <= at < window.owned_to:
            word = number
            speaks.append(True)
        else:
            speaks.append(every and number == word >= 0)
    return speaks


def _words(pieces: Pieces, speaks: list[bool], here: range) -> dict[str, list[int]]:
    spans = [
        pieces.words[pieces.numbers[at]] if says else (-1, -1) for at, says in zip(here, speaks, strict=True)
    ]
    return {"word_starts": [start for start, _ in spans], "word_ends": [end for _, end in spans]}


def _labels(pieces: Pieces, target: str, tags: Sequence[str]) -> list[int]:
    """The number of each piece's tag; pieces after a word's first are inside what it is in."""
    numbers = {tag: number for number, tag in enumerate(tags)}
    known = [entity for entity in from_canonical(target) if f"B-{entity[2]}" in numbers]
    words = [numbers[tag] for tag in word_tags(pieces.words, known)]
    continued = [numbers.get(f"I-{tag[2:]}", 0) for tag in tags]
    return [
        IGNORED if number < 0 else words[number] if first else continued[words[number]]
        for number, first in zip(pieces.numbers, pieces.firsts, strict=True)
    ]

"""Questions and their passages → windows of tokens, each token with where it is in the passage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from catena.data.scripts import WORD
from catena.problems.answers import from_canonical

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a token's label says, as bits: an answer starts here, one ends here, the token may be in an answer.
#: The first token of a window stands for "not in this window".
STARTS, ENDS, ALLOWED = 1, 2, 4
#: Kinds of tokens that the network is told of: none, question, and six of the passage (by how the word is
#: written, and whether the question has it too).
_QUESTION = 1
_PLAIN, _CASED, _DIGITS = 2, 3, 4
_ASKED = 3
_DIGIT = re.compile(r"\d")


def answer_features(
    questions: Sequence[str],
    contexts: Sequence[str],
    targets: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    overlap: int,
    hints: bool,
    partners: Sequence[Sequence[int]] = (),
) -> dict[str, list[Any]]:
    """One row for each window of a passage, the question before it in each.

    All features but `record` and `n_tokens` have one value for each token: `char_starts` and `char_ends`
    are the token's place in the passage (-1 outside of it), `labels` bits of `STARTS`, `ENDS`, `ALLOWED`.
    `n_tokens` counts each token of the passage in one window only. `partners` names for each question
    further records whose passages do not answer it.
    """
    names = ["input_ids", "n_tokens", "record", "char_starts", "char_ends"]
    names += ["shape_ids"] if hints else []
    names += ["labels"] if targets is not None else []
    features: dict[str, list[Any]] = {name: [] for name in names}
    if not questions:
        return features
    pairs = [(record, record) for record in range(len(questions))]
    pairs += [(record, other) for record, others in enumerate(partners) for other in others]
    tokenizer.truncation_side = "right"
    asked = _cut(questions, tokenizer, max(max_length // 2 - 4, 1))
    found = tokenizer(
        [asked[record] for record, _ in pairs],
        [contexts[other] for _, other in pairs],
        truncation="only_second",
        max_length=max_length,
        stride=min(overlap, max_length // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    seen: dict[int, int] = {}
    words: dict[int, set[str]] = {}
    for encoding, at in zip(found.encodings, found["overflow_to_sample_mapping"], strict=True):
        record, other = pairs[at]
        sides = np.array([-1 if side is None else side for side in encoding.sequence_ids])
        places = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        inside = (sides == 1) & (places[:, 0] < places[:, 1])
        starts, ends = _within(contexts[other], places, inside)
        before = seen.get(at)
        fresh = len(sides) if before is None else int((starts >= before).sum())
        seen[at] = max(int(ends.max(initial=-1)), before or 0)
        row: dict[str, Any] = {
            "input_ids": encoding.ids,
            "n_tokens": fresh,
            "record": record,
            "char_starts": starts.tolist(),
            "char_ends": ends.tolist(),
        }
        if hints:
            if record not in words:
                words[record] = {word.casefold() for word in WORD.findall(questions[record])}
            row["shape_ids"] = _shapes(contexts[other], words[record], sides, starts, ends, encoding.word_ids)
        if targets is not None:
            answers = from_canonical(targets[record]) if other == record else []
            row["labels"] = _labels(starts, ends, answers)
        for name in names:
            features[name].append(row[name])
    return features


def _within(context: str, places: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens `inside` of the passage begin and end, without white space around; -1 for others.

    Some tokenizers count the space before a word as part of its first token.
    """
    starts, ends = np.where(inside, places[:, 0], -1), np.where(inside, places[:, 1], -1)
    for token in np.flatnonzero(inside).tolist():
        start, end = int(starts[token]), int(ends[token])
        if context[start].isspace() or context[end - 1].isspace():
            text = context[start:end]
            begun = start + len(text) - len(text.lstrip())
            starts[token], ends[token] = (begun, begun + len(text.strip())) if text.strip() else (-1, -1)
    return starts, ends


def _cut(questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int) -> list[str]:
    """The questions, cut after `most` tokens, so that there is room for the passage."""
    found = tokenizer(
        list(questions), add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False
    )
    return [
        question if len(places) <= most else question[: places[most - 1][1]]
        for question, places in zip(questions, found["offset_mapping"], strict=True)
    ]


def _shapes(
    context: str,
    asked: set[str],
    sides: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    word_ids: Sequence[int | None],
) -> list[int]:
    """The kind of each token: whether the question has its word too (Chen et al. 2017), how it is written."""
    spans: dict[int | None, tuple[int, int]] = {}
    for key, start, end in zip(word_ids, starts.tolist(), ends.tolist(), strict=True):
        if start >= 0:
            first, last = spans.get(key, (start, end))
            spans[key] = min(first, start), max(last, end)
    kinds: dict[int | None, int] = {}
    for key, (start, end) in spans.items():
        word = context[start:end]
        kind = _DIGITS if _DIGIT.search(word) else _PLAIN if word == word.lower() else _CASED
        kinds[key] = kind + _ASKED * (word.casefold() in asked)
    return [
        kinds[key] if start >= 0 else _QUESTION if side == 0 else 0
        for key, side, start in zip(word_ids, sides.tolist(), starts.tolist(), strict=True)
    ]


def _labels(starts: np.ndarray, ends: np.ndarray, answers: Sequence[tuple[int, str]]) -> list[int]:
    """The bits of each token; the first token starts and ends what is not in this window."""
    labels = np.where(starts >= 0, ALLOWED, 0)
    labels[0] |= ALLOWED
    there = False
    for start, text in answers:
        end = start + len(text)
        # pieces that share a character with the answer; all of it must be in this window
        touched = np.flatnonzero((starts >= 0) & (starts < end) & (ends > start))
        if len(touched) and starts[touched[0]] <= start and ends[touched[-1]] >= end:
            labels[touched[0]] |= STARTS
            labels[touched[-1]] |= ENDS
            there = True
    if not there:
        labels[0] |= STARTS | ENDS
    return [int(label) for label in labels]

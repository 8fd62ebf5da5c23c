"""Near duplicates across parts: texts that share most of their character 5-grams.

A character of a script without spaces says about as much as a short word of one with them, so it is
written three times before n-grams are taken: a 5-gram then spans two or three such characters.

MinHash signatures (Broder 1997) and locality-sensitive hashing, both in Rust (`rensa`), find the few
candidates among all pairs; each candidate pair is then compared exactly, so that what is reported as
similar is similar. A pair at the threshold is found with a probability of at least 99%.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rensa import RMinHash, RMinHashDigestMatrix, RMinHashLSH

from catena.data.scripts import UNSPACED

_NGRAM = 5
_UNSPACED = re.compile(f"[{UNSPACED}]")
_PERMUTATIONS = 128
_SEED = 1
#: Characters whose n-grams are hashed at once: bounds memory at some 50 MB, or 150 in scripts without spaces.
_CHUNK_CHARACTERS = 1_000_000
#: Records of the other side tried per band and record, so that thousands of variants of one template
#: do not turn into millions of comparisons.
_TRIES = 32
#: Estimates this far below the threshold are still compared exactly: three standard errors.
_SLACK = 0.1
_RECALL = 0.99


@dataclass(frozen=True)
class NearDuplicates:
    """For each found record of the lower side: its position, its partner's, and their similarity."""

    lower: np.ndarray
    higher: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Search:
    """How near duplicates are looked for: from which similarity on, what is made of the inputs of one part,
    and what compares two parts as `find_near_duplicates` does."""

    threshold: float
    side: Callable[[Sequence[str]], Any]
    find: Callable[[Any, Any, float, np.ndarray, np.ndarray], NearDuplicates]


class Side:
    """The texts on one side of a comparison, with their signatures, computed once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.signatures = list(_signatures(texts))


def find_near_duplicates(
    lower: Side, higher: Side, threshold: float, lower_counts: np.ndarray, higher_counts: np.ndarray
) -> NearDuplicates:
    """The texts of `lower` that have a near duplicate in `higher`, with one partner each.

    Similarity is the Jaccard index of the sets of character 5-grams, upper and lower case alike, as
    described above; texts are near duplicates from `threshold` on. The boolean arrays say which texts count.
    """
    bands = band_count(threshold)
    near_lower, near_higher = _candidates(lower, higher, threshold, bands, lower_counts, higher_counts)
    if len(near_lower) == 0 or len(near_higher) == 0:
        return NearDuplicates(*(np.empty(0, dtype=kind) for kind in (np.int64, np.int64, np.float64)))
    ours = _rows([lower.texts[at] for at in near_lower])
    theirs = _rows([higher.texts[at] for at in near_higher])
    partner = np.full(len(near_lower), -1, dtype=np.int64)
    similarity = np.zeros(len(near_lower))
    width = _PERMUTATIONS // bands
    refuted: set[tuple[int, int]] = set()
    for band in range(bands):
        columns = slice(band * width, (band + 1) * width)
        for mine, other in _matches(_keys(ours[:, columns]), _keys(theirs[:, columns]), partner):
            estimate = (ours[mine] == theirs[other]).mean(axis=1)
            for left, right in zip(
                mine[estimate >= threshold - _SLACK], other[estimate >= threshold - _SLACK], strict=True
            ):
                pair = (int(left), int(right))
                if pair in refuted:
                    continue
                exact = jaccard(lower.texts[near_lower[left]], higher.texts[near_higher[right]])
                if exact >= threshold:
                    partner[left], similarity[left] = right, exact
                else:
                    refuted.add(pair)
    found = np.flatnonzero(partner >= 0)
    return NearDuplicates(near_lower[found], near_higher[partner[found]], similarity[found])


def band_count(threshold: float) -> int:
    """The fewest bands of a signature with which a pair at `threshold` shares one with probability 0.99."""
    for bands in (1, 2, 4, 8, 16, 32, 64):
        width = _PERMUTATIONS // bands
        if 1.0 - (1.0 - threshold**width) ** bands >= _RECALL:
            return bands
    return _PERMUTATIONS


def jaccard(first: str, second: str) -> float:
    """Jaccard index of the 5-grams of two texts, case aside."""
    ours, theirs = _ngrams(first), _ngrams(second)
    common = len(ours & theirs)
    return common / (len(ours) + len(theirs) - common)


def _folded(text: str) -> str:
    """The text without upper case, with characters of scripts without spaces three times over, and long
    enough for one n-gram."""
    if text.isascii():
        return text.lower().ljust(_NGRAM, "\0")
    return _UNSPACED.sub(r"\g<0>\g<0>\g<0>", text.casefold()).ljust(_NGRAM, "\0")


def _ngrams(text: str) -> set[str]:
    text = _folded(text)
    return {text[at : at + _NGRAM] for at in range(len(text) - _NGRAM + 1)}


def _candidates(
    lower: Side,
    higher: Side,
    threshold: float,
    bands: int,
    lower_counts: np.ndarray,
    higher_counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions, on either side, of the texts that share a band with a text of the other side."""
    shared = _sharing(lower.signatures, higher.signatures, threshold, bands)
    near_lower = shared[lower_counts[shared]]
    chosen = list(_signatures([lower.texts[at] for at in near_lower]))
    shared = _sharing(higher.signatures, chosen, threshold, bands)
    return near_lower, shared[higher_counts[shared]]


def _sharing(
    asking: list[RMinHashDigestMatrix], indexed: list[RMinHashDigestMatrix], threshold: float, bands: int
) -> np.ndarray:
    """Positions of the asking signatures that share a band with an indexed one.

    The index flags what it knows more than once (it expects the asking ones among the indexed), hence
    every signature is put in twice.
    """
    index = RMinHashLSH(threshold, _PERMUTATIONS, bands)
    key = 0
    for matrix in [*indexed, *indexed]:
        index.insert_matrix(matrix, key)
        key += matrix.len()
    flags = [np.asarray(index.query_duplicate_flags_matrix(matrix), dtype=bool) for matrix in asking]
    return np.flatnonzero(np.concatenate(flags)) if flags else np.empty(0, dtype=np.int64)


def _signatures(texts: Sequence[str]) -> Iterator[RMinHashDigestMatrix]:
    """MinHash signatures of consecutive slices of `texts`."""
    start = 0
    while start < len(texts):
        end, characters = start, 0
        while end < len(texts) and (end == start or characters + len(texts[end]) <= _CHUNK_CHARACTERS):
            characters += len(texts[end])
            end += 1
        hashes, offsets = _hashed_ngrams(texts[start:end])
        yield RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, _PERMUTATIONS, _SEED)
        start = end


def _rows(texts: Sequence[str]) -> np.ndarray:
    """Signatures as an array `(texts, 128)` of unsigned 32-bit numbers."""
    return np.concatenate([np.asarray(matrix.to_rows(), dtype=np.uint32) for matrix in _signatures(texts)])


def _hashed_ngrams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of all texts' n-grams in one array, and where each text's begin and end."""
    folded = [_folded(text) for text in texts]
    lengths = np.fromiter((len(text) for text in folded), dtype=np.int64, count=len(folded))
    codes = np.frombuffer("".join(folded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(codes) - _NGRAM + 1, dtype=np.uint64)
    for offset in range(_NGRAM):
        hashes *= np.uint64(0x100000001B3)
        hashes += codes[offset : offset + len(hashes)]
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(29)
    inside = np.ones(len(hashes), dtype=bool)
    ends = np.cumsum(lengths)[:-1]
    for back in range(1, _NGRAM):
        inside[ends - back] = False  # n-grams that would run into the next text
    offsets = np.concatenate([[0], np.cumsum(lengths - _NGRAM + 1)]).astype(np.uint64)
    return hashes[inside], offsets


def _keys(band: np.ndarray) -> np.ndarray:
    """One 64-bit number for each row of a band."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys += column.astype(np.uint64)
        keys ^= keys >> np.uint64(29)
    return keys


def _matches(
    ours: np.ndarray, theirs: np.ndarray, partner: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of positions with equal keys: for each of ours still without partner one of theirs at a time."""
    order = np.argsort(theirs, kind="stable")
    first = np.searchsorted(theirs[order], ours, side="left")
    count = np.searchsorted(theirs[order], ours, side="right") - first
    for attempt in range(min(int(count.max(initial=0)), _TRIES)):
        open_ = np.flatnonzero((partner < 0) & (count > attempt))
        if len(open_) == 0:
            return
        yield open_, order[first[open_] + attempt]

"""What two texts have in common, and how much a text repeats itself: ROUGE, distinct n-grams, repetition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catena.data.scripts import WORD


def words(text: str) -> list[str]:
    """The words of a text in lower case; in scripts without spaces between words, its characters.

    ROUGE's original program and its successors keep only `a-z0-9`, which leaves nothing of most languages.
    """
    return [word.lower() for word in WORD.findall(text)]


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All stretches of `n` tokens."""
    return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]


def rouge_n(reference: Sequence[str], written: Sequence[str], n: int) -> float:
    """F1 of the n-grams that both have, each as often as in the one that has it less (Lin 2004)."""
    theirs, ours = Counter(ngrams(reference, n)), Counter(ngrams(written, n))
    return _f1((theirs & ours).total(), theirs.total(), ours.total())


def rouge_l(reference: Sequence[str], written: Sequence[str]) -> float:
    """F1 of the longest sequence of words that both have in this order, gaps allowed (Lin 2004)."""
    return _f1(_longest_common(reference, written), len(reference), len(written))


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by Hyyrö's bit vectors (2004): a word is one operation."""
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(one) - row.bit_count()


def _f1(common: int, reference: int, written: int) -> float:
    return 2 * common / (reference + written) if common else 0.0


@dataclass(frozen=True)
class Diversity:
    """Of some texts: shares of different words and pairs among all of them, of repeated 4-grams, and words a
    text on average."""

    distinct_1: float
    distinct_2: float
    repetition: float
    words: float

    @classmethod
    def of(cls, texts: Iterable[str]) -> Diversity:
        """Over all texts together, as in Li et al. (2016); 4-grams count as repeated within one text."""
        tokens = [words(text) for text in texts]
        singles = Counter(word for one in tokens for word in one)
        pairs = Counter(pair for one in tokens for pair in ngrams(one, 2))
        fours = [ngrams(one, 4) for one in tokens]
        every = sum(map(len, fours))
        different = sum(len(set(one)) for one in fours)
        return cls(
            len(singles) / max(singles.total(), 1),
            len(pairs) / max(pairs.total(), 1),
            1 - different / every if every else 0.0,
            singles.total() / max(len(tokens), 1),
        )


def distinct(tokens: Sequence[str], n: int) -> float | None:
    """Share of different n-grams among those of one text; nothing where it has none."""
    found = ngrams(tokens, n)
    return len(set(found)) / len(found) if found else None

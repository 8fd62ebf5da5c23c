"""Whether two answers are the same, as SQuAD's official script decides (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from catena.data.scripts import UNSPACED

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHIN_NUMBERS = re.compile(r"(?<=\d)[.,](?=\d)")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
#: Runs between white space; a character where a script puts no spaces between words (as MLQA does).
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def normalised(text: str) -> str:
    """Lower case, without punctuation and English articles, with single spaces."""
    text = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(text.split())


def holds(text: str, answer: str) -> bool:
    """Whether a text has all words of an answer in a row, none of them as a part of a longer word.

    Punctuation may stand within a word ("U.S." holds "US") or between two ("1990-2010" holds "2010"); a
    number's points and commas are its own. An answer of nothing but articles and punctuation is nowhere.
    """
    for form in (normalised, _parted):
        words, wanted = (_TOKEN.findall(form(one)) for one in (text, answer))
        if wanted and any(
            words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1)
        ):
            return True
    return False


def _parted(text: str) -> str:
    """As `normalised`, but with a space for punctuation; underscores hold names together, as in code."""
    text = _WITHIN_NUMBERS.sub("", text)
    parted = (" " if one != "_" and unicodedata.category(one)[0] in "PS" else one for one in text)
    return normalised("".join(parted))


def exact(said: str, right: str) -> float:
    """1 where both are the same once normalised, else 0."""
    return float(normalised(said) == normalised(right))


def overlap(said: str, right: str) -> float:
    """F1 of the words; where one of both has none, 1 if neither has."""
    ours, theirs = (_TOKEN.findall(normalised(text)) for text in (said, right))
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def best_match(said: str, right: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with whichever right answer gives the most; no right answer is an empty one."""
    # Answers that are nothing but articles and punctuation are left out, as the official script does.
    known = [text for text in right if normalised(text)] or [""]
    return max(exact(said, text) for text in known), max(overlap(said, text) for text in known)

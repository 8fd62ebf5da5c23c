"""Writing systems: which put no spaces between words, what counts as a word in them, how wide they print."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: Inside brackets of a regular expression: Thai, Lao, Myanmar, Khmer, kana, and Han with its extensions.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
#: Where a script has no spaces between words, each of its characters counts as one.
WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[\w'’])+")
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
#: The same for RE2, which looks at nothing ahead: runs between white space, or single characters.
_COUNTED = rf"[{UNSPACED}]|[^\s{UNSPACED}]+"


def unspaced_share(texts: Iterable[str]) -> float:
    """Share of the letters of `texts` that belong to scripts without spaces between words."""
    letters = unspaced = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        if not text.isascii():
            unspaced += sum(1 for found in UNSPACED_CHARACTER.findall(text) if found.isalpha())
    return unspaced / letters if letters else 0.0


def latin_share(texts: Iterable[str]) -> float:
    """Share of the letters of `texts` that are Latin ones."""
    letters = latin = 0
    for text in texts:
        for character in filter(str.isalpha, text):
            letters += 1
            latin += character.isascii() or "LATIN" in unicodedata.name(character, "")
    return latin / letters if letters else 1.0


def word_counts(texts: pd.Series) -> pd.Series:
    """The number of words of each text: runs between white space, or characters where a script has none."""
    return pd.Series(pc.count_substring_regex(pa.array(texts, pa.large_string()), _COUNTED).to_numpy())


def whole_word(word: str) -> str:
    """A pattern for `word` that does not match within a longer one, where its script has spaces."""
    spaced = re.compile(rf"(?![{UNSPACED}])\w")
    before = rf"(?<![^\W{UNSPACED}])" if spaced.match(word[:1]) else ""
    after = rf"(?![^\W{UNSPACED}])" if spaced.match(word[-1:]) else ""
    return f"{before}{re.escape(word)}{after}"


def joined(first: str, second: str) -> str:
    """Two pieces of text as one, with a space between them unless both sides are written without."""
    if UNSPACED_CHARACTER.match(first[-1:]) and UNSPACED_CHARACTER.match(second[:1]):
        return first + second
    return f"{first} {second}"


def width(text: str) -> int:
    """Columns that a text takes where wide characters take two (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shortened(text: str, most: int) -> str:
    """The text, or as much of it as `most` columns hold with an ellipsis."""
    if width(text) <= most:
        return text
    taken, at = 1, 0
    while at < len(text) and taken + width(text[at]) <= most:
        taken += width(text[at])
        at += 1
    return text[:at] + "…"

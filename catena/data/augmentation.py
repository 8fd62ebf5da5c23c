"""Altered copies of training records, to make a model indifferent to small changes of wording.

Four operations, in this order: synonyms from the user's file; words left out (word dropout); words
swapped for others drawn by their frequency (unigram noising, Xie et al. 2017, arXiv:1703.02573); and
typing errors. Writing systems without spaces between words have each character taken as a word.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.data.scripts import WORD, whole_word
from catena.errors import DataError, SettingsError
from catena.settings import AugmentationSettings

_EXAMPLES = 3
_MAX_VOCABULARY = 50_000


@dataclass
class Tally:
    """What augmentation did, for the quality report."""

    copies: int = 0
    unchanged: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        operations = ("synonym", "word_dropout", "backoff_swap", "character_noise")
        return {
            "copies": self.copies,
            "unchanged_copies_left_out": self.unchanged,
            "changes": {name: self.counts[name] for name in operations},
            "examples": self.examples,
        }


class Augmenter:
    """Makes altered copies; the same seed, record and settings give the same copies."""

    def __init__(self, settings: AugmentationSettings, folder: Path, seed: int, texts: Sequence[str]) -> None:
        self._settings = settings
        self._seed = seed
        self._synonyms: dict[str, list[str]] = {}
        self._synonym_pattern: re.Pattern[str] | None = None
        if settings.synonym > 0:
            self._read_synonyms(folder)
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        if settings.backoff_swap > 0 or settings.character_noise > 0:
            for text in texts:
                words.update(WORD.findall(text))
                characters.update(text)
        frequent = words.most_common(_MAX_VOCABULARY)
        self._words = [word for word, _ in frequent]
        self._word_odds = np.cumsum([count for _, count in frequent]).tolist()
        letters = [(c, n) for c, n in characters.most_common(1000) if c.isalnum()]
        self._letters = [c for c, _ in letters]
        self._letter_odds = np.cumsum([n for _, n in letters]).tolist()

    def copies(
        self, records: pd.DataFrame, role: str, members: pd.Series | None, taken: set[str], tally: Tally
    ) -> pd.DataFrame:
        """Altered copies of `records`, each with the id of its origin and `-a<number>`.

        `members` are the records' classes, several rows for a record of several; none without classes.
        Copies that came out unchanged, empty or equal to a text in `taken` are left out.
        """
        chosen = records
        if self._settings.classes is not None and members is not None:
            chosen = records[records.index.isin(members.index[members.isin(self._settings.classes)])]
        rows: list[int] = []
        texts: list[str] = []
        names: list[str] = []
        for at, (text, name) in enumerate(zip(chosen[role], chosen["id"], strict=True)):
            for copy in range(1, self._settings.copies + 1):
                changes: Counter[str] = Counter()
                altered = self.alter(text, f"{name}:{copy}", changes)
                if altered == text or not altered or altered in taken:
                    tally.unchanged += 1
                    continue
                tally.counts.update(changes)
                rows.append(at)
                texts.append(altered)
                names.append(f"{name}-a{copy}")
                if len(tally.examples) < _EXAMPLES:
                    tally.examples.append(
                        {"before": text[:200], "after": altered[:200], "changes": dict(changes)}
                    )
        tally.copies += len(rows)
        copies = chosen.iloc[rows].copy()
        copies[role] = pd.array(texts, dtype="str")
        copies["id"] = pd.array(names, dtype="str")
        copies["augmented"] = True
        return copies

    def alter(self, text: str, name: str, changes: Counter[str]) -> str:
        """One altered copy of `text`; `name` picks the random numbers, `changes` counts what was done."""
        digest = hashlib.sha256(f"{self._seed}:{name}".encode()).digest()
        rng = random.Random(digest)  # noqa: S311 - noise, not secrets
        if self._synonym_pattern is not None:
            text = self._swap_synonyms(text, rng, changes)
        if self._settings.word_dropout > 0:
            text = self._drop_words(text, rng, changes)
        if self._settings.backoff_swap > 0 and self._words:
            text = self._swap_words(text, rng, changes)
        if self._settings.character_noise > 0:
            text = self._disturb_characters(text, rng, changes)
        return " ".join(text.split()) if changes else text

    def _swap_synonyms(self, text: str, rng: random.Random, changes: Counter[str]) -> str:
        def swap(match: re.Match[str]) -> str:
            word = match.group()
            others = [s for s in self._synonyms.get(word.casefold(), []) if s != word.casefold()]
            if not others or rng.random() >= self._settings.synonym:
                return word
            changes["synonym"] += 1
            other = rng.choice(others)
            return other[:1].upper() + other[1:] if word[:1].isupper() else other

        assert self._synonym_pattern is not None  # noqa: S101 - the caller looked
        return self._synonym_pattern.sub(swap, text)

    def _drop_words(self, text: str, rng: random.Random, changes: Counter[str]) -> str:
        matches = list(WORD.finditer(text))
        dropped = [match for match in matches if rng.random() < self._settings.word_dropout]
        if len(dropped) == len(matches):
            dropped = dropped[:-1]  # a text keeps at least one word
        for match in reversed(dropped):
            text = text[: match.start()] + text[match.end() :]
        if dropped:
            changes["word_dropout"] += len(dropped)
        return text

    def _swap_words(self, text: str, rng: random.Random, changes: Counter[str]) -> str:
        def swap(match: re.Match[str]) -> str:
            if rng.random() >= self._settings.backoff_swap:
                return match.group()
            changes["backoff_swap"] += 1
            return rng.choices(self._words, cum_weights=self._word_odds)[0]

        return WORD.sub(swap, text)

    def _disturb_characters(self, text: str, rng: random.Random, changes: Counter[str]) -> str:
        characters = _graphemes(text)
        at = 0
        while at < len(characters):
            if characters[at][0].isalnum() and rng.random() < self._settings.character_noise:
                changes["character_noise"] += 1
                kind = rng.randrange(4)
                following = characters[at + 1] if at + 1 < len(characters) else ""
                if kind == 0 and following[:1].isalnum():
                    characters[at], characters[at + 1] = following, characters[at]
                    at += 1  # the pair is done
                elif kind == 1:
                    characters[at] *= 2
                elif kind == 2 and len(characters) > 1:
                    characters[at] = ""
                elif self._letters:
                    characters[at] = rng.choices(self._letters, cum_weights=self._letter_odds)[0]
            at += 1
        return "".join(characters)

    def _read_synonyms(self, folder: Path) -> None:
        name = self._settings.synonyms_file
        if name is None:
            raise SettingsError(
                "`preparation.augmentation.synonym` is above 0 but no `synonyms_file` is named; name a file "
                "in the data folder with one group of interchangeable words a line, separated by tabs."
            )
        path = folder / name
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            raise DataError(f"There is no synonyms file {name} in {folder}; put it there.") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
        for number, line in enumerate(lines, 1):
            words = [word.strip().casefold() for word in line.split("\t") if word.strip()]
            if len(words) == 1:
                raise DataError(
                    f"{name}, line {number}: {words[0]!r} stands alone; a group needs two or more words, "
                    "separated by tabs."
                )
            for word in words:
                self._synonyms[word] = sorted({*self._synonyms.get(word, []), *words})
        if not self._synonyms:
            raise DataError(f"{name} holds no synonyms; put one tab-separated group of words on each line.")
        longest_first = sorted(self._synonyms, key=lambda word: (-len(word), word))
        self._synonym_pattern = re.compile("|".join(map(whole_word, longest_first)), re.IGNORECASE)


def check_augmentation(settings: AugmentationSettings, class_names: Sequence[str]) -> None:
    """Raise when augmentation is on but would do nothing, or names unknown classes."""
    rates = (settings.synonym, settings.word_dropout, settings.character_noise, settings.backoff_swap)
    if settings.copies > 0 and not any(rates):
        raise SettingsError(
            f"`preparation.augmentation.copies` is {settings.copies} but no operation has a share above 0; "
            "set `synonym`, `word_dropout`, `character_noise` or `backoff_swap`."
        )
    unknown = [name for name in settings.classes or () if name not in class_names]
    if settings.copies > 0 and unknown:
        raise SettingsError(
            f"`preparation.augmentation.classes`: there is no class {unknown[0]!r}; "
            f"there are {', '.join(map(repr, class_names[:20]))}."
        )


def _graphemes(text: str) -> list[str]:
    """Characters with their combining marks."""
    if text.isascii():
        return list(text)
    clusters: list[str] = []
    for character in text:
        if clusters and (unicodedata.combining(character) or character in "\u200d\ufe0f"):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters

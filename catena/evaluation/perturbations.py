"""Small changes to a text that a behaviour test makes: each takes a text and a seeded generator."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from catena.data.scripts import UNSPACED, joined, whole_word

#: What white space divides; of scripts without spaces, each character.
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")

Words = Annotated[str | tuple[str, ...], Field(min_length=1)]


def lowercase(text: str, _: random.Random) -> str:
    return text.lower()


def uppercase(text: str, _: random.Random) -> str:
    return text.upper()


def typo(text: str, chance: random.Random) -> str:
    """Two neighbouring letters swapped inside one word of at least four."""
    places = [
        match.start() + offset
        for match in re.finditer(r"\w{4,}", text)
        for offset in range(1, len(match.group()) - 2)
        if text[match.start() + offset] != text[match.start() + offset + 1]
    ]
    if not places:
        return text
    at = chance.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def drop_punctuation(text: str, _: random.Random) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s]", " ", text)).strip()


def drop_word(text: str, chance: random.Random) -> str:
    """One word left out of a text of at least eight; a character, where a script has no spaces."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) < 8:
        return text
    start, end = words[chance.randrange(len(words))]
    return " ".join(f"{text[:start]}{text[end:]}".split())


PLAIN: dict[str, Callable[[str, random.Random], str]] = {
    change.__name__: change for change in (lowercase, uppercase, typo, drop_punctuation, drop_word)
}


class Change(Protocol):
    """What changes one input of a record, as the record holds it; a problem says which changes it knows."""

    def apply(self, text: str, chance: random.Random) -> str:
        """The changed input; the same where there is nothing to change."""
        ...


class Perturbation(BaseModel):
    """Exactly one change: a plain one by `name`, or one with words of its own.

    In YAML a plain one is written as its name (`typo`), the others as a mapping of one entry:
    `append: words` and `prepend: words` (a list: one of them is drawn), `swap: [a, b, c]` (every
    one of these words becomes another of them), `replace: {old: new}` (whole words).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    append: Words | None = None
    prepend: Words | None = None
    swap: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    replace: Annotated[dict[str, str], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_known_change(self) -> Perturbation:
        if len(self.model_fields_set) != 1:
            raise ValueError("a perturbation has exactly one entry, such as `typo` or `append: words`")
        if self.name is not None and self.name not in PLAIN:
            raise ValueError(
                f"there is no perturbation `{self.name}`; choose one of {', '.join(PLAIN)}, "
                "`append: words`, `prepend: words`, `swap: [word, word]` or `replace: {old: new}`"
            )
        if "" in (*(self.append or ()), *(self.prepend or ()), *(self.swap or ()), *(self.replace or ())):
            raise ValueError("the words of a perturbation cannot be empty")
        return self

    def apply(self, text: str, chance: random.Random) -> str:
        """The changed text; the same text where there is nothing to change."""
        if self.name is not None:
            return PLAIN[self.name](text, chance)
        if self.append is not None:
            return joined(text, _draw(self.append, chance))
        if self.prepend is not None:
            return joined(_draw(self.prepend, chance), text)
        if self.swap is not None:
            names = self.swap
            return _whole_words(
                text, names, lambda found: chance.choice([name for name in names if name != found])
            )
        pairs = self.replace or {}
        return _whole_words(text, tuple(pairs), lambda found: pairs[found])

    def __str__(self) -> str:
        if self.name is not None:
            return self.name.replace("_", " ")
        return next(iter(self.model_fields_set))


def _draw(words: str | tuple[str, ...], chance: random.Random) -> str:
    return words if isinstance(words, str) else chance.choice(words)


def _whole_words(text: str, words: tuple[str, ...], other: Callable[[str], str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(map(whole_word, longest_first))
    return re.sub(pattern, lambda match: other(match.group()), text)

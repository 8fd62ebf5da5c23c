"""What a look at a user's file found, and what the user has said about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catena.errors import DataError, SettingsError
from catena.settings import DataSettings
from catena.settings.data import Format


@dataclass(frozen=True)
class Wanted:
    """What the user said: `columns` by role, a test file, and the problem where it is not to be guessed.

    `text` and `label` name the first input and the target where a problem calls them otherwise.
    """

    text: str | None = None
    label: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    test: Path | None = None
    problem: str | None = None

    def options(self) -> list[tuple[str, str]]:
        """The columns that were named, each after the option that names it."""
        given = [("--text", self.text), ("--label", self.label)]
        given += [(f"--column {role}=", column) for role, column in self.columns.items()]
        return [(option, name) for option, name in given if name is not None]

    def check_columns(self, path: Path, columns: Iterable[str]) -> None:
        """Raise `DataError` for a named column that is not among those of `path`."""
        present = list(columns)
        for option, name in self.options():
            if name not in present:
                near = difflib.get_close_matches(name, present, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                listed = ", ".join(map(repr, present[:20]))
                raise DataError(f"{path.name} has no column {name!r} for {option}, only {listed}{hint}")

    def check_roles(self, problem: str, roles: Iterable[str]) -> None:
        """Raise `DataError` where `--column` names a role that the problem does not have."""
        known = list(roles)
        for role in self.columns:
            if role not in known:
                raise DataError(
                    f"`--column {role}=…`: the problem {problem} has no {role}; its columns are "
                    f"{', '.join(known)}."
                )


@dataclass(frozen=True)
class Inspection:
    """What a file holds and how to read it.

    `data` are the settings of `params.yaml`'s `data` group that read it (its `name` still to be chosen);
    `characters` and `words` hold `min`, percentiles, `max` and `mean` over the records that have a text
    (a word is a character in scripts without spaces); `unspaced` and `latin` are shares of the letters.
    `classes` counts the classes of targets that have some; `numbers` says where targets that are numbers
    lie. `problem_settings` are those of the `problem` group that differ from the defaults, with the reason.
    """

    path: Path
    format: Format
    data: DataSettings
    columns: tuple[str, ...]
    records: int
    words: dict[str, float]
    problem: str
    test: Path | None = None
    validation: Path | None = None
    broken: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    characters: dict[str, float] = field(default_factory=dict)
    max_length: int = 0
    unescape_html: bool = False
    strip_quotes: bool = False
    unspaced: float = 0.0
    latin: float = 1.0
    notes: tuple[str, ...] = ()
    problem_settings: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """What is copied into a new project: the training file, and those for validation and test."""
        return [path for path in (self.path, self.validation, self.test) if path is not None]

    @property
    def text(self) -> str:
        """The column with the text, or with the first input."""
        return next(iter(self.data.columns.values()))

    @property
    def label(self) -> str:
        """The column with what is learned."""
        return list(self.data.columns.values())[-1]

    @property
    def targets(self) -> str:
        """The targets in a few words: where numbers lie, or how often there is which class."""
        if self.numbers:
            return ", ".join(f"{name} {value:g}" for name, value in self.numbers.items())
        shown = ", ".join(f"{name} {count:,}" for name, count in list(self.classes.items())[:6])
        more = f" and {len(self.classes) - 6} more" if len(self.classes) > 6 else ""
        return f"{len(self.classes)} classes: {shown}{more}"


def read_columns(given: Sequence[str]) -> dict[str, str]:
    """Columns by role, from `--column role=name`. Raises `SettingsError` where one is not written so."""
    columns: dict[str, str] = {}
    for one in given:
        role, equals, name = (part.strip() for part in one.partition("="))
        if not (equals and role and name):
            raise SettingsError(f"`--column {one}`: write a role and a column, as in `query=search_text`.")
        if role in columns:
            raise SettingsError(f"`--column {role}=…` is given twice.")
        columns[role] = name
    return columns

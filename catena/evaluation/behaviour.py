"""Behaviour tests: what a model must do, written down in a YAML file.

After CheckList (Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models"):
minimum functionality (it knows this), invariance (this must not matter) and direction (this must
raise or lower the probability of a label). What the file says is read here for all problems; what
it means is the problem's (`catena.evaluation.checklist`).
"""

from __future__ import annotations

import difflib
import itertools
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from catena.errors import SettingsError
from catena.evaluation.perturbations import Change, Perturbation
from catena.settings.yaml_files import read_yaml

_KINDS = ("minimum_functionality", "invariance", "direction")
_SLOT = re.compile(r"\{(\w+)\}")
Text = Annotated[str, Field(min_length=1)]


def _given(value: object) -> object:
    texts = list(value.values()) if isinstance(value, dict) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("a text was expected, or a text for each input of the problem")
    return value


def _change(value: object, info: ValidationInfo) -> object:
    """A perturbation of the kind that the problem at hand knows."""
    kind: type[BaseModel] = (info.context or {}).get("perturbation", Perturbation)
    return kind.model_validate(value)


#: A record: its text, or a text for each input.
Given = Annotated[str | dict[str, str], PlainValidator(_given)]
#: The texts of a record's inputs, in the order of the problem's roles.
Record = tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """The inputs of a problem, and those of them that can be changed.

    `words` gives inputs as texts whose words can be changed, or `None` (`Problem.as_words`). `read` gives
    what the file has as a record holds it, which for pictures are their pixels (`Problem.read_written`).
    """

    roles: tuple[str, ...]
    worded: tuple[str, ...]
    words: Callable[[Mapping[str, str]], Mapping[str, str] | None] = lambda inputs: inputs
    read: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda inputs: inputs

    def record(self, given: str | Mapping[str, str]) -> Record:
        """Raises `ValueError` where inputs are missing, or some are given that there are not."""
        if isinstance(given, str):
            if len(self.roles) > 1:
                raise ValueError(f"has {given[:40]!r}, not a text for each input: {', '.join(self.roles)}")
            given = {self.roles[0]: given}
        unknown = [role for role in given if role not in self.roles]
        missing = [role for role in self.roles if role not in given]
        if unknown or missing:
            what = f"has an input {unknown[0]!r}" if unknown else f"lacks the input {missing[0]!r}"
            raise ValueError(f"{what} in a record; the problem reads {', '.join(self.roles)}")
        read = self.read(given)
        return tuple(read[role] for role in self.roles)

    def completed(self, given: str | Mapping[str, str] | None, rest: str | Mapping[str, str]) -> Record:
        """The record that `rest` makes of `given`; a text is the one input that is missing there."""
        base = dict(given or {}) if not isinstance(given, str) else {self.roles[0]: given}
        if isinstance(rest, str):
            missing = [role for role in self.roles if role not in base]
            if len(missing) != 1:
                raise ValueError(f"has {rest[:40]!r}, not saying which input it is: {', '.join(self.roles)}")
            rest = {missing[0]: rest}
        return self.record({**base, **rest})

    def in_words(self, record: Record) -> Record | None:
        """The record as texts whose words can be changed; `None` where they cannot be."""
        found = self.words(dict(zip(self.roles, record, strict=True)))
        return None if found is None else tuple(found[role] for role in self.roles)

    def changeable(self, given: str | Mapping[str, str]) -> Record:
        """The same of texts in the file; raises `ValueError` where their words cannot be changed."""
        record = self.record(given)
        words = self.in_words(record)
        if words is None:
            raise ValueError(f"has {record[0][:40]!r}, which is no running text whose words can be changed")
        return words

    def changed(self, record: Record, change: Change, roles: Sequence[str], chance: Any) -> Record:
        """The record with a change made to the texts of some roles."""
        return tuple(
            change.apply(text, chance) if role in roles else text
            for role, text in zip(self.roles, record, strict=True)
        )


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(_Entry):
    """A text and the target it must get, or two of which `better` must be said to be more than `worse`."""

    text: Given | None = None
    label: Any = None
    better: Given | None = None
    worse: Given | None = None

    @model_validator(mode="after")
    def _one_thing_is_asked(self) -> Case:
        if (self.better is None) != (self.worse is None):
            raise ValueError("`better` and `worse` belong together")
        if self.better is not None and self.label is not None:
            raise ValueError("a case has either a `label`, or `better` and `worse`")
        if self.better is None and self.text is None:
            raise ValueError("`text`: field required")
        if self.better is None and self.label is None:
            raise ValueError("`label`: field required")
        return self


class _Test(_Entry):
    """What all kinds have in common: a name, texts or ways to make them, and a bar to clear."""

    name: Text
    about: str = ""
    texts: tuple[Given, ...] = ()
    templates: tuple[Given, ...] = ()
    slots: dict[str, Annotated[tuple[Text, ...], Field(min_length=1)]] = {}
    #: Most cases; of more, this many are drawn.
    most: int = Field(200, ge=1, le=10_000)
    #: Share of cases that must pass.
    threshold: float = Field(0.9, ge=0.0, le=1.0)
    #: What counts as equal where predictions are numbers; each problem says whether it wants one.
    tolerance: float | None = Field(None, ge=0.0)

    @model_validator(mode="after")
    def _slots_are_filled(self) -> _Test:
        for template in self.templates:
            used = _slots(template)
            if not used:
                raise ValueError(f"the template {template!r} has no {{slot}}; write it under `texts`")
            unknown = [name for name in used if name not in self.slots]
            if unknown:
                raise ValueError(
                    f"the template {template!r} uses {{{unknown[0]}}}, which `slots` does not fill"
                )
        return self

    def written(self, chance: random.Random) -> list[tuple[str | dict[str, str], dict[str, str]]]:
        """The texts as given, then those made from templates, with the words in their slots.

        All are different, and at most `most`.
        """
        every: list[tuple[str | dict[str, str], dict[str, str]]] = [(text, {}) for text in self.texts]
        every += [one for template in self.templates for one in self._fill(template, chance)]
        unique: dict[str, tuple[str | dict[str, str], dict[str, str]]] = {}
        for text, words in every:
            unique.setdefault(repr(text), (text, words))
        return _sample(list(unique.values()), self.most, chance)

    def _fill(
        self, template: str | dict[str, str], chance: random.Random
    ) -> list[tuple[str | dict[str, str], dict[str, str]]]:
        names = list(dict.fromkeys(_slots(template)))
        fillers = [self.slots[name] for name in names]
        total = 1
        for one in fillers:
            total *= len(one)
        # Numbers stand for combinations, so that a million of them need not be listed.
        chosen = range(total) if total <= self.most else _numbers(total, self.most, chance)
        filled = []
        for number in chosen:
            words: dict[str, str] = {}
            for name, one in zip(names, fillers, strict=True):
                number, index = divmod(number, len(one))
                words[name] = one[index]
            filled.append((fill_in(template, words), words))
        return filled


class _Change(_Test):
    """Tests of what a change of the text does; `records` takes texts from the test part as well."""

    pairs: tuple[tuple[Given, Given], ...] = ()
    records: int = Field(0, ge=0, le=10_000)
    perturbations: tuple[Annotated[Any, PlainValidator(_change)], ...] = ()
    #: Inputs that perturbations change; by default all that are texts.
    inputs: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _there_is_something_to_change(self) -> _Change:
        sources = bool(self.texts or self.templates or self.records)
        if sources and not self.perturbations:
            raise ValueError("`texts`, `templates` and `records` need `perturbations` to change them")
        if not sources and self.perturbations:
            raise ValueError("`perturbations` need `texts`, `templates` or `records` to change")
        if not sources and not self.pairs:
            raise ValueError(
                "a test needs `pairs`, or `texts`, `templates` or `records` with `perturbations`"
            )
        return self

    def changes(
        self, test_records: Sequence[Record], inputs: Inputs, chance: random.Random
    ) -> list[tuple[Record, Record]]:
        """Pairs of a record and its changed self, at most `most`; those that stay the same are left out.

        Raises `ValueError` for texts that are no record, or that perturbations cannot change.
        """
        drawn = _sample(list(test_records), self.records, chance) if self.records else []
        written = [inputs.changeable(text) for text, _ in self.written(chance)]
        made = [
            (record, inputs.changed(record, change, self.inputs or inputs.worded, chance))
            for record, change in itertools.product([*written, *drawn], self.perturbations)
        ]
        different = [(before, after) for before, after in made if before != after]
        pairs = [(inputs.record(before), inputs.record(after)) for before, after in self.pairs]
        return _sample([*pairs, *different], self.most, chance)


class MinimumFunctionality(_Test):
    """Records that every useful model gets right: all of one `label`, or `cases` of their own."""

    kind: Literal["minimum_functionality"]
    label: Any = None
    cases: tuple[Case, ...] = ()

    @model_validator(mode="after")
    def _every_text_has_a_label(self) -> MinimumFunctionality:
        if (self.texts or self.templates) and self.label is None:
            raise ValueError(
                "`texts` and `templates` need a `label`; texts with labels of their own go under `cases`"
            )
        if not (self.texts or self.templates or self.cases):
            raise ValueError("a test needs `texts`, `templates` or `cases`")
        return self

    def asked(self, chance: random.Random) -> list[Case]:
        """All cases, those of texts and templates included; slots are filled in their label, too."""
        written = [Case(text=text, label=fill_in(self.label, words)) for text, words in self.written(chance)]
        return _sample([*self.cases, *written], self.most, chance)


class Invariance(_Change):
    """Changes that must not change the prediction."""

    kind: Literal["invariance"]


class Direction(_Change):
    """Changes that must move the probability of `label`, or a number or score, by at least `margin`."""

    kind: Literal["direction"]
    label: Text | None = None
    change: Literal["raise", "lower"]
    margin: float = Field(0.0, ge=0.0)


BehaviourTest = Annotated[MinimumFunctionality | Invariance | Direction, Field(discriminator="kind")]


class BehaviourSuite(_Entry):
    """All tests of a file."""

    tests: Annotated[tuple[BehaviourTest, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> BehaviourSuite:
        names = [test.name for test in self.tests]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two tests are called {twice[0]!r}; give each a name of its own")
        return self


def load_behaviour(
    path: Path, target: str = "label", perturbation: type[BaseModel] = Perturbation
) -> BehaviourSuite:
    """Read a file of behaviour tests. The target may also stand under the name of its role, `target`.

    `perturbation` reads the changes that the problem knows (`Problem.perturbation`, a `Change`).
    Raises `SettingsError`, naming the test and the entry, for anything that is not as described.
    """
    missing = f"There is no {path}; correct `evaluation.behaviour` in params.yaml or write the file."
    values = read_yaml(path, missing=missing)
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: a mapping with the entry `tests` was expected.")
    tests = values.get("tests")
    for test in tests if isinstance(tests, list) else []:
        cases = test.get("cases") if isinstance(test, dict) else None
        for entry in (test, *(cases if isinstance(cases, list) else ())):
            if isinstance(entry, dict) and target in entry and "label" not in entry:
                entry["label"] = entry.pop(target)
    try:
        return BehaviourSuite.model_validate(values, context={"perturbation": perturbation})
    except ValidationError as error:
        raise SettingsError(_sentence(error, values, path.name)) from None


def _sentence(error: ValidationError, values: dict[str, Any], source: str) -> str:
    """The first thing wrong, in words, with the test it is in."""
    first = error.errors()[0]
    # A union's branch stands in the location under its own name; the file has no such entry.
    location = [part for part in first["loc"] if part not in _KINDS]
    where = ".".join(str(part) for part in location[2:])
    test = ""
    if len(location) > 1 and isinstance(location[1], int):
        entry = values["tests"][location[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        test = f"test {location[1] + 1}" + (f" ({name!r})" if name else "")
    elif location:
        where = str(location[0])
    message = _message(first, location)
    return ": ".join(part for part in (source, test, f"`{where}`" if where else "", f"{message}.") if part)


def _message(first: Any, location: list[int | str]) -> str:
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kind = first.get("ctx", {}).get("tag")
        found = f"there is no kind {kind!r}" if kind else "it has no `kind`"
        return f"{found}; choose one of {', '.join(_KINDS)}"
    if first["type"] == "extra_forbidden":
        known = {name for kind in (MinimumFunctionality, Invariance, Direction) for name in kind.model_fields}
        near = difflib.get_close_matches(str(location[-1]), sorted(known | {"tests"}), n=1)
        return "there is no such entry" + (f"; perhaps you mean `{near[0]}`" if near else "")
    if first["type"] == "too_short":
        return (
            f"it has {first['ctx']['actual_length']} entries, but needs at least {first['ctx']['min_length']}"
        )
    message: str = first["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def fill_in(template: Any, words: Mapping[str, str]) -> Any:
    """A text, or anything made of texts, with its slots filled; what is no slot stays."""
    if isinstance(template, dict):
        return {name: fill_in(one, words) for name, one in template.items()}
    if isinstance(template, list):
        return [fill_in(one, words) for one in template]
    if not isinstance(template, str):
        return template
    return _SLOT.sub(lambda match: words.get(match.group(1), match.group()), template)


def _slots(template: str | Mapping[str, str]) -> list[str]:
    texts = [template] if isinstance(template, str) else template.values()
    return [name for text in texts for name in _SLOT.findall(text)]


def _numbers(below: int, count: int, chance: random.Random) -> list[int]:
    """Numbers from 0 to `below`, `count` at most, in their order and none twice."""
    if below > sys.maxsize:  # so many that the same is hardly drawn twice, and that a range has no length
        return sorted({chance.randrange(below) for _ in range(count)})
    return sorted(chance.sample(range(below), count))


def _sample(items: list[Any], most: int, chance: random.Random) -> list[Any]:
    """At most `most` of the items, in their order."""
    if len(items) <= most:
        return items
    return [items[index] for index in sorted(chance.sample(range(len(items)), most))]

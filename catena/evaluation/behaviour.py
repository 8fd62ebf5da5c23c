"""Behaviour tests: what a model must do, written down in a YAML file.

After CheckList (Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models"):
minimum functionality (it knows this), invariance (this must not matter) and direction (this must
raise or lower the probability of a label).
"""

from __future__ import annotations

import difflib
import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from catena.errors import SettingsError
from catena.evaluation.perturbations import Perturbation

_KINDS = ("minimum_functionality", "invariance", "direction")
_SLOT = re.compile(r"\{(\w+)\}")
Text = Annotated[str, Field(min_length=1)]
Pair = tuple[Text, Text]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelledText(_Entry):
    """A text and the label that it must get."""

    text: Text
    label: Text


class _Test(_Entry):
    """What all kinds have in common: a name, texts or ways to make them, and a bar to clear."""

    name: Text
    about: str = ""
    texts: tuple[Text, ...] = ()
    templates: tuple[Text, ...] = ()
    slots: dict[str, Annotated[tuple[Text, ...], Field(min_length=1)]] = {}
    #: Most cases; of more, this many are drawn.
    most: int = Field(200, ge=1, le=10_000)
    #: Share of cases that must pass.
    threshold: float = Field(0.9, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _slots_are_filled(self) -> _Test:
        for template in self.templates:
            used = _SLOT.findall(template)
            if not used:
                raise ValueError(f"the template {template!r} has no {{slot}}; write it under `texts`")
            unknown = [name for name in used if name not in self.slots]
            if unknown:
                raise ValueError(
                    f"the template {template!r} uses {{{unknown[0]}}}, which `slots` does not fill"
                )
        return self

    def written_texts(self, chance: random.Random) -> list[str]:
        """The texts as given, then those made from templates, all different, at most `most`."""
        made = [text for template in self.templates for text in self._fill(template, chance)]
        return _sample(list(dict.fromkeys([*self.texts, *made])), self.most, chance)

    def _fill(self, template: str, chance: random.Random) -> list[str]:
        names = list(dict.fromkeys(_SLOT.findall(template)))
        fillers = [self.slots[name] for name in names]
        total = 1
        for one in fillers:
            total *= len(one)
        # Numbers stand for combinations, so that a million of them need not be listed.
        chosen = sorted(chance.sample(range(total), self.most)) if total > self.most else range(total)
        filled = []
        for number in chosen:
            words: dict[str, str] = {}
            for name, one in zip(names, fillers, strict=True):
                number, index = divmod(number, len(one))
                words[name] = one[index]
            filled.append(_fill_in(template, words))
        return filled


class _Change(_Test):
    """Tests of what a change of the text does; `records` takes texts from the test part as well."""

    pairs: tuple[Pair, ...] = ()
    records: int = Field(0, ge=0, le=10_000)
    perturbations: tuple[Perturbation, ...] = ()

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

    def changes(self, test_texts: Sequence[str], chance: random.Random) -> list[Pair]:
        """Pairs of a text and its changed self, at most `most`; those that stay the same are left out."""
        drawn = _sample(list(test_texts), self.records, chance) if self.records else []
        texts = [*self.written_texts(chance), *drawn]
        made = [
            (text, change.apply(text, chance))
            for text, change in itertools.product(texts, self.perturbations)
        ]
        different = [(before, after) for before, after in made if before != after]
        return _sample([*self.pairs, *different], self.most, chance)


class MinimumFunctionality(_Test):
    """Texts that every useful model gets right: all of one `label`, or `cases` with labels of their own."""

    kind: Literal["minimum_functionality"]
    label: Text | None = None
    cases: tuple[LabelledText, ...] = ()

    @model_validator(mode="after")
    def _every_text_has_a_label(self) -> MinimumFunctionality:
        if (self.texts or self.templates) and self.label is None:
            raise ValueError(
                "`texts` and `templates` need a `label`; texts with labels of their own go under `cases`"
            )
        if not (self.texts or self.templates or self.cases):
            raise ValueError("a test needs `texts`, `templates` or `cases`")
        return self

    def labelled(self, chance: random.Random) -> list[tuple[str, str]]:
        """Texts with the label each must get."""
        written = [(text, self.label or "") for text in self.written_texts(chance)]
        return _sample([*((case.text, case.label) for case in self.cases), *written], self.most, chance)


class Invariance(_Change):
    """Changes that must not change the prediction."""

    kind: Literal["invariance"]


class Direction(_Change):
    """Changes that must move the probability of `label` by at least `margin`."""

    kind: Literal["direction"]
    label: Text
    change: Literal["raise", "lower"]
    margin: float = Field(0.0, ge=0.0, lt=1.0)


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

    def check_labels(self, label_names: Sequence[str], source: str) -> None:
        """Raise `SettingsError` for a label that the model does not know."""
        for test in self.tests:
            named = [test.label] if not isinstance(test, Invariance) and test.label is not None else []
            if isinstance(test, MinimumFunctionality):
                named += [case.label for case in test.cases]
            for label in named:
                if label not in label_names:
                    raise SettingsError(
                        f"{source}: test {test.name!r} names the label {label!r}, which the model does not "
                        f"know; its labels are {', '.join(label_names)}."
                    )


def load_behaviour(path: Path) -> BehaviourSuite:
    """Read a file of behaviour tests.

    Raises `SettingsError`, naming the test and the entry, for anything that is not as described.
    """
    try:
        values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"There is no {path}; correct `evaluation.behaviour` in params.yaml or write the file."
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{path.name}{where}: {getattr(error, 'problem', None) or 'not valid YAML'}."
        ) from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: a mapping with the entry `tests` was expected.")
    try:
        return BehaviourSuite.model_validate(values)
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


def _fill_in(template: str, words: dict[str, str]) -> str:
    return _SLOT.sub(lambda match: words[match.group(1)], template)


def _sample(items: list[Any], most: int, chance: random.Random) -> list[Any]:
    """At most `most` of the items, in their order."""
    if len(items) <= most:
        return items
    return [items[index] for index in sorted(chance.sample(range(len(items)), most))]

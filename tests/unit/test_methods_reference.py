"""The manual's tables of methods are those that the methods themselves give."""

from __future__ import annotations

import pytest

from catena.errors import SettingsError
from catena.methods import METHODS, get_method
from catena.problems import PROBLEMS, HeadSpec
from catena.settings import MethodSettings
from catena.settings.method import NOT_TRAINED
from docs import generate_methods


def test_the_tables_are_up_to_date() -> None:
    page = generate_methods.PAGE.read_text(encoding="utf-8")
    assert page == generate_methods.with_tables(page), "run `python -m docs.generate_methods`"


def test_every_method_and_every_problem_has_its_place() -> None:
    lines = generate_methods.tables().splitlines()
    assert {line.split("`")[1] for line in lines if line.startswith("| `")} >= {"method.name", *METHODS}
    assert {line.split(" | ")[0].strip("| ") for line in lines} >= set(PROBLEMS)


def test_a_method_that_names_its_heads_is_marked_for_those_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS["full"], "heads", frozenset({"regression"}))
    rows = [line for line in generate_methods.tables().splitlines() if " | yes" in line or " | – " in line]
    first = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in rows}
    assert first["regression"] == "yes"
    assert {first[name] for name in PROBLEMS if name != "regression"} == {"–"}
    with pytest.raises(SettingsError, match="does not fit the problem tagging"):
        get_method(MethodSettings()).check("tagging", HeadSpec("token-classification", ("O",)))


def test_the_settings_know_which_methods_train_nothing() -> None:
    """They refuse teachers and unlabelled records there, and may not import the methods."""
    known = MethodSettings()
    still = [name for name, method in METHODS.items() if not method(known).trains]
    assert sorted(still) == sorted(NOT_TRAINED)

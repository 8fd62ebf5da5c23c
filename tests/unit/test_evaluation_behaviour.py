"""Behaviour tests: what the file may say, what is counted, and what is said when it is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catena.errors import SettingsError
from catena.evaluation.behaviour import BehaviourSuite, load_behaviour
from catena.evaluation.checklist import Checklist
from catena.evaluation.perturbations import Perturbation
from catena.problems import get_problem

REPOSITORY = Path(__file__).resolve().parents[2]


def by_oil(texts: Sequence[str]) -> pd.DataFrame:
    """A model that counts the word `oil`, exactly as written: p(crude) is 0.2, 0.6, 0.8, 0.9 …"""
    counts = [text.split().count("oil") for text in texts]
    crude = [1 - 0.4 / 2 ** (count - 1) if count else 0.2 for count in counts]
    return pd.DataFrame(
        {
            "prediction": ["crude" if value > 0.5 else "other" for value in crude],
            "confidence": [max(value, 1 - value) for value in crude],
            "p:crude": crude,
            "p:other": [1 - value for value in crude],
        }
    )


def checklist(
    tests: BehaviourSuite,
    labels: Sequence[str] = ("crude", "other"),
    texts: Sequence[str] = (),
    seed: int = 1,
) -> Checklist:
    test = pd.DataFrame({"text": pd.Series(texts, dtype="str")})
    return Checklist(tests, get_problem("classification"), labels, test, seed, source="f.yaml")


def run_behaviour(
    tests: BehaviourSuite,
    model: Callable[[Sequence[str]], pd.DataFrame],
    texts: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    return checklist(tests, texts=texts, seed=seed).run(lambda records: model(records["text"].tolist()))


def suite(*tests: dict[str, object]) -> BehaviourSuite:
    return BehaviourSuite.model_validate({"tests": list(tests)})


def test_minimum_functionality_counts_templates_texts_and_cases() -> None:
    outcome = run_behaviour(
        suite(
            {
                "name": "oil",
                "kind": "minimum_functionality",
                "label": "crude",
                "texts": ["no such word"],
                "templates": ["{country} sells {what}"],
                "slots": {"country": ["iran", "kuwait"], "what": ["oil", "gas"]},
                "cases": [{"text": "gold", "label": "other"}],
                "threshold": 0.5,
            }
        ),
        by_oil,
        [],
        seed=1,
    )
    (result,) = outcome["results"]
    # Right: gold, and two of the four combinations; wrong: the text and two combinations.
    assert (result["cases"], result["passed_cases"], result["passed"]) == (6, 3, True)
    assert {failure["text"] for failure in result["failures"]} == {
        "no such word",
        "iran sells gas",
        "kuwait sells gas",
    }
    assert result["failures"][0]["found"] == "other (80%)"


def test_invariance_fails_where_a_change_changes_the_prediction() -> None:
    outcome = run_behaviour(
        suite(
            {
                "name": "loud",
                "kind": "invariance",
                "texts": ["oil now", "gas now"],
                "perturbations": ["uppercase"],
            },
            {"name": "pairs", "kind": "invariance", "pairs": [["oil", "oil oil"], ["oil", "gas"]]},
        ),
        by_oil,
        [],
        seed=1,
    )
    loud, pairs = outcome["results"]
    assert (loud["passed_cases"], loud["cases"]) == (1, 2)
    assert loud["failures"] == [
        {"text": "OIL NOW", "before": "oil now", "expected": "crude", "found": "other (80%)"}
    ]
    assert (pairs["passed_cases"], pairs["cases"], pairs["passed"]) == (1, 2, False)
    assert (outcome["tests"], outcome["passed"], outcome["cases"], outcome["pass_rate"]) == (2, 0, 4, 0.5)


@pytest.mark.parametrize(("margin", "passed"), [(0.0, 2), (0.15, 2), (0.3, 1), (0.5, 0)])
def test_direction_asks_for_a_move_of_at_least_the_margin(margin: float, passed: int) -> None:
    # p(crude) goes from 0.2 to 0.6, and from 0.6 to 0.8.
    test = {
        "name": "more oil",
        "kind": "direction",
        "label": "crude",
        "change": "raise",
        "margin": margin,
        "texts": ["gas", "oil"],
        "perturbations": [{"append": "oil"}],
    }
    assert run_behaviour(suite(test), by_oil, [], seed=1)["passed_cases"] == passed


def test_direction_does_not_accept_a_probability_that_stays_where_it_is() -> None:
    test = {"name": "t", "kind": "direction", "label": "crude", "change": "lower", "pairs": [["gas", "coal"]]}
    outcome = run_behaviour(suite(test), by_oil, [], seed=1)
    assert outcome["passed_cases"] == 0
    assert outcome["results"][0]["failures"][0]["expected"] == "probability of crude down at all"


def test_texts_that_a_perturbation_leaves_as_they_are_are_no_cases() -> None:
    test = {"name": "t", "kind": "invariance", "texts": ["ALL LOUD", "quiet"], "perturbations": ["uppercase"]}
    outcome = run_behaviour(suite(test), by_oil, [], seed=1)
    assert outcome["cases"] == 1
    nothing = {"name": "t", "kind": "invariance", "texts": ["ALL LOUD"], "perturbations": ["uppercase"]}
    assert run_behaviour(suite(nothing), by_oil, [], seed=1)["results"][0]["passed"] is False


def test_records_of_the_test_part_are_drawn_the_same_way_each_time() -> None:
    test = {"name": "t", "kind": "invariance", "records": 5, "perturbations": ["typo"], "threshold": 0.0}
    texts = [f"some longer words number {number}" for number in range(50)]
    asked: list[list[str]] = []

    def model(batch: Sequence[str]) -> pd.DataFrame:
        asked.append(list(batch))
        return by_oil(batch)

    first, second = (run_behaviour(suite(test), model, texts, seed=3) for _ in range(2))
    assert first == second
    assert asked[0] == asked[1]
    assert first["cases"] == 5
    run_behaviour(suite(test), model, texts, seed=4)
    assert asked[2] != asked[0]


@pytest.mark.parametrize("names", ["abc", "abcdefghijkl"], ids=["a million", "more than a range can have"])
def test_combinations_are_drawn_from_without_being_listed(names: str) -> None:
    slots = {name: [f"{name}{number}" for number in range(100)] for name in names}
    test = {
        "name": "t",
        "kind": "minimum_functionality",
        "label": "other",
        "templates": [" ".join(f"{{{name}}}" for name in names)],
        "slots": slots,
        "most": 50,
    }
    outcome = run_behaviour(suite(test), by_oil, [], seed=1)
    assert (outcome["cases"], outcome["passed_cases"]) == (50, 50)


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("lowercase", "Crude OIL", "crude oil"),
        ("uppercase", "Crude oil", "CRUDE OIL"),
        ("typo", "an owl", "an owl"),
        ("typo", "oil abcd", "oil acbd"),
        ("drop_punctuation", "oil, gas (and coal).", "oil gas and coal"),
        ("drop_word", "too short", "too short"),
        ({"append": "reuter"}, "oil", "oil reuter"),
        ({"prepend": ["so"]}, "oil", "so oil"),
        ({"swap": ["ann", "bob"]}, "ann met annabel and bob", "bob met annabel and ann"),
        ({"replace": {"oil": "gas", "oil price": "gas price"}}, "oil price of oil", "gas price of gas"),
    ],
)
def test_a_perturbation_changes_exactly_this(change: object, before: str, after: str) -> None:
    assert Perturbation.model_validate(change).apply(before, random.Random(1)) == after


def test_a_word_left_out_leaves_all_others() -> None:
    text = "one two three four five six seven eight"
    after = Perturbation.model_validate("drop_word").apply(text, random.Random(1))
    assert len(after.split()) == 7
    assert set(after.split()) < set(text.split())


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "name: t\n    kind: invarianz",
            "test 1 ('t'): there is no kind 'invarianz'; choose one of minimum_functionality, invariance",
        ),
        ("kind: invariance\n    pairs: [[a, b]]", "test 1: `name`: field required"),
        (
            "name: t\n    kind: invariance\n    pair: [[a, b]]",
            "test 1 ('t'): `pair`: there is no such entry; perhaps you mean `pairs`.",
        ),
        ("name: t\n    kind: invariance\n    pairs: [[a]]", "test 1 ('t'): `pairs.0.1`: field required"),
        ("name: t\n    kind: invariance\n    texts: [a]", "need `perturbations` to change them"),
        (
            "name: t\n    kind: invariance\n    texts: [a]\n    perturbations: [tipo]",
            "test 1 ('t'): `perturbations.0`: there is no perturbation `tipo`; choose one of lowercase",
        ),
        (
            "name: t\n    kind: minimum_functionality\n    label: x\n    templates: ['{who} sells']",
            "uses {who}, which `slots` does not fill",
        ),
        (
            "name: t\n    kind: invariance\n    texts: [a]\n    perturbations: [{replace: {'': b}}]",
            "test 1 ('t'): `perturbations.0`: the words of a perturbation cannot be empty.",
        ),
        (
            "name: t\n    kind: invariance\n    texts: [a]\n    perturbations: [{append: ['']}]",
            "test 1 ('t'): `perturbations.0`: the words of a perturbation cannot be empty.",
        ),
        ("name: t\n    kind: minimum_functionality\n    texts: [a]", "need a `label`"),
        (
            "name: t\n    kind: direction\n    label: x\n    change: up\n    pairs: [[a, b]]",
            "test 1 ('t'): `change`: input should be 'raise' or 'lower'",
        ),
        (
            "name: t\n    kind: invariance\n    pairs: [[a, b]]\n    treshold: 1",
            "test 1 ('t'): `treshold`: there is no such entry; perhaps you mean `threshold`.",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_test(tmp_path: Path, entry: str, sentence: str) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text(f"tests:\n  - {entry}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_behaviour(path)
    assert str(raised.value).startswith("behaviour.yaml: ")
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("tests: [", "line 2"),
        ("- a", "a mapping with the entry `tests` was expected"),
        ("tests: []", "`tests`: it has 0 entries, but needs at least 1."),
        ("", "a mapping with the entry `tests` was expected"),
        (
            "tests:\n  - &t {name: t, kind: invariance, pairs: [[a, b]]}\n  - *t",
            "two tests are called 't'; give each a name of its own",
        ),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^behaviour\.yaml") as raised:
        load_behaviour(path)
    assert sentence in str(raised.value)


def test_a_missing_file_names_the_parameter(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no .*absent.yaml; correct `evaluation.behaviour`"):
        load_behaviour(tmp_path / "absent.yaml")


def test_a_label_the_model_does_not_know_is_named_with_its_test() -> None:
    test = {"name": "t", "kind": "minimum_functionality", "cases": [{"text": "a", "label": "oil"}]}
    with pytest.raises(
        SettingsError, match=r"f.yaml: test 't' names the label 'oil'.*labels are crude, earn"
    ):
        checklist(suite(test), ["crude", "earn"])


def test_the_example_of_the_project_is_valid_and_knows_the_labels_of_reuters_r8() -> None:
    example = load_behaviour(REPOSITORY / "behaviour" / "reuters-r8.yaml")
    labels = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
    checklist(example, labels, [f"a text with several words, number {at}" for at in range(80)])
    assert {test.kind for test in example.tests} == {"minimum_functionality", "invariance", "direction"}

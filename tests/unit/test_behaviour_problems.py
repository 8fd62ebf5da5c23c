"""Behaviour tests of every problem: what each takes for right, for the same, and for more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from catena.errors import SettingsError
from catena.evaluation.behaviour import load_behaviour
from catena.evaluation.checklist import Checklist
from catena.problems import Problem, get_problem
from catena.problems.multilabel import canonical_labels
from catena.problems.spans import canonical
from catena.settings import ProblemSettings

REPOSITORY = Path(__file__).resolve().parents[2]
Model = Callable[[pd.DataFrame], pd.DataFrame]


def by_length(records: pd.DataFrame) -> pd.DataFrame:
    """Regression: the number of words."""
    values = records["text"].str.split().str.len().to_numpy(dtype=np.float64)
    return pd.DataFrame({"prediction": [f"{value:g}" for value in values], "value": values})


def by_words(records: pd.DataFrame) -> pd.DataFrame:
    """Several classes: those whose name is in the text."""
    table = pd.DataFrame(
        {
            f"p:{name}": [0.9 if name in text.split() else 0.2 for text in records["text"]]
            for name in ("sea", "land")
        }
    )
    said = [
        canonical_labels(name for name in ("sea", "land") if name in text.split()) for text in records["text"]
    ]
    return table.assign(prediction=said, confidence=0.8)


def by_capitals(records: pd.DataFrame) -> pd.DataFrame:
    """Tagging: every capitalized word is a LOC, one after `Mr` a PER, surer the longer it is."""
    predictions, spans = [], []
    for text in records["text"]:
        found = [
            (m.start(), m.end(), "PER" if text[: m.start()].endswith("Mr ") else "LOC")
            for m in re.finditer(r"\b[A-Z]\w+", text)
            if m.group() != "Mr"
        ]
        predictions.append(canonical(found))
        spans.append(
            json.dumps(
                [
                    {"start": s, "end": e, "label": name, "text": text[s:e], "score": min((e - s) / 10, 1.0)}
                    for s, e, name in found
                ]
            )
        )
    return pd.DataFrame({"prediction": predictions, "spans": spans, "confidence": 0.9})


def by_shared_words(records: pd.DataFrame) -> pd.DataFrame:
    """Ranking: the share of the query's words that the item has."""
    scores = [
        len(set(query.split()) & set(item.split())) / len(set(query.split()))
        for query, item in zip(records["query"], records["item"], strict=True)
    ]
    return pd.DataFrame({"prediction": [f"{score:.6f}" for score in scores], "score": scores})


def by_first_word(records: pd.DataFrame) -> pd.DataFrame:
    """Answering: the passage's word after the question's last one; none where that is not there."""
    rows = []
    for question, context in zip(records["question"], records["context"], strict=True):
        found = re.search(rf"{question.split()[-1]} (\w+)", context)
        start, text = (found.start(1), found.group(1)) if found else (-1, "")
        rows.append(
            {
                "prediction": json.dumps([[start, text]] if found else []),
                "answer": text,
                "confidence": 0.8 if found else 0.6,
                "no_answer": 0.1 if found else 0.6,
            }
        )
    return pd.DataFrame(rows)


def by_echo(records: pd.DataFrame) -> pd.DataFrame:
    """Writing: the input, with an ending."""
    texts = records[next(iter(records))]
    return pd.DataFrame({"prediction": [f"{text}, so it goes" for text in texts], "confidence": 0.5})


PROBLEMS: dict[str, tuple[Model, tuple[str, ...]]] = {
    "regression": (by_length, ("3.0 ± 1.0",)),
    "multilabel": (by_words, ("land", "sea")),
    "tagging": (by_capitals, ("LOC", "PER")),
    "ranking": (by_shared_words, ()),
    "answering": (by_first_word, ("answer", "no answer")),
    "generation": (by_echo, ()),
    "translation": (by_echo, ()),
}


def checklist(
    folder: Path, name: str, content: str, names: dict[str, str] | None = None, **test: list[str]
) -> Checklist:
    """The checklist of a file with these tests, in YAML, for a problem."""
    problem: Problem = get_problem(name)
    path = folder / "tests.yaml"
    path.write_text(f"tests:\n{content}", encoding="utf-8")
    records = pd.DataFrame(test or {role: [] for role in problem.input_roles}, dtype="str")
    suite = load_behaviour(path, problem.target_role)
    return Checklist(suite, problem, PROBLEMS[name][1], records, 1, names, "tests.yaml")


def results(folder: Path, name: str, content: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = checklist(folder, name, content, **more).run(PROBLEMS[name][0])["results"]
    return found


def test_numbers_are_right_and_stay_the_same_within_a_tolerance(tmp_path: Path) -> None:
    content = """
  - {name: few, kind: minimum_functionality, target: 2, tolerance: 1,
     texts: [one, one two, one two three four]}
  - {name: named, kind: minimum_functionality, tolerance: 0, cases: [{text: one two, target: pair}]}
  - {name: stays, kind: invariance, tolerance: 1, pairs: [[a b, a b c], [a b, a b c d]]}
  - {name: grows, kind: direction, change: raise, margin: 1.5, texts: [a],
     perturbations: [append: b, append: b c]}
  - {name: order, kind: minimum_functionality, cases: [{better: a b c, worse: a}, {better: a, worse: b}]}
"""
    few, named, stays, grows, order = results(tmp_path, "regression", content, names={"pair": "2"})
    assert (few["passed_cases"], few["cases"]) == (2, 3)
    assert few["failures"] == [{"text": "one two three four", "before": None, "expected": "2", "found": "4"}]
    assert named["passed"]
    assert (stays["passed_cases"], stays["cases"]) == (1, 2)
    assert [failure["found"] for failure in grows["failures"]] == ["1.000 → 2.000"]
    assert grows["failures"][0]["expected"] == "the number up by at least 1.50"
    assert (order["passed_cases"], order["cases"]) == (1, 2)  # as much is not more


def test_sets_are_right_as_a_whole_and_may_be_written_as_the_data_are(tmp_path: Path) -> None:
    content = """
  - {name: sets, kind: minimum_functionality, cases: [
      {text: land and sea, labels: [sea, land]}, {text: land and sea, labels: sea},
      {text: the sea, labels: "sea | sea"}, {text: the sky, labels: []}]}
  - {name: naming it, kind: direction, change: raise, label: sea, margin: 0.5, texts: [sky],
     perturbations: [append: sea]}
  - {name: case, kind: invariance, texts: [the sea], perturbations: [uppercase]}
"""
    sets, naming, case = results(tmp_path, "multilabel", content)
    assert (sets["passed_cases"], sets["cases"]) == (3, 4)
    assert sets["failures"][0]["expected"] == "sea"
    assert sets["failures"][0]["found"] == "land, sea (80%)"
    assert naming["passed"]
    assert case["failures"][0]["found"] == "none (80%)"


def test_entities_are_expected_by_text_and_label_also_from_slots(tmp_path: Path) -> None:
    content = """
  - {name: places, kind: minimum_functionality, templates: ["he went to {town} today"],
     slots: {town: [Oslo, Paris, rome]}, entities: [{text: "{town}", label: LOC}]}
  - {name: two, kind: minimum_functionality, cases: [
      {text: Oslo and Oslo, entities: [{text: Oslo, label: LOC}, {text: Oslo, label: LOC}]},
      {text: Mr Oslo, entities: [[3, 7, PER]]},
      {text: Mr Oslo in Paris, entities: [{text: Oslo, label: PER}]},
      {text: Osloer in Oslo, entities: [{text: Oslo, label: LOC}]},
      {text: nobody here, entities: []}, {text: Oslo, entities: []}]}
  - {name: title, kind: direction, label: PER, change: raise, margin: 0.3, pairs: [[met Oslo, met Mr Oslo]]}
  - {name: longer, kind: direction, label: LOC, change: raise,
     pairs: [[in Rome, in Oslo], [in Rome, in Helsinki]]}
"""
    places, two, title, longer = results(tmp_path, "tagging", content)
    assert [failure["text"] for failure in places["failures"]] == ["he went to rome today"]
    assert places["failures"][0]["expected"] == "rome (LOC)"
    assert places["failures"][0]["found"] == "no entity (90%)"
    # More than is expected may be found, but where nothing is expected nothing may.
    assert [failure["text"] for failure in two["failures"]] == ["Oslo"]
    assert title["passed"]
    assert (longer["passed_cases"], longer["cases"]) == (1, 2)
    assert longer["failures"][0]["found"] == "0.400 → 0.400"


def test_entities_that_a_change_does_not_touch_must_stay_as_they_are(tmp_path: Path) -> None:
    content = """
  - {name: swaps, kind: invariance, texts: [in Oslo with Mr Smith], perturbations: [swap: [Oslo, Paris]]}
  - {name: loud, kind: invariance, texts: [in Oslo], perturbations: [lowercase]}
  - {name: label, kind: invariance, pairs: [[Mr Oslo came, Oslo came]]}
"""
    swaps, loud, label = results(tmp_path, "tagging", content)
    assert swaps["passed"]  # Oslo is gone, Mr Smith is found in both
    assert not loud["passed"]  # the same name, in small letters
    assert label["failures"][0]["expected"] == "Oslo (PER)"


def test_pairs_have_a_text_for_each_input_and_better_items_score_more(tmp_path: Path) -> None:
    content = """
  - {name: order, kind: minimum_functionality, cases: [
      {text: {query: red shoes}, better: red boots, worse: blue hat},
      {text: {query: red shoes}, better: {item: a hat}, worse: {item: shoes}},
      {better: {query: a, item: a}, worse: {query: a, item: b}}]}
  - {name: typos in items, kind: invariance, tolerance: 0.1, records: 1, inputs: [item],
     perturbations: [uppercase]}
  - {name: naming, kind: direction, change: raise, texts: [{query: red shoes, item: boots}],
     perturbations: [append: red]}
  - {name: slots, kind: direction, change: lower,
     pairs: [[{query: red hat, item: red}, {query: red hat, item: x}]]}
"""
    test = {"query": ["big boat"], "item": ["big ship"]}
    order, typos, naming, slots = results(tmp_path, "ranking", content, **test)
    assert (order["passed_cases"], order["cases"]) == (2, 3)
    assert order["failures"][0] == {
        "text": "query: red shoes · item: a hat",
        "before": "query: red shoes · item: shoes",
        "expected": "probability that the item is relevant higher than for the other",
        "found": "0.500 → 0.000",
    }
    assert typos["failures"][0]["text"] == "query: big boat · item: BIG SHIP"
    assert typos["failures"][0]["found"] == "0.000"
    # `append` changes both inputs: of red, shoes and red, boots and red the query's words share one of two.
    assert naming["passed"]
    assert slots["passed"]


def test_answers_are_expected_in_words_and_may_move_in_their_passage(tmp_path: Path) -> None:
    content = """
  - {name: said, kind: minimum_functionality, cases: [
      {text: {question: who met, context: he met Ann}, answers: Ann},
      {text: {question: who met, context: he met Ann and Bo}, answers: [Bo, Ann]},
      {text: {question: who met, context: he met Ann}, answers: []},
      {text: {question: who saw, context: he met Ann}, answers: []}]}
  - {name: longer, kind: invariance, inputs: [context], texts: [{question: who met, context: he met Ann}],
     perturbations: [prepend: yesterday, uppercase]}
  - {name: there, kind: direction, change: raise, margin: 0.4, pairs: [
      [{question: who met, context: nobody}, {question: who met, context: he met Ann}]]}
"""
    said, longer, there = results(tmp_path, "answering", content)
    assert (said["passed_cases"], said["cases"]) == (3, 4)
    assert (said["failures"][0]["expected"], said["failures"][0]["found"]) == ("no answer", "Ann (80%)")
    assert [failure["found"] for failure in longer["failures"]] == ["no answer (60%)"]  # in capitals
    assert there["passed"]


@pytest.mark.parametrize("form", ["conversation", "text", "document"])
def test_a_text_that_must_be_written_is_taken_as_it_is_given(tmp_path: Path, form: str) -> None:
    path = tmp_path / "tests.yaml"
    path.write_text(
        """
tests:
  - {name: goes on, kind: minimum_functionality, tolerance: 0.0, cases: [
      {text: it was, response: "it was, so it goes "}, {text: it was, response: x}]}
  - {name: nearly, kind: minimum_functionality, tolerance: 0.5, texts: [it was],
     response: "it was, so they go"}
""",
        encoding="utf-8",
    )
    problem = get_problem(ProblemSettings.model_validate({"name": "generation", "form": form}))
    suite = load_behaviour(path, problem.target_role)
    found = Checklist(suite, problem, (), pd.DataFrame({"prompt": []}, dtype="str"), 1)
    exact, nearly = found.run(by_echo)["results"]
    assert exact["passed_cases"] == 1
    assert exact["failures"][0]["expected"] == "x"
    assert nearly["passed"]


def test_a_translation_expected_of_a_long_text_may_be_short(tmp_path: Path) -> None:
    problem = get_problem(ProblemSettings.model_validate({"name": "translation", "max_length_ratio": 2.0}))
    assert problem.expected(" ein \n Wort", {"text": "one " * 20}, None) == "ein Wort"
    with pytest.raises(ValueError, match="empty translation"):
        problem.expected(" ", {"text": "one"}, None)


def test_words_of_conversations_are_changed_and_never_their_json(tmp_path: Path) -> None:
    asked: list[str] = []

    def model(records: pd.DataFrame) -> pd.DataFrame:
        asked.extend(records["prompt"])
        return by_echo(records)

    def prompt(*contents: str) -> str:
        roles = ("user", "assistant", "user")
        return json.dumps(
            [{"role": role, "content": one} for role, one in zip(roles, contents, strict=False)]
        )

    content = """
  - {name: capitals, kind: invariance, tolerance: 1, records: 9, perturbations: [uppercase]}
  - {name: typed, kind: invariance, tolerance: 1, perturbations: [uppercase],
     texts: ['[{"role": "user", "content": "why?"}]']}
"""
    several = prompt("who?", "me", "since when?")
    found = checklist(tmp_path, "generation", content, prompt=[prompt("what is blue?"), several])
    capitals, typed = found.run(model)["results"]
    assert asked == ["what is blue?", "WHAT IS BLUE?", "why?", "WHY?"]
    assert capitals["cases"] == typed["cases"] == 1
    with pytest.raises(SettingsError, match="'capitals' draws `records` from the test part, none of which"):
        checklist(tmp_path, "generation", content, prompt=[several])
    typed_several = content.replace('[{"role": "user", "content": "why?"}]', several)
    with pytest.raises(SettingsError, match=r"'typed' has .* is no running text whose words can be changed"):
        checklist(tmp_path, "generation", typed_several, prompt=["what?"])


@pytest.mark.parametrize(
    ("problem", "content", "sentence"),
    [
        (
            "generation",
            "{name: t, kind: direction, change: raise, pairs: [[a, b]]}",
            "'t' cannot be run: Predictions of the problem generation are texts, and no text is more than",
        ),
        (
            "translation",
            "{name: t, kind: minimum_functionality, cases: [{better: a, worse: b}]}",
            "'t' cannot be run: Predictions of the problem translation are texts, and no text is more than",
        ),
        (
            "generation",
            "{name: t, kind: minimum_functionality, tolerance: 0.1, texts: [a], response: ' '}",
            "'t' expects ' ': empty response",
        ),
        (
            "regression",
            "{name: t, kind: invariance, texts: [a], perturbations: [typo]}",
            "'t' needs a `tolerance`",
        ),
        (
            "regression",
            "{name: t, kind: minimum_functionality, tolerance: 1, texts: [a], target: much}",
            "'t' expects 'much': target is no number",
        ),
        (
            "regression",
            "{name: t, kind: direction, change: raise, label: good, pairs: [[a, b]]}",
            "'t' cannot be run: The problem regression has no classes, so leave 'good' out",
        ),
        (
            "multilabel",
            "{name: t, kind: minimum_functionality, texts: [a], labels: [sky]}",
            "'t' names the label 'sky', which the model does not know; its labels are land, sea",
        ),
        (
            "multilabel",
            "{name: t, kind: direction, change: raise, pairs: [[a, b]]}",
            "'t' needs a `label`, one of",
        ),
        (
            "multilabel",
            "{name: t, kind: direction, change: raise, label: sea, margin: 1.5, pairs: [[a, b]]}",
            "a `margin` of 1 or more, which no probability can move by",
        ),
        (
            "multilabel",
            "{name: t, kind: invariance, tolerance: 0.1, pairs: [[a, b]]}",
            "`tolerance`, which says nothing to the problem multilabel",
        ),
        (
            "tagging",
            "{name: t, kind: minimum_functionality, texts: [in Oslo], entities: [{text: Rome, label: LOC}]}",
            "the text does not hold the entity 'Rome'",
        ),
        (
            "tagging",
            "{name: t, kind: minimum_functionality, texts: [in Oslo], entities: [[3, 70, LOC]]}",
            "entity outside its text",
        ),
        (
            "tagging",
            "{name: t, kind: minimum_functionality, texts: [in Oslo], entities: [[3, 7, TOWN]]}",
            "names the label 'TOWN', which the model does not know",
        ),
        (
            "answering",
            "{name: t, kind: minimum_functionality, cases: [{text: {question: a, context: b}, answers: c}]}",
            "'t' expects 'c': ",
        ),
        (
            "ranking",
            "{name: t, kind: minimum_functionality, cases: [{text: {query: a, item: b}, relevance: 1}]}",
            "give `better` and `worse` items",
        ),
        (
            "ranking",
            "{name: t, kind: direction, change: raise, pairs: [[a, b]]}",
            "has 'a', not a text for each input",
        ),
        (
            "ranking",
            "{name: t, kind: direction, change: raise, pairs: [[{query: a}, {query: a, item: b}]]}",
            "lacks the input 'item' in a record; the problem reads query, item",
        ),
        (
            "ranking",
            "{name: t, kind: minimum_functionality, cases: [{better: a, worse: b}]}",
            "has 'a', not saying which input it is: query, item",
        ),
        (
            "ranking",
            "{name: t, kind: invariance, tolerance: 0.1, inputs: [text], records: 1, perturbations: [typo]}",
            "changes the input 'text', which is none that can be changed",
        ),
    ],
)
def test_what_makes_no_sense_to_a_problem_is_named_with_its_test(
    tmp_path: Path, problem: str, content: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        checklist(tmp_path, problem, f"  - {content}\n")
    assert str(raised.value).startswith("tests.yaml: test 't' ")
    assert sentence in str(raised.value)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("{better: a}", "`better` and `worse` belong together"),
        ("{better: a, worse: b, label: c}", "either a `label`, or `better` and `worse`"),
        ("{text: a}", "`label`: field required"),
        ("{label: a}", "`text`: field required"),
        ("{text: [a], label: b}", "a text was expected, or a text for each input"),
        ("{text: {query: 1}, label: b}", "a text was expected, or a text for each input"),
    ],
)
def test_a_case_asks_one_thing(tmp_path: Path, case: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        checklist(tmp_path, "ranking", f"  - {{name: t, kind: minimum_functionality, cases: [{case}]}}\n")


@pytest.mark.parametrize(
    ("preset", "labels", "names"),
    [
        ("conll2003", ("LOC", "MISC", "ORG", "PER"), None),
        ("drug-ratings", ("0.4 ± 0.9",), {"negative": "-1", "neutral": "0", "positive": "1"}),
    ],
)
def test_the_examples_of_the_presets_fit_their_problem(
    preset: str, labels: tuple[str, ...], names: dict[str, str] | None
) -> None:
    from catena.settings import load_settings

    settings = load_settings(REPOSITORY / "presets" / f"{preset}.yaml")
    assert settings.evaluation.behaviour == f"behaviour/{preset}.yaml"
    assert settings.data.labels == names
    problem = get_problem(settings.problem)
    suite = load_behaviour(REPOSITORY / settings.evaluation.behaviour, problem.target_role)
    test = pd.DataFrame({"text": [f"A sentence with number {at} and more words ." for at in range(70)]})
    Checklist(suite, problem, labels, test, 42, names)
    assert {one.kind for one in suite.tests} == {"minimum_functionality", "invariance", "direction"}

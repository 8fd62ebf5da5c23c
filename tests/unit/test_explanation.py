"""Explanations: words left out one by one, what is lost without them, and how people are shown that."""

from __future__ import annotations

import itertools
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from catena.cli import app
from catena.errors import DataError, SettingsError
from catena.explanation import Explained, Explanation, explain
from catena.explanation_views import print_explanation, write_page
from catena.inputs import given_records
from catena.predictor import Predictor
from catena.problems import PROBLEMS, get_problem
from catena.problems.base import Problem
from catena.problems.pieces import Piece, divide, without
from tests.tiny_model import build_tiny_model, build_tiny_ranker

TEXT = "wheat and maize, barley"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("explanation") / "model", seed=3)


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", precision="float32")


def test_the_effect_of_a_word_is_what_the_log_odds_lose_without_it(predictor: Predictor) -> None:
    explanation = explain(predictor, {"text": TEXT})
    shortened = [
        "wheat and maize, barley",
        "and maize, barley",
        "wheat maize, barley",
        "wheat and barley",
        "wheat and maize,",
    ]
    table = predictor.predict(shortened)
    said = table["prediction"].iloc[0]
    chances = table[f"p:{said}"].to_numpy()
    odds = np.log(chances / (1 - chances))
    (claim,) = explanation.claims
    assert [piece.text for piece in explanation.pieces] == ["wheat", "and", "maize,", "barley"]
    assert (claim.name, claim.support) == (said, pytest.approx(chances[0]))
    np.testing.assert_allclose(claim.effects, odds[0] - odds[1:], atol=1e-4)
    assert explanation.prediction == said
    assert not explanation.truncated


def test_any_class_of_the_model_can_be_asked_about(predictor: Predictor) -> None:
    supports = [explain(predictor, {"text": TEXT}, name).claims[0].support for name in predictor.label_names]
    assert sum(supports) == pytest.approx(1.0)
    with pytest.raises(SettingsError, match="does not know the class 'oil'; its labels are grain, money"):
        explain(predictor, {"text": TEXT}, "oil")


def test_a_text_of_one_word_is_explained_by_it(predictor: Predictor) -> None:
    (effect,) = explain(predictor, {"text": "wheat"}).claims[0].effects
    assert effect is not None and np.isfinite(effect)


def test_what_is_cut_off_is_without_effect_and_said_to_be(predictor: Predictor) -> None:
    explanation = explain(predictor, {"text": "wheat " * 40 + "ship"})
    assert explanation.truncated
    assert explanation.claims[0].effects[-1] == 0.0  # the 41st word; the model reads 30


def test_long_texts_are_divided_into_a_bounded_number_of_pieces(predictor: Predictor) -> None:
    asked: list[int] = []
    original = predictor.predict

    class Counting(Predictor):
        def __init__(self) -> None:
            self.__dict__ = predictor.__dict__

        def predict(self, records: Any, clean: bool = True, score_targets: bool = False) -> pd.DataFrame:
            asked.append(len(records))
            return original(records, clean, score_targets)

    explanation = explain(Counting(), {"text": " ".join(["wheat"] * 100)}, most_predictions=32)
    assert asked == [len(explanation.pieces) + 1]
    assert asked[0] <= 32
    assert {len(piece.text.split()) for piece in explanation.pieces[:-1]} == {4}


@given(
    st.text("ab,. \n我爱", max_size=60),
    st.text("xy z你", max_size=40),
    st.integers(min_value=3, max_value=50),
)
def test_pieces_hold_every_visible_character_once_and_are_no_more_than_asked(
    first: str, second: str, most: int
) -> None:
    inputs = {"query": first, "item": second}
    pieces = divide(inputs, ("query", "item"), most)
    assert len(pieces) <= most
    for role, text in inputs.items():
        own = [piece for piece in pieces if piece.role == role]
        assert "".join("".join(piece.text for piece in own).split()) == "".join(text.split())
        assert all(text[piece.start : piece.end] == piece.text for piece in own)
        assert all(one.end <= other.start for one, other in itertools.pairwise(own))


@pytest.mark.parametrize(
    ("text", "word", "left"),
    [
        ("one two three", "two", "one three"),
        ("one two three", "one", "two three"),
        ("one two three", "three", "one two"),
        ("我爱你", "爱", "我你"),
        ("alone", "alone", ""),
    ],
)
def test_a_word_is_left_out_with_its_space(text: str, word: str, left: str) -> None:
    start = text.index(word)
    record = pd.DataFrame({"text": [text]}, dtype="str")
    assert without(record, Piece("text", start, start + len(word), word))["text"].tolist() == [left]


def test_characters_are_left_out_where_a_script_has_no_spaces() -> None:
    assert [piece.text for piece in divide({"text": "我爱 NLP"}, ["text"], 50)] == ["我", "爱", "NLP"]


# -- what each problem can be asked ---------------------------------------------------------------


def claims(name: str, said: dict[str, Any] | None, labels: tuple[str, ...], about: str | None = None) -> Any:
    return get_problem(name).claims(said, labels, about)


def test_each_class_of_a_set_is_a_claim_of_its_own() -> None:
    table = pd.DataFrame({"p:land": [0.5, 0.9], "p:sea": [0.8, 0.2], "prediction": ['["land", "sea"]'] * 2})
    found = claims("multilabel", {"prediction": '["land", "sea"]'}, ("land", "sea"))
    assert [claim.name for claim in found] == ["land", "sea"]
    np.testing.assert_allclose(found[1].strength(table), np.log([4.0, 0.25]))
    assert claims("multilabel", {"prediction": "[]"}, ("land", "sea")) == []
    assert claims("multilabel", {"prediction": "[]"}, ("land", "sea"), "sea")[0].name == "sea"


def test_sure_predictions_have_finite_log_odds() -> None:
    (claim,) = claims("classification", {"prediction": "a"}, ("a", "b"))
    assert np.isfinite(claim.strength(pd.DataFrame({"p:a": [1.0, 0.0]}))).all()


def test_a_number_and_a_pair_are_asked_for_themselves() -> None:
    (number,) = claims("regression", {"prediction": "2"}, ("0.0 ± 1.0",))
    assert number.strength(pd.DataFrame({"value": [2.0, -3.0]})).tolist() == [2.0, -3.0]
    (pair,) = claims("ranking", {"prediction": "0.5"}, ())
    assert pair.strength(pd.DataFrame({"score": [0.5]})).tolist() == [0.0]
    for name in ("regression", "ranking"):
        with pytest.raises(SettingsError, match="has no classes, so leave 'good' out"):
            claims(name, None, ("0.0 ± 1.0",), "good")


def test_an_entity_keeps_its_own_words_and_counts_as_found_by_text_and_label() -> None:
    said = {"text": "Oslo and New York", "prediction": '[[0,4,"LOC"],[9,17,"LOC"]]'}
    oslo, york = claims("tagging", said, ("LOC", "PER"))
    assert (york.name, york.own) == ("New York (LOC)", {"text": [(9, 17)]})
    spans = [
        {"start": 0, "end": 8, "label": "LOC", "text": "New York", "score": 0.75},
        {"start": 9, "end": 13, "label": "PER", "text": "Oslo", "score": 0.9},
    ]
    table = pd.DataFrame({"spans": [json.dumps(spans), "[]"]})
    assert york.support(table).tolist() == [0.75, 0.0]
    assert oslo.support(table).tolist() == [0.0, 0.0]
    assert claims("tagging", None, ("LOC", "PER"), "PER")[0].support(table).tolist() == [0.9, 0.0]


def test_an_answer_is_asked_for_by_its_words_and_keeps_them() -> None:
    (claim,) = claims("answering", {"prediction": '[[7,"the Sun"]]'}, ("answer",))
    table = pd.DataFrame(
        {"answer": ["the Sun", "Sun", "moon", ""], "confidence": [0.9, 0.8, 0.7, 0.6], "no_answer": 0.1}
    )
    assert claim.support(table).tolist() == [0.9, 0.8, 0.0, 0.0]
    assert (claim.name, claim.own) == ("the Sun", {"context": [(7, 14)]})
    (nothing,) = claims("answering", {"prediction": "[]"}, ("answer", "no answer"))
    np.testing.assert_allclose(nothing.strength(table), np.log(0.1 / 0.9))


def test_every_problem_can_be_asked_or_says_that_it_cannot(predictor: Predictor) -> None:
    for name, kind in PROBLEMS.items():
        problem = get_problem(name)
        if kind.claims is Problem.claims:
            with pytest.raises(SettingsError, match=f"the problem {name} cannot be measured"):
                problem.claims(None, ())
        assert set(problem.worded_roles()) <= set(problem.input_roles)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"text": "  "}, "The input 'text' is missing or empty"),
        ({"body": "a"}, "This model has no input 'body'; it reads text"),
        ({}, "The input 'text' is missing"),
    ],
)
def test_what_is_no_record_is_refused(predictor: Predictor, inputs: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        explain(predictor, inputs)


# -- what people see ------------------------------------------------------------------------------

EXAMPLE = Explanation(
    inputs={"text": "met <b>Ann</b> & Bo\tin Rome"},
    prediction="PER",
    pieces=tuple(
        Piece("text", start, end, "met <b>Ann</b> & Bo\tin Rome"[start:end])
        for start, end in ((0, 3), (4, 14), (15, 16), (17, 19), (20, 22), (23, 27))
    ),
    claims=(Explained("[Bo] (PER)", "score of Bo as PER", 0.91, False, (0.4, -0.2, 0.0, None, 0.1, -0.3)),),
    truncated=True,
)


def test_the_largest_effects_come_first_whichever_way_they_point() -> None:
    (claim,) = EXAMPLE.claims
    assert claim.largest(3) == [0, 5, 1]
    assert claim.shares() == pytest.approx((1.0, -0.5, 0.0, 0.0, 0.25, -0.75))


def test_the_page_shows_the_text_as_it_is_and_loads_nothing(tmp_path: Path) -> None:
    write_page(EXAMPLE, tmp_path / "page.html", "my <model>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    body = page[page.index("<main>") :]
    assert "&lt;b&gt;Ann&lt;/b&gt;" in body and "<b>" not in body
    assert "my &lt;model&gt;" in body
    assert not re.search(r"(?:src|href)=\"(?!#)|url\(|@import", page)
    words = re.search(r'<p class="words">(.*?)</p>', body, re.DOTALL)
    assert words is not None
    shown = re.sub(r"<[^>]+>", "", words.group(1))
    assert shown == "met &lt;b&gt;Ann&lt;/b&gt; &amp; Bo\tin Rome"
    assert '<mark class="own">Bo</mark>' in body
    assert "+0.400" in body and "-0.300" in body
    assert "cut off" in body


def test_the_terminal_colours_words_and_lists_the_largest_effects() -> None:
    colours, plain = StringIO(), StringIO()
    print_explanation(EXAMPLE, Console(file=colours, force_terminal=True, color_system="truecolor", width=90))
    print_explanation(EXAMPLE, Console(file=plain, width=90))
    assert "\x1b[30;48;2;" in colours.getvalue()
    lines = [line.split("│")[1:-1] for line in plain.getvalue().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["met", "+0.400"],
        ["Rome", "-0.300"],
        ["<b>Ann</b>", "-0.200"],
        ["in", "+0.100"],
    ]
    assert "[Bo] (PER): score of Bo as PER 0.910" in plain.getvalue()


def test_the_command_prints_json_and_writes_the_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    done = CliRunner().invoke(app, ["explain", "--model", str(folder), "--json", "--html", str(page), TEXT])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["inputs"] == {"text": TEXT}
    assert [word["text"] for word in found["claims"][0]["words"]] == ["wheat", "and", "maize,", "barley"]
    assert found["claims"][0]["effects_in"] == "log-odds"
    assert "maize," in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a text, or `--set role=text`"),
        (["a", "b", "--html", "x.html"], "`--html` and `--png` show one record"),
        (["a", "--png", "x.png"], "`--png` draws a heat map of an image"),
        (["--set", "body=a"], "This model has no input 'body'; it wants `--set text=\"…\"`"),
        (["--set", "text"], "`--set text` has no `=`"),
        (["a", "--set", "text=b"], "either texts or `--set`"),
        (["--class", "oil", "a"], "does not know the class 'oil'"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_2(folder: Path, arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["explain", "--model", str(folder), *arguments])
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("texts", "assigned", "sentence"),
    [
        (["a"], [], 'reads query and item together; give `--set query="…" --set item="…"`'),
        ([], ["query=a"], "The input 'item' is missing"),
        ([], ["query=a", "query=b", "item=c"], "`--set query=…` is given twice"),
        ([], ["query=a", "item="], "`--set item=` is empty"),
    ],
)
def test_inputs_on_the_command_line_make_one_record(
    texts: list[str], assigned: list[str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        given_records(texts, assigned, ("query", "item"))
    assert given_records([], ["item=b=c", "query=a"], ("query", "item")) == [{"item": "b=c", "query": "a"}]
    with pytest.raises(SettingsError, match="A text is empty"):
        given_records(["wheat", " "], [], ("text",))


def test_a_pair_is_predicted_and_explained_by_the_words_of_both_its_texts(tmp_path: Path) -> None:
    model = ("--model", str(build_tiny_ranker(tmp_path / "model")), "--json")
    pair = ("--set", "item=wheat and barley", "--set", "query=two words")
    done = CliRunner().invoke(app, ["predict", *model, *pair])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert list(said)[:3] == ["query", "item", "prediction"]
    done = CliRunner().invoke(app, ["explain", *model, *pair])
    assert done.exit_code == 0, done.output
    (claim,) = json.loads(done.stdout)["claims"]
    assert claim["support"] == pytest.approx(said["score"], abs=1e-3)
    words = [(word["input"], word["text"]) for word in claim["words"]]
    assert words == [
        ("query", "two"), ("query", "words"), ("item", "wheat"), ("item", "and"), ("item", "barley")
    ]  # fmt: skip
    done = CliRunner().invoke(app, ["predict", *model, "two words"])
    assert done.exit_code == 2
    assert 'reads query and item together; give `--set query="…" --set item="…"`' in done.stderr


def test_one_input_may_be_set_by_its_name_for_a_prediction(folder: Path) -> None:
    done = CliRunner().invoke(app, ["predict", "--model", str(folder), "--json", "--set", f"text={TEXT}"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["text"] == TEXT

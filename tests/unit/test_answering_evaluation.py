"""Answers judged as SQuAD's script does, and the simple rivals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from catena.errors import DataError
from catena.evaluation.answer_baselines import phrase, sentence, sentences
from catena.evaluation.answer_matches import best_match, normalised, overlap
from catena.evaluation.answering import AnsweringEvaluation, question_kind
from catena.evaluation.base import Evaluation
from catena.evaluation.baselines import BaselineData
from catena.evaluation.numbers import NumberEvaluation
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.tagging import TaggingEvaluation
from catena.problems.answers import canonical, from_canonical
from catena.settings import ProblemSettings

PLAN = EvaluationPlan(
    label_names=("answer",),
    fingerprint="0" * 16,
    problem=ProblemSettings(name="answering").model_dump(mode="json"),
    samples=100,
)


def test_normalisation_drops_case_punctuation_articles_and_spare_spaces() -> None:
    assert normalised("  The U.S.  Senate, a body!") == "us senate body"
    assert normalised("theatre an atheist") == "theatre atheist"  # articles are whole words only
    assert normalised("mid-1990s") == "mid1990s"


def test_f1_counts_common_words_by_hand() -> None:
    # 2 common words of 3 said and 4 right: P = 2/3, R = 1/2, F1 = 4/7
    assert overlap("in New York", "New York City area") == pytest.approx(4 / 7)
    # a word said twice is common once if it is right once
    assert overlap("yes yes", "yes") == pytest.approx(2 / 3)
    assert overlap("the", "an") == 1.0  # both are nothing once normalised
    assert overlap("", "Rome") == 0.0


def test_characters_count_where_a_script_has_no_spaces() -> None:
    assert overlap("北京市", "北京") == pytest.approx(0.8)


def test_the_best_of_several_answers_counts_and_no_answer_is_an_answer() -> None:
    assert best_match("Denver Broncos", ["Broncos", "the Denver Broncos"]) == (1.0, 1.0)
    assert best_match("", []) == (1.0, 1.0)
    assert best_match("Rome", []) == (0.0, 0.0)


def table(pairs: list[tuple[list[str], str | None]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [str(at) for at in range(len(pairs))],
            "question": ["Who was it?"] * len(pairs),
            "answers": [canonical((0, text) for text in right) for right, _ in pairs],
            "prediction": [canonical([(0, said)] if said is not None else []) for _, said in pairs],
        }
    )


def test_scores_with_and_without_answers_by_hand() -> None:
    records = table(
        [(["Anna"], "Anna"), (["New York City"], "York"), (["Bert"], None), ([], None), ([], "Carla")]
    )
    values = AnsweringEvaluation().values(records, PLAN)
    assert values["exact_match"] == pytest.approx(2 / 5)
    assert values["f1"] == pytest.approx((1 + 0.5 + 0 + 1 + 0) / 5)
    assert values["has_answer_exact_match"] == pytest.approx(1 / 3)
    assert values["has_answer_f1"] == pytest.approx(0.5)
    assert values["no_answer_accuracy"] == pytest.approx(0.5)


def test_where_all_have_an_answer_only_two_scores_are_given() -> None:
    values = AnsweringEvaluation().values(table([(["Anna"], "Anna")]), PLAN)
    assert values == {"f1": 1.0, "exact_match": 1.0}


def test_metrics_have_intervals_tables_and_comparisons(tmp_path: Path) -> None:
    records = table([(["Anna"], "Anna" if at % 2 else "nobody") for at in range(40)])
    records["confidence"] = [0.9 if at % 2 else 0.1 for at in range(40)]
    records["baseline:sentence"] = canonical([(0, "Anna was there")])
    metrics = AnsweringEvaluation().score(Predictions(records, PLAN))
    low, high = metrics["intervals"]["exact_match"]
    assert low < metrics["exact_match"] == 0.5 < high
    assert metrics["baselines"]["sentence"]["f1"] == pytest.approx(0.5)
    kinds, confidence = metrics["tables"]
    assert kinds["rows"][0]["kind"] == "who" and kinds["rows"][0]["records"] == 40
    assert [row["exact_match"] for row in confidence["rows"]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("How many people came?", "how many"),
        ("In what year was it?", "what"),
        ("Name the king who fell.", "who"),
        ("Name it.", "other"),
        ("The showhow place", "other"),
    ],
)
def test_kinds_of_questions(text: str, kind: str) -> None:
    assert question_kind(text) == kind


def test_sentences_do_not_end_inside_numbers() -> None:
    text = "It cost 3.5 million. Who paid? The U.N. did."
    found = sentences(text)
    assert [part for _, part in found][:2] == ["It cost 3.5 million.", "Who paid?"]
    assert all(text[start:].startswith(part) for start, part in found)


def test_the_baselines_say_a_sentence_and_a_name_in_it(tmp_path: Path) -> None:
    context = (
        "The old bridge was rebuilt in 1930. Its architect, the famous Mary Hall, came from Cork. It is red."
    )
    records = pd.DataFrame(
        {"question": ["Name its architect!"], "context": [context], "answers": [canonical([])]}
    )
    data = BaselineData(train=records, test=records, backbone=tmp_path, max_length=64, seed=0)
    ((start, said),) = from_canonical(sentence(data)[0][0])
    assert said == "Its architect, the famous Mary Hall, came from Cork."
    assert context[start:].startswith(said)
    ((start, said),) = from_canonical(phrase(data)[0][0])
    assert said == "Mary Hall"
    assert context[start:].startswith(said)


def test_targets_in_another_form_than_the_prepared_one_are_named() -> None:
    def check(evaluation: Evaluation, *targets: object) -> None:
        evaluation.check_targets(pd.DataFrame({evaluation.target: targets}), ("PER",))

    check(AnsweringEvaluation(), "[]", canonical([(3, "Cork")]))
    check(TaggingEvaluation(), "[]", '[[0,4,"PER"]]')
    check(NumberEvaluation(), "-1.5")
    raw: list[tuple[Evaluation, object]] = [
        (AnsweringEvaluation(), '{"text": ["Cork"], "answer_start": [3]}'),
        (AnsweringEvaluation(), '["Cork"]'),
        (AnsweringEvaluation(), "Cork"),
        (AnsweringEvaluation(), None),
        (TaggingEvaluation(), "B-PER O"),
        (TaggingEvaluation(), '[{"start": 0, "end": 4, "label": "PER"}]'),
        (NumberEvaluation(), "five"),
    ]
    for evaluation, target in raw:
        with pytest.raises(
            DataError, match=rf"Record 2: `{evaluation.target}` is .* not as the prepare stage"
        ):
            check(evaluation, "1.0" if isinstance(evaluation, NumberEvaluation) else "[]", target)

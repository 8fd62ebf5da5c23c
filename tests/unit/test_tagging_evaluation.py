"""The evaluation of tagging says what seqeval and scikit-learn say of the same tags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from seqeval import metrics
from seqeval.scheme import IOB2
from sklearn.metrics import classification_report

from catena.evaluation.baselines import BaselineData
from catena.evaluation.phrases import known_phrases
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.report import ReportSource
from catena.evaluation.tagging import TaggingEvaluation, marked
from catena.problems.entity_claims import locate_entities
from catena.problems.spans import canonical, tagged_words
from catena.problems.tag_decoding import allowed_transitions, best_tags
from catena.problems.tag_schemes import tag_names

LABELS = ("LOC", "ORG", "PER")
TAGS = tag_names(LABELS)


def drawn(records: int = 120, seed: int = 3) -> tuple[pd.DataFrame, list[list[str]], list[list[str]]]:
    """Records with entities and predictions that agree more often than not, and the same as IOB2 tags."""
    chance = np.random.default_rng(seed)
    first, following = allowed_transitions(TAGS)
    rows, truth, said = [], [], []
    for number in range(records):
        length = int(chance.integers(1, 12))
        scores = chance.normal(size=(length, len(TAGS)))
        noise = chance.normal(size=(length, len(TAGS))) * 0.6
        tags = [[TAGS[at] for at in best_tags(one, first, following)] for one in (scores, scores + noise)]
        text = " ".join("word"[: int(size)] for size in chance.integers(1, 5, size=length))
        target, prediction = (canonical(tagged_words(one, text, "IOB2")) for one in tags)
        rows.append({"id": f"{number}", "text": text, "entities": target, "prediction": prediction})
        truth.append(tags[0])
        said.append(tags[1])
    return pd.DataFrame(rows), truth, said


def plan(**changes: object) -> EvaluationPlan:
    return EvaluationPlan(LABELS, "f", problem="tagging", samples=100).with_changes(**changes)


def test_entities_are_counted_as_seqeval_counts_them() -> None:
    records, truth, said = drawn()
    found = TaggingEvaluation().values(records, plan())
    options = {"mode": "strict", "scheme": IOB2}
    report = metrics.classification_report(truth, said, output_dict=True, **options)
    assert 0.2 < found["entity_f1"] < 0.9
    assert found["entity_precision"] == pytest.approx(report["micro avg"]["precision"])
    assert found["entity_recall"] == pytest.approx(report["micro avg"]["recall"])
    assert found["entity_f1"] == pytest.approx(report["micro avg"]["f1-score"])
    assert found["entity_macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    by_label, _ = TaggingEvaluation().tables(Predictions(records, plan()))
    for row in by_label.rows[:-1]:
        expected = report[str(row["label"])]
        assert row["precision"] == pytest.approx(expected["precision"])
        assert row["recall"] == pytest.approx(expected["recall"])
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["there"] == expected["support"]
    assert by_label.rows[-1]["f1"] == pytest.approx(found["entity_f1"])


def test_words_are_counted_as_scikit_learn_counts_them() -> None:
    records, truth, said = drawn()
    flat = [tag for row in truth for tag in row], [tag for row in said for tag in row]
    report = classification_report(*flat, output_dict=True, zero_division=0.0)
    _, by_tag = TaggingEvaluation().tables(Predictions(records, plan()))
    rows = {str(row["tag"]): row for row in by_tag.rows}
    assert set(rows) == {*TAGS, "accuracy", "micro avg", "macro avg", "weighted avg"}
    for name in (*TAGS, "macro avg", "weighted avg"):
        assert rows[name]["precision"] == pytest.approx(report[name]["precision"])
        assert rows[name]["recall"] == pytest.approx(report[name]["recall"])
        assert rows[name]["f1"] == pytest.approx(report[name]["f1-score"])
        assert rows[name]["support"] == report[name]["support"]
    assert rows["accuracy"]["f1"] == pytest.approx(report["accuracy"])
    found = TaggingEvaluation().values(records, plan())
    assert found["word_accuracy"] == pytest.approx(report["accuracy"])
    assert found["word_macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert found["word_weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])


def test_sums_over_any_records_give_the_scores_of_those_records() -> None:
    records, _, _ = drawn()
    evaluation = TaggingEvaluation()
    counts = evaluation.counts(records, plan())
    some = np.arange(0, len(records), 3)
    scores = evaluation.scores(np.stack([counts.sum(axis=0), counts[some].sum(axis=0)]))
    alone = evaluation.values(records.iloc[some], plan())
    assert {name: values[1] for name, values in scores.items()} == pytest.approx(alone)


def test_an_unknown_label_counts_as_missed() -> None:
    records = pd.DataFrame(
        [{"id": "1", "text": "in Oslo", "entities": '[[3,7,"CITY"]]', "prediction": '[[3,7,"LOC"]]'}]
    )
    found = TaggingEvaluation().values(records, plan())
    assert found["entity_f1"] == 0.0
    assert found["word_accuracy"] == 0.5
    assert TaggingEvaluation().right(records, plan()).tolist() == [0.0]


def test_a_record_without_entities_is_right_if_none_was_found() -> None:
    records = pd.DataFrame(
        [
            {"id": "1", "text": "in Oslo", "entities": "[]", "prediction": "[]"},
            {"id": "2", "text": "in Oslo", "entities": "[]", "prediction": '[[3,7,"LOC"]]'},
        ]
    )
    assert TaggingEvaluation().right(records, plan()).tolist() == [1.0, 0.0]


def test_punctuation_at_an_entity_does_not_make_its_word_another() -> None:
    records = pd.DataFrame(
        [{"id": "1", "text": "In Oslo, now", "entities": '[[3,7,"LOC"]]', "prediction": '[[3,8,"LOC"]]'}]
    )
    found = TaggingEvaluation().values(records, plan())
    assert found["word_accuracy"] == 1.0
    assert found["entity_f1"] == 0.0


def test_known_phrases_are_found_again_longest_first() -> None:
    train = pd.DataFrame(
        {
            "text": ["New York won", "York lost", "he met May", "in May", "by May", "York, again"],
            "entities": [
                '[[0,8,"ORG"]]', '[[0,4,"ORG"]]', '[[7,10,"PER"]]', "[]", "[]", '[[0,4,"LOC"]]',
            ],
        }
    )  # fmt: skip
    test = pd.DataFrame(
        {"text": ["York and New York in May.", "nothing", "York York"], "entities": ["[]"] * 3}
    )
    data = BaselineData(train, test, Path(), 128, 0, columns=("text", "entities"))
    found, confidence = known_phrases(data)
    # York: once each, so the first by name; May: an entity once of three times
    assert found.tolist() == ['[[0,4,"LOC"],[9,17,"ORG"]]', "[]", '[[0,4,"LOC"],[5,9,"LOC"]]']
    assert confidence is None


def test_mistakes_are_drawn_in_the_text() -> None:
    there, said = [(0, 4, "LOC")], [(0, 4, "LOC"), (8, 14, "PER")]
    drawing = marked("Oslo <&> is big", there, said)
    assert drawing == "<mark><u>Oslo</u></mark> &lt;&amp;&gt;<u> is bi</u>g"
    record = pd.Series({"text": "Oslo is <b>", "entities": "[]", "prediction": '[[8,11,"PER"]]'})
    assert TaggingEvaluation().shown(record, "prediction", plan()) == "<strong>&lt;b&gt;</strong> PER"
    assert TaggingEvaluation().shown(record, "entities", plan()) == "none"


def test_the_report_shows_tables_and_mistakes(tmp_path: Path) -> None:
    records, _, _ = drawn()
    records["baseline:phrases"] = "[]"
    predictions = Predictions(records, plan())
    evaluation = TaggingEvaluation()
    metrics = json.loads(json.dumps(evaluation.score(predictions)))
    assert metrics["comparison"][0]["difference"] == pytest.approx(metrics["entity_f1"], abs=1e-6)
    low, high = metrics["intervals"]["entity_f1"]
    assert low < metrics["entity_f1"] < high
    source = ReportSource(
        title="x", predictions=predictions, metrics=metrics, data_quality=None, curve=None, made_with={}
    )
    evaluation.write_report(tmp_path / "report.html", source)
    page = (tmp_path / "report.html").read_text()
    assert "Entities by label" in page
    assert "weighted avg" in page
    assert "<mark>" in page
    evaluation.write_plots(tmp_path / "plots", predictions)
    words = pd.read_csv(tmp_path / "plots" / "words.csv")
    assert words["tag"].tolist()[0] == "O"


def test_the_same_entity_again_is_at_the_next_place_and_inside_of_words_last() -> None:
    oslo = {"text": "Oslo", "label": "LOC"}
    found = locate_entities([oslo, oslo, [7, 9, "PER"]], "Osloer in Oslo")
    assert found == [
        {"start": 10, "end": 14, "label": "LOC"}, {"start": 0, "end": 4, "label": "LOC"}, [7, 9, "PER"],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="the text does not hold the entity 'Oslo'"):
        locate_entities([oslo] * 3, "Osloer in Oslo")

"""Multi-label classification: sets of classes from any file, their loss, predictions and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    hamming_loss,
    log_loss,
    precision_recall_fscore_support,
)

from catena.data.preparation import Prepared
from catena.data.preparation import prepare as prepare_records
from catena.errors import DataError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.sets import SetEvaluation
from catena.problems import get_problem
from catena.problems.multilabel import Multilabel, canonical_labels, membership
from catena.settings import ProblemSettings, parse_settings
from catena.terminal import print_predictions
from catena.training.tokens import TokenTable, write_tokens
from tests.tiny_project import write_backbone

NAMES = ("grain", "money", "ship")
SETS: list[list[str]] = [["grain"], ["money", "grain"], [], ["ship"], ["ship", "money"], ["grain", "ship"]]


def problem(**settings: Any) -> Multilabel:
    return Multilabel(ProblemSettings(name="multilabel", **settings))


def records(count: int = 120) -> list[tuple[str, list[str]]]:
    return [(f"report number {n} of {n * n % 97} about this and that", SETS[n % 6]) for n in range(count)]


def prepare(folder: Path, file: str = "train.csv", **groups: dict[str, Any]) -> Prepared:
    values = {
        "data": {"name": "mine", "train": file, "columns": {"text": "text", "labels": "topics"}}
        | groups.pop("data", {}),
        "problem": {"name": "multilabel"} | groups.pop("problem", {}),
        "preparation": {"near_duplicates": "off"} | groups.pop("preparation", {}),
    }
    settings = parse_settings(values)
    return prepare_records(settings, get_problem(settings.problem), folder)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    pd.DataFrame(rows, columns=["text", "topics"]).to_csv(path, index=False)


def test_lists_and_divided_names_mean_the_same_set_in_any_order() -> None:
    raw = ["grain|ship", " ship | grain |grain", '["ship", "grain"]', '["grain","ship","ship"]', "", "[]"]
    targets, reasons = problem().read_targets(raw, None)
    assert targets == ['["grain", "ship"]'] * 4 + ["[]", "[]"]
    assert reasons == [""] * 6
    spaced, _ = problem(separator=" ").read_targets(["ship grain"], None)
    assert spaced == ['["grain", "ship"]']
    numbered, _ = problem().read_targets(["[2, 1]"], {"1": "grain", "2": "ship"})
    assert numbered == ['["grain", "ship"]']


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('["grain", "ship"', "list of labels is not valid JSON"),
        ('["grain", ""]', "empty label in the list"),
        ("grain||ship", "empty label in the list"),
        ("grain|", "empty label in the list"),
        ('["grain", null]', "list of labels holds something other than names"),
        ('[["grain"]]', "list of labels holds something other than names"),
        ("[true]", "list of labels holds something other than names"),
    ],
)
def test_a_target_that_is_no_set_of_names_says_why(raw: str, reason: str) -> None:
    assert problem().read_targets(["grain", raw], None)[1] == ["", reason]


def test_a_name_outside_data_labels_is_refused() -> None:
    reasons = problem().read_targets(["1|2", "1|3"], {"1": "grain", "2": "ship"})[1]
    assert reasons == ["", "label not among `data.labels`"]


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    rows = records()
    write_csv(tmp_path / "train.csv", [(text, "|".join(names)) for text, names in rows])
    with (tmp_path / "train.jsonl").open("w", encoding="utf-8") as stream:
        for text, names in rows:
            stream.write(json.dumps({"text": text, "topics": names}) + "\n")
    table = pd.DataFrame(rows, columns=["text", "topics"])
    table.to_parquet(tmp_path / "train.parquet")
    expected = prepare(tmp_path).parts
    assert {canonical_labels(names) for names in SETS} == set(expected["train"]["labels"])
    for file in ("train.jsonl", "train.parquet"):
        parts = prepare(tmp_path, file).parts
        for part, records_there in expected.items():
            assert parts[part][["id", "text", "labels"]].equals(records_there[["id", "text", "labels"]])


def test_numbered_classes_in_lists_of_the_datasets_library_come_by_their_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import List as ListOf

    numbers = [[NAMES.index(name) for name in names] for _, names in records()]
    features = Features({"text": Value("string"), "topics": ListOf(ClassLabel(names=list(NAMES)))})
    rows = {"text": [text for text, _ in records()], "topics": numbers}
    dataset = Dataset.from_dict(rows, features=features)
    dataset.save_to_disk(str(tmp_path / "train"))
    dataset.to_parquet(str(tmp_path / "train.parquet"))
    for file in ("train", "train.parquet"):
        assert prepare(tmp_path, file).classes == NAMES


def test_bad_rows_are_rejected_with_their_reasons_and_the_rest_is_kept(tmp_path: Path) -> None:
    rows = [(text, json.dumps(names)) for text, names in records()]
    bad = ['["grain"', "grain||ship", '[{"a": 1}]']
    write_csv(tmp_path / "train.csv", [*rows, *((f"bad {n}", raw) for n, raw in enumerate(bad))])
    prepared = prepare(tmp_path)
    assert prepared.rejected["reason"].tolist() == [
        "list of labels is not valid JSON",
        "empty label in the list",
        "list of labels holds something other than names",
    ]
    assert prepared.rejected["label"].tolist() == bad
    assert sum(len(part) for part in prepared.parts.values()) == len(rows)
    targets = dict(prepared.report["parts"]["train"]["targets"])
    assert targets["most"] == 2
    with pytest.raises(DataError, match=r"3 of 123 rows \(2.4%\) cannot be used.*not valid JSON"):
        prepare(tmp_path, preparation={"max_rejected_fraction": 0.01})


def test_a_test_record_with_a_class_nobody_learned_is_rejected(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, "|".join(names)) for text, names in records()])
    test = [(f"test {text}", "|".join(names)) for text, names in records(60)]
    write_csv(tmp_path / "test.csv", [*test, ("something new", "ship|zinc")])
    prepared = prepare(tmp_path, data={"test": "test.csv"})
    assert prepared.rejected[["text", "reason"]].to_numpy().tolist() == [
        ["something new", "class 'zinc' does not occur in the training part"]
    ]


def test_data_without_a_single_class_stop_the_run(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, "") for text, _ in records()])
    with pytest.raises(DataError, match=r"no class at all; at least one class is needed"):
        prepare(tmp_path)


def test_one_class_is_enough(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, "grain" if names else "") for text, names in records()])
    assert prepare(tmp_path).classes == ("grain",)


def test_copies_are_made_of_records_that_have_a_chosen_class(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, "|".join(names)) for text, names in records()])
    augmentation = {"copies": 1, "word_dropout": 0.3, "classes": ["money"]}
    train = prepare(tmp_path, preparation={"augmentation": augmentation}).parts["train"]
    copies = train[train["augmented"]]
    assert len(copies) > 10
    assert copies["labels"].str.contains("money").all()


def test_the_loss_is_the_mean_binary_cross_entropy_over_records_and_classes() -> None:
    generator = np.random.default_rng(0)
    logits, there = generator.normal(size=(7, 3)), generator.integers(0, 2, (7, 3))
    logits_tensor, labels = torch.tensor(logits), torch.tensor(there).float()
    expected = np.mean([log_loss(there[:, k], expit(logits[:, k]), labels=[0, 1]) for k in range(3)])
    assert float(problem().loss(logits_tensor, labels)) == pytest.approx(expected, rel=1e-6)
    weights = torch.tensor([2.0, 1.0, 0.5])
    by_hand = -(weights.numpy() * there * np.log(expit(logits)) + (1 - there) * np.log(expit(-logits))).mean()
    assert float(problem().loss(logits_tensor, labels, weights)) == pytest.approx(by_hand, rel=1e-6)
    smoothed = 0.9 * there + 0.05
    by_hand = -(smoothed * np.log(expit(logits)) + (1 - smoothed) * np.log(expit(-logits))).mean()
    assert float(problem().loss(logits_tensor, labels, None, 0.1)) == pytest.approx(by_hand, rel=1e-6)
    measured = problem().validation_metrics(logits, list(there.astype(np.int8)))
    assert measured["log_loss"] == pytest.approx(expected)
    assert set(measured) == set(Multilabel.validation_metric_names)


def test_balanced_weights_give_both_answers_the_same_weight() -> None:
    there = [np.array(row, np.int8) for row in ([1, 0], [0, 0], [1, 1], [1, 0])]
    assert problem().balanced_weights(there, 2) == pytest.approx([1 / 3, 3.0])
    assert problem().balanced_weights([[1, 0], [1, 1]], 2) == [1.0, 1.0]  # the first is there always


def test_a_class_is_said_from_the_threshold_on_and_confidence_is_that_of_the_least_sure_decision() -> None:
    chances = np.array([[0.9, 0.5, 0.2], [0.3, 0.4, 0.1]])
    logits = np.log(chances / (1 - chances))
    texts = pd.DataFrame({"text": ["a", "b"]})
    table = problem().predictions(logits, texts, {}, NAMES)
    assert table["prediction"].tolist() == ['["grain", "money"]', "[]"]
    assert table["confidence"].tolist() == pytest.approx([0.5, 0.6])
    assert table["p:ship"].tolist() == pytest.approx([0.2, 0.1])
    assert list(table) == [name for name, _ in problem().output_columns(NAMES)]
    lower = problem(threshold=0.3).predictions(logits, texts, {}, NAMES)
    assert lower["prediction"].tolist() == ['["grain", "money"]', '["grain", "money"]']
    extreme = problem().predictions(np.array([[1000.0, -1000.0, 0.0]]), texts[:1], {}, NAMES)
    assert extreme.iloc[0, 2:].tolist() == [1.0, 0.0, 0.5]


def test_sets_survive_the_way_from_features_to_a_batch(tmp_path: Path) -> None:
    targets = pd.Series([canonical_labels(names) for names in SETS])
    rows: dict[str, list[Any]] = {
        "input_ids": [[1, 2, 3]] * 6,
        "n_tokens": [3] * 6,
        "labels": list(membership(targets, NAMES)),
    }
    write_tokens(tmp_path / "train.arrow", [{"id": list("abcdef"), **rows}])
    table = TokenTable(tmp_path / "train.arrow")
    batch = problem().collate([table[row] for row in range(6)], pad_token_id=0)
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[float(name in names) for name in NAMES] for names in SETS]
    assert np.stack(table.labels).tolist() == batch["labels"].tolist()


@pytest.fixture(scope="module")
def predicted() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Made-up predictions, some of them right, with empty sets on both sides; a class nobody says."""
    generator = np.random.default_rng(3)
    there = generator.random((150, 4)) < [0.4, 0.3, 0.2, 0.05]
    said = np.where(generator.random((150, 4)) < 0.75, there, ~there)
    said[:, 3] = False
    names = np.array(["a", "b", "c", "d"], dtype=object)
    table = pd.DataFrame(
        {
            "id": [f"{n:03d}" for n in range(150)],
            "text": [f"text {n} " + "word " * (n % 9) for n in range(150)],
            "labels": [canonical_labels(names[row]) for row in there],
            "prediction": [canonical_labels(names[row]) for row in said],
        }
    )
    return table, there, said


def test_every_score_is_that_of_scikit_learn(
    predicted: tuple[pd.DataFrame, np.ndarray, np.ndarray],
) -> None:
    table, there, said = predicted
    values = SetEvaluation().values(table, EvaluationPlan(tuple("abcd"), "", problem={"name": "multilabel"}))
    for average in ("micro", "macro", "weighted", "samples"):
        zero_division = 1.0 if average == "samples" else 0.0
        expected = precision_recall_fscore_support(there, said, average=average, zero_division=zero_division)
        found = [values[f"{average}_{rate}"] for rate in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3], abs=1e-12)
    assert values["exact_match"] == pytest.approx(accuracy_score(there, said))
    assert values["hamming_loss"] == pytest.approx(hamming_loss(there, said))
    assert list(values) == list(SetEvaluation.metrics)


def test_the_table_of_classes_has_scikit_learns_figures(
    predicted: tuple[pd.DataFrame, np.ndarray, np.ndarray],
) -> None:
    table, there, said = predicted
    plan = EvaluationPlan(tuple("abcd"), "", problem={"name": "multilabel"})
    classes, sizes = SetEvaluation().tables(Predictions(table, plan))
    expected = precision_recall_fscore_support(there, said, average=None, zero_division=0.0)
    rows = classes.rows[:4]
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in rows] == pytest.approx(values.tolist())
    assert [row["class"] for row in classes.rows[4:]] == [
        f"{average} average" for average in ("micro", "macro", "weighted", "samples")
    ]
    assert sum(row["records"] for row in sizes.rows) == 150


def test_a_class_the_model_does_not_have_is_named(
    predicted: tuple[pd.DataFrame, np.ndarray, np.ndarray],
) -> None:
    with pytest.raises(DataError, match=r"Column `labels`: 'd' is not among the model's 3 labels"):
        SetEvaluation().check_targets(predicted[0], tuple("abc"))


def baseline_data() -> BaselineData:
    rows = []
    for n in range(90):
        names = SETS[n % 6]
        rows.append((" ".join([*names, *names, f"w{n % 7}", f"v{n % 5}"]), canonical_labels(names)))
    rows += [(f"grain w{n}", canonical_labels(["grain"])) for n in range(5)]
    table = pd.DataFrame(rows, columns=["text", "labels"])
    return BaselineData(
        train=table[:70].reset_index(drop=True),
        test=table[70:].reset_index(drop=True),
        backbone=Path("none"),
        max_length=16,
        seed=0,
        columns=("text", "labels"),
    )


def test_the_tfidf_baseline_is_one_logistic_regression_a_class() -> None:
    data = baseline_data()
    said, confidence = SetEvaluation.baselines["tfidf"][1](data)
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\b\w+\b")
    features = vectorizer.fit_transform(data.train["text"])
    unseen = vectorizer.transform(data.test["text"])
    there = membership(data.train["labels"], NAMES)
    chances = np.column_stack(
        [
            LogisticRegression(C=10.0, max_iter=1000).fit(features, there[:, k]).predict_proba(unseen)[:, 1]
            for k in range(3)
        ]
    )
    assert membership(said, NAMES).tolist() == (chances >= 0.5).astype(int).tolist()
    assert confidence is not None
    assert confidence == pytest.approx(np.maximum(chances, 1 - chances).min(axis=1), abs=1e-6)


def test_the_majority_baseline_says_the_commonest_set() -> None:
    data = baseline_data()
    said, confidence = SetEvaluation.baselines["majority"][1](data)
    counts = data.train["labels"].value_counts()
    assert set(said) == {min(counts.index[counts == counts.max()])}
    assert confidence is not None
    assert confidence[0] == pytest.approx(counts.max() / len(data.train))


def test_the_backbone_baseline_learns_from_a_sample_of_the_records(tmp_path: Path) -> None:
    write_backbone(tmp_path)
    data = replace(baseline_data(), backbone=tmp_path, backbone_records=40)
    said, confidence = SetEvaluation.baselines["backbone"][1](data)
    assert confidence is not None
    assert len(said) == len(confidence) == len(data.test)
    assert 0.5 <= confidence.min() <= confidence.max() <= 1.0
    assert (pd.Series(said) == data.test["labels"].reset_index(drop=True)).mean() > 0.2


def test_a_class_that_all_records_have_is_learned_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    data = baseline_data()
    everywhere = data.train["labels"].map(lambda target: canonical_labels([*json.loads(target), "all"]))
    changed = BaselineData(
        data.train.assign(labels=everywhere), data.test, data.backbone, 16, 0, columns=data.columns
    )
    said, _ = SetEvaluation.baselines["tfidf"][1](changed)
    assert all("all" in json.loads(target) for target in said)
    assert not recwarn.list


def test_the_terminal_shows_the_likeliest_classes(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame(
        {
            "prediction": ['["grain"]', "[]"],
            "confidence": [0.7, 0.9],
            "p:grain": [0.7, 0.1],
            "p:ship": [0.2, 0.05],
        }
    )
    print_predictions(["wheat [sic]", "nothing"], table, as_json=False)
    printed = capsys.readouterr().out
    assert '["grain"]' in printed
    assert "grain 0.700, ship 0.200" in printed
    assert "wheat [sic]" in printed

"""Regression: numbers from any file, their scale, loss, predictions and scores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.preprocessing import StandardScaler

from catena.data.preparation import Prepared
from catena.data.preparation import prepare as prepare_records
from catena.errors import DataError, SettingsError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.numbers import NumberEvaluation
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.problems import get_problem
from catena.problems.regression import Regression, Scale, canonical_number
from catena.settings import ProblemSettings, parse_settings
from catena.terminal import print_predictions
from tests.tiny_project import write_backbone


def problem(**settings: Any) -> Regression:
    return Regression(ProblemSettings(name="regression", **settings))


def records(count: int = 120) -> list[tuple[str, str]]:
    return [(f"report number {n} of {n * n % 97}", f"{n % 13 - 2.5:g}") for n in range(count)]


def prepare(folder: Path, file: str = "train.csv", **groups: dict[str, Any]) -> Prepared:
    values = {
        "data": {"name": "mine", "train": file, "columns": {"text": "text", "target": "stars"}}
        | groups.pop("data", {}),
        "problem": {"name": "regression"},
        "preparation": {"near_duplicates": "off"} | groups.pop("preparation", {}),
    }
    settings = parse_settings(values)
    return prepare_records(settings, get_problem(settings.problem), folder)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    pd.DataFrame(rows, columns=["text", "stars"]).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("1", "1"),
        ("+1.0", "1"),
        ("-2.50", "-2.5"),
        ("1e3", "1000"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0", "0"),
        ("0.1", "0.1"),
        ("1E300", "1e+300"),
        ("0e5", "0"),
    ],
)
def test_a_number_has_one_shortest_text(raw: str, canonical: str) -> None:
    assert problem().read_targets([raw], None) == ([canonical], [""])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_gives_it_back(value: float) -> None:
    text = canonical_number(value)
    assert float(text) == value
    targets, reasons = problem().read_targets([text], None)
    assert (targets, reasons) == ([text], [""])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("2,5", "target has a comma; write numbers with a point and nothing else, as in 1234.5"),
        ("1,234.5", "target has a comma; write numbers with a point and nothing else, as in 1234.5"),
        ("nan", "target is not a finite number"),
        ("-Infinity", "target is not a finite number"),
        ("1e999", "target is beyond what a number in double precision can hold"),
        ("1e-999", "target is beyond what a number in double precision can hold"),
        ("good", "target is no number"),
        ("1_000", "target is no number"),
        ("٣", "target is no number"),
        ("12 EUR", "target is no number"),
        ("", "empty target"),
    ],
)
def test_what_is_no_number_says_why(raw: str, reason: str) -> None:
    assert problem().read_targets(["1", raw], None)[1] == ["", reason]


def test_words_get_their_numbers_from_data_labels() -> None:
    targets, reasons = problem().read_targets(["good", "-1", "so-so"], {"good": "1.0"})
    assert targets == ["1", "-1", "so-so"]
    assert reasons == ["", "", "target is no number"]


def test_bad_rows_are_rejected_with_their_reasons_and_the_rest_is_kept(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [*records(), ("bad 1", "2,5"), ("bad 2", "many"), ("bad 3", "inf")])
    prepared = prepare(tmp_path)
    assert prepared.rejected["label"].tolist() == ["2,5", "many", "inf"]
    assert sum(len(part) for part in prepared.parts.values()) == 120
    with pytest.raises(DataError, match=r"3 of 123 rows \(2.4%\) cannot be used.*target has a comma"):
        prepare(tmp_path, preparation={"max_rejected_fraction": 0.01})


def test_the_scale_is_that_of_the_training_part_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", records())
    prepared = prepare(tmp_path)
    targets = prepared.parts["train"]["target"].astype(float).to_numpy()
    scaler = StandardScaler().fit(targets[:, None])
    (name,) = prepared.classes
    assert Scale.read([name]) == Scale.of(targets)
    assert Scale.of(targets).mean == pytest.approx(scaler.mean_[0])
    assert Scale.of(targets).deviation == pytest.approx(scaler.scale_[0])
    assert prepared.report["classes"] == []
    assert prepared.report["imbalance"] is None
    described = dict(prepared.report["parts"]["train"]["targets"])
    assert described["p50"] == pytest.approx(np.median(targets))
    assert described["max"] == targets.max()


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", records())
    expected = prepare(tmp_path)
    with (tmp_path / "train.jsonl").open("w", encoding="utf-8") as stream:
        for n, (text, raw) in enumerate(records()):
            # A number in quotes is the same number, unlike a class.
            stream.write(json.dumps({"text": text, "stars": raw if n % 5 else float(raw)}) + "\n")
    table = pd.DataFrame(records(), columns=["text", "stars"])
    table.assign(stars=table["stars"].astype(float)).to_parquet(tmp_path / "train.parquet")
    for file in ("train.jsonl", "train.parquet"):
        parts = prepare(tmp_path, file).parts
        for part, there in expected.parts.items():
            assert parts[part][["id", "target"]].equals(there[["id", "target"]])


def test_large_whole_numbers_of_parquet_stay_what_they_are(tmp_path: Path) -> None:
    values = [1e20, -3e18, 2.0**53, 12.0, 0.25] * 24
    texts = [text for text, _ in records()]
    pd.DataFrame({"text": texts, "stars": values}).to_parquet(tmp_path / "train.parquet")
    prepared = prepare(tmp_path, "train.parquet")
    found = {float(target) for part in prepared.parts.values() for target in part["target"]}
    assert found == set(values)


def test_targets_that_are_all_the_same_stop_the_run(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, "4.0") for text, _ in records()])
    with pytest.raises(
        DataError, match="All training targets are the number 4, so there is nothing to learn"
    ):
        prepare(tmp_path)
    write_csv(tmp_path / "train.csv", [(text, f"{n % 2}e308") for n, (text, _) in enumerate(records())])
    with pytest.raises(DataError, match="too far for a mean and a standard deviation"):
        prepare(tmp_path)


def test_targets_too_small_for_the_tables_are_pointed_out(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(text, f"{float(raw) / 1000}") for text, raw in records()])
    (warning,) = [one for one in prepare(tmp_path).report["warnings"] if "deviate" in one]
    assert "give targets in a smaller unit" in warning


def test_outputs_come_back_in_the_unit_of_the_targets() -> None:
    scale = Scale(1.6e9, 2500.0)
    table = problem().predictions(
        np.array([[0.0], [1.0], [-0.4]], np.float32),
        pd.DataFrame({"text": ["a", "b", "c"]}),
        {},
        [scale.name],
    )
    assert table["value"].tolist() == pytest.approx([1.6e9, 1.6e9 + 2500, 1.6e9 - 1000], abs=0.001)
    assert [float(text) for text in table["prediction"]] == table["value"].tolist()
    assert list(table) == [name for name, _ in problem().output_columns([scale.name])]


def test_the_loss_is_that_of_standardised_targets() -> None:
    logits, labels = torch.tensor([[0.5], [2.0], [-1.0]]), torch.tensor([0.0, -1.0, -1.5])
    assert float(problem().loss(logits, labels)) == pytest.approx((0.25 + 9.0 + 0.25) / 3)
    huber = problem(regression_loss="huber")
    assert float(huber.loss(logits, labels)) == pytest.approx((0.125 + 2.5 + 0.125) / 3)
    for one in (problem(), huber):
        measured = one.validation_metrics(logits.numpy(), labels.numpy())
        assert measured["loss"] == pytest.approx(float(one.loss(logits, labels)))
        assert measured["r2"] == pytest.approx(r2_score(labels.numpy(), logits.numpy()[:, 0]))
    with pytest.raises(SettingsError, match="label_smoothing"):
        problem().loss(logits, labels, None, 0.1)


@pytest.fixture(scope="module", params=[0.0, 1e9])
def predicted(request: pytest.FixtureRequest) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Targets around a small or a large middle, and predictions that are somewhat right."""
    generator = np.random.default_rng(4)
    there = generator.normal(request.param, 3.0, 200).round(2)
    said = there + generator.normal(0.5, 2.0, 200)
    table = pd.DataFrame(
        {
            "id": [f"{n:03d}" for n in range(200)],
            "text": [f"text {n} " + "word " * (n % 9) for n in range(200)],
            "target": [canonical_number(value) for value in there],
            "prediction": [canonical_number(value) for value in said],
        }
    )
    return table, there, said


def test_every_score_is_that_of_scikit_learn(
    predicted: tuple[pd.DataFrame, np.ndarray, np.ndarray],
) -> None:
    table, there, said = predicted
    values = NumberEvaluation().values(table, EvaluationPlan(("0 ± 1",), "", problem={"name": "regression"}))
    expected = {
        "mae": mean_absolute_error(there, said),
        "rmse": root_mean_squared_error(there, said),
        "r2": r2_score(there, said),
        "pearson": pearsonr(there, said).statistic,
    }
    assert values == pytest.approx(expected, rel=1e-6)
    assert list(values) == list(NumberEvaluation.metrics)


def test_the_table_divides_the_targets_by_their_size(
    predicted: tuple[pd.DataFrame, np.ndarray, np.ndarray],
) -> None:
    table, there, said = predicted
    plan = EvaluationPlan(("0 ± 1",), "", problem={"name": "regression"})
    (sizes,) = NumberEvaluation().tables(Predictions(table, plan))
    assert len(sizes.rows) == 5
    assert sum(row["records"] for row in sizes.rows) == 200
    assert all(30 <= row["records"] <= 50 for row in sizes.rows)
    order = np.argsort(there, kind="stable")[: sizes.rows[0]["records"]]
    first = sizes.rows[0]
    assert first["mae"] == pytest.approx(mean_absolute_error(there[order], said[order]), rel=1e-6)
    assert first["bias"] == pytest.approx((said - there)[order].mean(), rel=1e-6)


def test_a_table_of_few_different_targets_has_a_row_for_each() -> None:
    there = [1.0] * 10 + [2.0] * 80 + [3.0] * 10
    table = pd.DataFrame({"target": list(map(canonical_number, there)), "prediction": ["2"] * 100})
    plan = EvaluationPlan(("2 ± 1",), "", {"name": "regression"})
    (sizes,) = NumberEvaluation().tables(Predictions(table, plan))
    rows = [(row["targets"], row["records"], row["bias"]) for row in sizes.rows]
    assert rows == [("1", 10, 1.0), ("2", 80, 0.0), ("3", 10, -1.0)]


def test_scores_that_are_not_defined_are_left_out() -> None:
    table = pd.DataFrame({"target": ["0.1"] * 9, "prediction": ["0.3"] * 9})
    values = NumberEvaluation().values(table, EvaluationPlan(("0 ± 1",), "", problem={"name": "regression"}))
    assert values == pytest.approx({"mae": 0.2, "rmse": 0.2})


def test_the_farther_off_the_less_right() -> None:
    table = pd.DataFrame({"target": ["1", "2", "3"], "prediction": ["1", "2.5", "1"]})
    right = NumberEvaluation().right(table, EvaluationPlan(("2 ± 1",), "", problem={"name": "regression"}))
    assert right[0] == 1.0
    assert right[1] == pytest.approx(math.sqrt(2 / 3) / (math.sqrt(2 / 3) + 0.5))
    assert right[0] > right[1] > right[2] > 0.0


def test_baselines_learn_the_mean_and_a_ridge_regression() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(0, 4, 60)
    table = pd.DataFrame(
        {
            "text": [f"w{word} v{n % 7}" for n, word in enumerate(words)],
            "target": [canonical_number(10.0 + 2.0 * word) for word in words],
        }
    )
    train, test = table[:45], table[45:]
    data = BaselineData(train, test, Path("none"), 16, 0, columns=("text", "target"))
    said, confidence = NumberEvaluation.baselines["mean"][1](data)
    assert confidence is None
    assert list(map(float, said)) == pytest.approx([train["target"].astype(float).mean()] * 15)
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\b\w+\b")
    model = Ridge(alpha=1.0).fit(
        vectorizer.fit_transform(train["text"]).toarray(), train["target"].astype(float)
    )
    expected = model.predict(vectorizer.transform(test["text"]).toarray())
    said, _ = NumberEvaluation.baselines["tfidf"][1](data)
    assert list(map(float, said)) == pytest.approx(expected.tolist(), abs=1e-3)


def test_the_backbone_baseline_learns_from_a_sample_of_the_records(tmp_path: Path) -> None:
    write_backbone(tmp_path)
    words = ["wheat", "vessel"]
    rows = [(f"{words[n % 2]} of the {n % 7} and {n % 5}", str(n % 2)) for n in range(100)]
    table = pd.DataFrame(rows, columns=["text", "target"])
    data = BaselineData(table[:70], table[70:], tmp_path, 16, 0, 50, columns=("text", "target"))
    said, _ = NumberEvaluation.baselines["backbone"][1](data)
    high = table["target"][70:].to_numpy() == "1"
    values = np.array([float(text) for text in said])
    assert values[high].mean() > values[~high].mean()


def test_the_terminal_shows_numbers_without_a_confidence(capsys: pytest.CaptureFixture[str]) -> None:
    print_predictions(["fine"], pd.DataFrame({"prediction": ["7.25"], "value": [7.25]}), as_json=False)
    printed = capsys.readouterr().out
    assert "7.25" in printed
    assert "confidence" not in printed

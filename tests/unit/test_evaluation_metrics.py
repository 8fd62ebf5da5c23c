"""From a file of predictions to all its figures, and what is said when the file is not right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from catena.errors import CatenaError, DataError, SettingsError
from catena.evaluation.metrics import evaluate_predictions
from catena.evaluation.mistakes import notable_records
from catena.evaluation.plots import write_plots
from catena.evaluation.predictions import EvaluationPlan, Predictions, read_predictions, write_predictions
from catena.evaluation.rivals import Rival
from catena.evaluation.slices import find_slices, score_slices

NAMES = ("acq", "earn", "ship")


def example(records: int = 400, seed: int = 1, **plan: object) -> Predictions:
    """Predictions right in most cases, with a baseline that is right less often."""
    generator = np.random.default_rng(seed)
    actual = generator.choice(3, size=records, p=[0.6, 0.3, 0.1])
    logits = generator.normal(size=(records, 3))
    logits[np.arange(records), actual] += 3.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.array(NAMES, dtype=object)
    weak = np.where(generator.random(records) < 0.7, actual, 0)
    table = pd.DataFrame(
        {
            "id": [f"{number:05d}" for number in range(records)],
            "text": ["word " * (1 + number % 40) for number in range(records)],
            "label": names[actual],
            "desk": np.where(np.arange(records) % 3 == 0, "london", "tokyo"),
            "source": "test.csv",
            "row": np.arange(1, records + 1),
            "prediction": names[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            **{f"p:{name}": probabilities[:, number] for number, name in enumerate(NAMES)},
            "n_tokens": [2 + number % 40 for number in range(records)],
            "truncated": [number % 40 > 30 for number in range(records)],
            "baseline:tfidf": names[weak],
            "baseline:tfidf:confidence": 0.9,
        }
    )
    return Predictions(table, EvaluationPlan(label_names=NAMES, fingerprint="f" * 64, samples=200, **plan))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "predictions.parquet"
    write_predictions(target, example(slices=("desk",)))
    return target


def test_the_file_gives_back_what_was_written(path: Path) -> None:
    original = example(slices=("desk",))
    read = read_predictions(path)
    assert read.plan == original.plan
    assert read.baselines == ("tfidf",)
    assert read.records["prediction"].tolist() == original.records["prediction"].tolist()


def test_all_figures_come_from_the_file_alone_and_are_ready_for_json(path: Path) -> None:
    figures = evaluate_predictions(path)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    model = Rival.of(read_predictions(path).records, NAMES)
    for metric in (
        "accuracy",
        "macro_f1",
        "weighted_f1",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "calibration_error",
    ):
        assert figures[metric] == round(model.score(metric), 6)
        assert len(figures["intervals"][metric]) == 2
    assert figures["errors"] == round(400 * (1 - figures["accuracy"]))
    assert [row["label"] for row in figures["per_class"]] == list(NAMES)
    assert sum(row["records"] for row in figures["per_class"]) == 400
    assert np.sum(figures["confusion"]["counts"]) == 400
    assert [row["average"] for row in figures["averages"]] == ["micro", "macro", "weighted"]
    assert figures["baselines"]["tfidf"]["accuracy"] < figures["accuracy"]
    (comparison,) = figures["comparison"]
    lead = figures["macro_f1"] - figures["baselines"]["tfidf"]["macro_f1"]
    assert comparison["difference"] == pytest.approx(lead, abs=2e-6)
    assert comparison["low"] > 0
    assert comparison["p_value"] < 0.05


def test_figures_are_the_same_for_shuffled_records(tmp_path: Path, path: Path) -> None:
    read = read_predictions(path)
    shuffled = tmp_path / "shuffled.parquet"
    write_predictions(shuffled, Predictions(read.records.sample(frac=1.0, random_state=5), read.plan))
    counted = ["accuracy", "macro_f1", "weighted_f1", "matthews_correlation"]
    first, second = evaluate_predictions(path), evaluate_predictions(shuffled)
    for key in ("per_class", "averages", "slices", "confusion", "reliability", "comparison"):
        assert first[key] == second[key], key
    for metric in counted:
        assert first["intervals"][metric] == second["intervals"][metric]


def test_the_plan_of_the_file_can_be_changed_for_one_reading(path: Path) -> None:
    figures = evaluate_predictions(path, confidence=0.5, samples=300, slices=())
    low, high = figures["intervals"]["accuracy"]
    wide_low, wide_high = evaluate_predictions(path)["intervals"]["accuracy"]
    assert wide_low < low < high < wide_high
    assert {one["group"] for one in figures["slices"]} == {"class", "characters", "tokens", "truncated"}


def test_a_file_that_is_missing_cut_off_or_of_another_kind_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no .*absent.parquet; run the evaluate stage"):
        evaluate_predictions(tmp_path / "absent.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        evaluate_predictions(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not a complete Parquet file"):
        evaluate_predictions(path)
    example().records.to_parquet(path)
    with pytest.raises(DataError, match="no plan in its metadata") as raised:
        evaluate_predictions(path)
    assert isinstance(raised.value, CatenaError)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("column", ["id", "label", "prediction", "confidence", "p:earn"])
def test_a_missing_column_is_named(path: Path, column: str) -> None:
    read = read_predictions(path)
    write_predictions(path, Predictions(read.records.drop(columns=column), read.plan))
    with pytest.raises(DataError, match=f"has no column `{column}`; run the evaluate stage again"):
        evaluate_predictions(path)


def test_an_empty_file_and_an_empty_value_are_named(path: Path) -> None:
    read = read_predictions(path)
    write_predictions(path, Predictions(read.records.iloc[:0], read.plan))
    with pytest.raises(DataError, match="holds no records"):
        evaluate_predictions(path)
    holed = read.records.copy()
    holed.loc[2, "p:ship"] = np.nan
    write_predictions(path, Predictions(holed, read.plan))
    with pytest.raises(DataError, match="column `p:ship` is empty in row 3"):
        evaluate_predictions(path)


def test_slices_by_class_length_and_column_cover_all_records() -> None:
    table = example().records
    slices = find_slices(table, ["desk"])
    groups = {one.group for one in slices}
    assert groups == {"class", "characters", "tokens", "truncated", "desk"}
    for group in groups:
        inside = np.sum([one.inside for one in slices if one.group == group], axis=0)
        assert (inside == 1).all(), group
    sizes = [int(one.inside.sum()) for one in slices if one.group == "characters"]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 20


def test_a_column_with_many_values_has_one_slice_for_the_rare_ones() -> None:
    table = example().records
    table["author"] = [f"author {min(number, 100)}" for number in range(len(table))]
    names = [one.name for one in find_slices(table, ["author"]) if one.group == "author"]
    assert names[0] == "author 100"
    assert names[-1] == "(77 rarer values)"
    assert len(names) == 25


def test_a_slice_column_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match="column `town`, which the prepared records do not have"):
        find_slices(example().records, ["town"])


def test_only_a_slice_that_is_clearly_worse_is_marked() -> None:
    table = example(seed=3).records
    # London's records are wrong twice out of three, the others stay as they are.
    bad = (table["desk"] == "london") & (table["row"] % 2 == 0)
    table.loc[bad, "prediction"] = np.where(table.loc[bad, "label"] == "acq", "earn", "acq")
    scores = score_slices(Rival.of(table, NAMES), find_slices(table, ["desk"]), 100, 1, 0.95)
    marked = {(one.group, one.name) for one in scores if one.worse}
    assert ("desk", "london") in marked
    assert ("desk", "tokyo") not in marked
    assert not any(group in ("characters", "tokens") for group, _ in marked)
    for one in scores:
        assert one.interval[0] <= one.accuracy <= one.interval[1]


def test_the_surest_mistakes_come_first_and_shared_ones_question_the_label() -> None:
    predictions = example(records=40)
    table = predictions.records
    table["prediction"] = table["label"]
    table["baseline:tfidf"] = table["label"]
    for row, confidence, rival in ((3, 0.99, "ship"), (5, 0.7, "ship"), (8, 0.95, "acq")):
        table.loc[row, ["label", "prediction", "confidence", "baseline:tfidf"]] = [
            "earn",
            "ship",
            confidence,
            rival,
        ]
    lists = notable_records(predictions, most=2)
    assert [one.id for one in lists.worst] == ["00003", "00008"]
    assert [one.id for one in lists.suspect_labels] == ["00003"]
    assert lists.worst[0].where == "test.csv, row 4"
    least = table[table["prediction"] == table["label"]]["confidence"].min()
    assert lists.hesitant[0].confidence == least


def test_plots_hold_one_row_a_record_and_curves_from_corner_to_corner(tmp_path: Path) -> None:
    write_plots(tmp_path / "plots", example())
    confusion = pd.read_csv(tmp_path / "plots" / "confusion.csv")
    assert len(confusion) == 400
    assert list(confusion) == ["actual", "predicted"]
    roc = pd.read_csv(tmp_path / "plots" / "roc.csv")
    for _, curve in roc.groupby("class"):
        assert curve["false_positive_rate"].is_monotonic_increasing
        assert curve.iloc[0, 1:].tolist() == [0, 0]
        assert curve.iloc[-1, 1:].tolist() == [1, 1]
    pr = pd.read_csv(tmp_path / "plots" / "pr.csv")
    assert pr["recall"].max() == 1.0
    calibration = pd.read_csv(tmp_path / "plots" / "calibration.csv")
    assert list(calibration) == ["confidence", "accuracy", "perfect", "records"]
    assert calibration["records"].sum() == 400


def test_the_metadata_do_not_disturb_other_readers(path: Path) -> None:
    assert b"catena" in pq.read_schema(path).metadata
    assert len(pd.read_parquet(path)) == 400

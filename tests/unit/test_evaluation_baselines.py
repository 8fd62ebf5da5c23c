"""Baselines learn what can be learned from the model's own training records, and are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from catena.errors import SettingsError
from catena.evaluation.baselines import (
    BaselineData,
    backbone,
    baseline_predictions,
    chosen_baselines,
    majority,
    stratified_sample,
    tfidf,
)
from catena.evaluation.classes import ClassEvaluation
from catena.evaluation.ranked_lists import RankedListEvaluation
from tests.tiny_project import write_backbone, write_records

CLASSES = ClassEvaluation()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BaselineData:
    folder = tmp_path_factory.mktemp("baselines")
    parts = []
    for name, count, seed in (("train", 150, 1), ("test", 60, 2)):
        write_records(folder / f"{name}.csv", count=count, seed=seed)
        parts.append(pd.read_csv(folder / f"{name}.csv"))
    write_backbone(folder / "backbone")
    return BaselineData(parts[0].assign(augmented=False), parts[1], folder / "backbone", 32, seed=1)


def accuracy(predicted: object, data: BaselineData) -> float:
    return float((pd.Series(predicted) == data.test["label"]).mean())


def test_majority_always_says_the_most_frequent_class(data: BaselineData) -> None:
    train = pd.concat([data.train, data.train[data.train["label"] == "ship"]])
    predicted, confidence = majority(BaselineData(train, data.test, data.backbone, 32, 1))
    assert set(predicted) == {"ship"}
    assert set(confidence) == {0.5}


def test_tfidf_learns_topics_from_their_words(data: BaselineData) -> None:
    predicted, confidence = tfidf(data)
    assert accuracy(predicted, data) > 0.9
    assert ((confidence > 1 / 3) & (confidence <= 1)).all()


def test_tfidf_reads_writing_without_spaces_by_character(data: BaselineData) -> None:
    train = pd.DataFrame(
        {"text": ["股票市场今天大幅上涨投资者非常高兴", "球队昨晚赢得比赛球迷庆祝胜利到深夜"] * 10}
    )
    train["label"] = ["finance", "sport"] * 10
    test = pd.DataFrame({"text": ["投资者看好股票", "球迷等待比赛"], "label": ["finance", "sport"]})
    predicted, _ = tfidf(BaselineData(train, test, data.backbone, 32, 1))
    assert list(predicted) == ["finance", "sport"]


def test_the_backbone_before_fine_tuning_is_better_than_guessing(data: BaselineData) -> None:
    predicted, _ = backbone(replace(data, backbone_records=90))
    assert accuracy(predicted, data) > 0.4


def test_a_stratified_sample_keeps_shares_and_every_class() -> None:
    labels = pd.Series(["a"] * 900 + ["b"] * 99 + ["c"])
    chosen = stratified_sample(labels, 100, seed=1)
    counts = labels.iloc[chosen].value_counts()
    assert counts.to_dict() == {"a": 90, "b": 9, "c": 1}
    assert (chosen == stratified_sample(labels, 100, seed=1)).all()
    assert not (chosen[:90] == stratified_sample(labels, 100, seed=2)[:90]).all()


def test_altered_copies_are_not_learned_from(data: BaselineData, tmp_path: Path) -> None:
    altered = data.train.assign(label="grain", augmented=True)
    more = BaselineData(pd.concat([data.train, altered, altered]), data.test, data.backbone, 32, 1)
    names = ("majority", "tfidf")
    expected = baseline_predictions(data, CLASSES, names, tmp_path / "a")
    pd.testing.assert_frame_equal(baseline_predictions(more, CLASSES, names, tmp_path / "b"), expected)


def test_predictions_are_kept_until_the_data_change_and_made_again_when_damaged(
    data: BaselineData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("tfidf",)
    first = baseline_predictions(data, CLASSES, names, tmp_path)
    assert "fitting the tfidf baseline on 150 records" in capsys.readouterr().out
    assert list(first) == ["baseline:tfidf", "baseline:tfidf:confidence"]
    pd.testing.assert_frame_equal(baseline_predictions(data, CLASSES, names, tmp_path), first)
    assert capsys.readouterr().out == ""
    (kept,) = tmp_path.iterdir()
    for damage in (kept.read_bytes()[:50], b"", b"PAR1"):
        kept.write_bytes(damage)
        pd.testing.assert_frame_equal(baseline_predictions(data, CLASSES, names, tmp_path), first)
        assert "fitting" in capsys.readouterr().out
    fewer = BaselineData(data.train.iloc[1:], data.test, data.backbone, 32, 1)
    baseline_predictions(fewer, CLASSES, names, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_popularity_is_made_again_when_another_relevance_counts(data: BaselineData, tmp_path: Path) -> None:
    train = pd.DataFrame({"query": list("abab"), "item": list("xxyy"), "relevance": ["1", "1", "2", "2"]})
    pairs = BaselineData(train, train, data.backbone, 32, seed=1, columns=("query", "item", "relevance"))
    said = [
        baseline_predictions(pairs, RankedListEvaluation(limit), ["popularity"], tmp_path)
        for limit in (1.0, 2.0)
    ]
    assert said[0]["baseline:popularity"].astype(float).nunique() == 1
    assert said[1]["baseline:popularity"].astype(float).nunique() == 2


def test_texts_without_a_word_are_told_apart_by_their_characters(data: BaselineData) -> None:
    signs = pd.DataFrame({"text": ["!!! ???", "... ---"] * 10, "label": ["loud", "calm"] * 10})
    predicted, _ = tfidf(BaselineData(signs, signs[:2], data.backbone, 32, 1))
    assert predicted.tolist() == ["loud", "calm"]


def test_without_baselines_there_are_no_columns(data: BaselineData, tmp_path: Path) -> None:
    assert baseline_predictions(data, CLASSES, (), tmp_path).shape == (60, 0)


def test_a_baseline_that_the_problem_does_not_have_is_named_with_those_it_has() -> None:
    assert chosen_baselines(CLASSES, None) == ("tfidf", "backbone")
    assert chosen_baselines(CLASSES, ["majority", "majority"]) == ("majority",)
    with pytest.raises(SettingsError, match=r"no baseline `bm25`; there are: majority, tfidf, backbone\."):
        chosen_baselines(CLASSES, ["bm25"])

"""Chains at the gate: promoted when no tail is worse, and each tail judged on its own test records."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catena.errors import DataError
from catena.evaluation.joined import read_tests, write_joined
from catena.evaluation.predictions import read_predictions
from catena.layout import Layout
from catena.model_folder import read_card, write_card
from catena.registry.packaging import signature
from catena.registry.registration import register_candidate
from catena.registry.versions import Registry
from catena.settings import load_settings
from tests.tiny_model import LABELS, build_tiny_model, write_params, write_tiny_predictions

#: Tails, each with test records of its own.
RECORDS = ("sentiment", "intents", "spam")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield tmp_path


def candidate(project: Path, seed: int, **accuracies: float) -> Any:
    """Register a candidate whose tails have these accuracies on 80 records each."""
    layout = Layout(project)
    write_params(
        project,
        problem={"tails": {name: {"data": {"train": "t.csv"}} for name in accuracies}},
        method={"name": "chain"},
        gate={"floors": {f"{name}.accuracy": 0.5 for name in accuracies}, "max_latency_ratio": None},
    )
    if layout.candidate.exists():
        shutil.rmtree(layout.candidate)
    build_tiny_model(layout.candidate, seed=seed)
    tests = {}
    for name, accuracy in accuracies.items():
        write_tiny_predictions(project, accuracy=accuracy, seed=10 + RECORDS.index(name))
        tests[name] = read_predictions(layout.predictions)
    card = {key: value for key, value in read_card(layout.candidate).items() if key != "files"}
    part = {key: card.pop(key) for key in ("problem", "label_names", "tokenization", "cleaning", "columns")}
    card["tails"] = dict.fromkeys(tests, part)
    write_card(layout.candidate, card)
    write_joined(layout.predictions, tests)
    return register_candidate(load_settings(layout.params), layout)


def test_a_chain_is_promoted_when_no_tail_is_worse_and_loses_none(project: Path) -> None:
    assert candidate(project, 1, sentiment=0.8).promoted

    # the new tail first: what is compared once is compared with a tail that the champion has, too
    more = candidate(project, 2, intents=0.9, sentiment=0.8)
    assert more.promoted
    names = [check["name"] for check in more.report["checks"]]
    assert {"sentiment:paired:macro_f1", "sentiment:size", "intents:floor:accuracy"} <= set(names)
    assert "The champion has no tail intents, so only its floors count." in more.report["reasons"]
    registry = Registry.open(Layout(project), "tiny")
    tags = registry.version(more.report["version"]).tags
    assert tags["catena.metric.sentiment.accuracy"] == "0.800000"
    assert tags["catena.metric.intents.accuracy"] == "0.900000"

    worse = candidate(project, 3, sentiment=1.0, intents=0.6, spam=0.4)
    failed = {check["name"] for check in worse.report["checks"] if not check["passed"]}
    assert {"intents:paired:macro_f1", "spam:floor:accuracy"} <= failed
    assert not any(name.startswith("sentiment") for name in failed)
    assert worse.report["reasons"][0].startswith("intents: ")

    less = candidate(project, 4, sentiment=0.9)
    assert less.report["reasons"][0] == "The champion answers for intents as well, which this chain does not."
    assert registry.aliased("champion") == "2"


def test_the_signature_names_the_tails() -> None:
    classes = {"problem": {"name": "classification"}, "label_names": list(LABELS)}
    ranking = {"problem": {"name": "ranking"}, "label_names": []}
    found = signature(
        {
            "tails": {"topic": classes, "tags": {"problem": {"name": "tagging"}, "label_names": ["x"]}},
            "method": {"name": "chain"},
        }
    )
    names = [column.name for column in found.outputs.inputs]
    assert names[:2] == ["topic.prediction", "topic.confidence"]
    assert {"topic.p:grain", "tags.prediction", "tags.spans"} <= set(names)
    assert [(column.name, column.required) for column in found.inputs.inputs] == [("text", True)]
    assert [param.name for param in found.params.params] == ["tails"]
    mixed = signature({"tails": {"topic": classes, "rank": ranking}, "method": {"name": "chain"}})
    assert [(column.name, column.required) for column in mixed.inputs.inputs] == [
        ("text", False), ("query", False), ("item", False),
    ]  # fmt: skip


def test_joined_predictions_come_back_as_they_were(project: Path) -> None:
    layout = Layout(project)
    build_tiny_model(layout.candidate)
    tests = {}
    for number, name in enumerate(("a", "b")):
        write_tiny_predictions(project, accuracy=0.7 + number / 10, records=40 + number, seed=number)
        tests[name] = read_predictions(layout.predictions)
    tests["b"] = replace(tests["b"], records=tests["b"].records.assign(extra="x"))
    write_joined(layout.predictions, tests)
    found = read_tests(layout.predictions)
    assert list(found) == ["a", "b"]
    for name, one in tests.items():
        assert found[name].records.equals(one.records)
        assert found[name].plan == one.plan
    whole = layout.predictions.read_bytes()
    layout.predictions.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not a complete Parquet file"):
        read_tests(layout.predictions)

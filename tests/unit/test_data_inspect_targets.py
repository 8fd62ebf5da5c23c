"""`catena init` for texts with several classes and for texts with a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from catena.cli import app
from catena.data.inspect import inspect_file, write_params
from catena.data.inspect_targets import check_problem
from catena.data.preparation import prepare
from catena.errors import DataError, SettingsError
from catena.problems import get_problem
from catena.settings import load_settings

TEXTS = [f"a text with the number {n} in it" for n in range(120)]
TOPICS = [["sea"], ["sea", "land"], [], ["town", "sea"]]


def initialised(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["init", "--data", str(data), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
    settings = load_settings(folder / "params.yaml")
    prepare(settings, get_problem(settings.problem), folder / "data" / "raw" / settings.data.name)
    return values


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_lists_of_names_are_taken_for_several_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    rows = [{"body": text, "topics": TOPICS[n % 4]} for n, text in enumerate(TEXTS)]
    path = tmp_path / f"articles.{form}"
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif form == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        pd.DataFrame({"body": TEXTS, "topics": [json.dumps(row["topics"]) for row in rows]}).to_csv(path)
    values = initialised(tmp_path, path, monkeypatch, "--label", "topics")
    assert values["data"]["columns"] == {"text": "body", "labels": "topics"}
    assert values["problem"] == {"name": "multilabel"}
    assert values["training"]["metric"] == "micro_f1"
    assert inspect_file(path, label="topics").classes == {"sea": 90, "land": 30, "town": 30}


def test_divided_names_are_several_classes_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "articles.csv"
    topics = ["; ".join(TOPICS[n % 4]) for n in range(120)]
    pd.DataFrame({"body": TEXTS, "topics": topics}).to_csv(path, index=False)
    assert inspect_file(path).problem == "classification"
    values = initialised(tmp_path, path, monkeypatch, "--problem", "multilabel")
    assert values["problem"] == {"name": "multilabel", "separator": ";"}


def test_many_numbers_are_noted_and_learned_as_such_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.csv"
    prices = [f"{n % 40 * 2.5:g}" for n in range(120)]
    pd.DataFrame({"body": TEXTS, "price": prices}).to_csv(path, index=False)
    notes = inspect_file(path, label="price").notes
    assert any("holds 40 different numbers" in note and "--problem regression" in note for note in notes)
    values = initialised(tmp_path, path, monkeypatch, "--label", "price", "--problem", "regression")
    assert values["data"]["columns"] == {"text": "body", "target": "price"}
    assert values["problem"] == {"name": "regression"}
    assert values["evaluation"]["baselines"] == ["mean", "tfidf", "backbone"]
    inspection = inspect_file(path, label="price", problem="regression")
    assert inspection.numbers == {"min": 0.0, "p25": 24.375, "p50": 48.75, "p75": 73.125, "max": 97.5}


def test_a_column_without_numbers_is_refused_for_regression(tmp_path: Path) -> None:
    path = tmp_path / "articles.csv"
    pd.DataFrame({"body": TEXTS, "topic": [f"{n % 3},5" for n in range(120)]}).to_csv(path, index=False)
    inspection = inspect_file(path, label="topic", problem="regression")
    with pytest.raises(DataError, match=r"'topic' of .* does not hold different numbers"):
        write_params(inspection, tmp_path)


def test_an_unknown_problem_is_named() -> None:
    with pytest.raises(SettingsError, match="`--problem` sorting is not one of classification, multilabel"):
        check_problem("sorting")

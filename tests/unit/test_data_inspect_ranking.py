"""`catena init` for files of queries, items and how relevant they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from catena.cli import app
from catena.data.inspect import inspect_file
from catena.data.inspection import read_columns
from catena.data.preparation import prepare
from catena.data.recognition import RECOGNISED
from catena.errors import DataError, SettingsError
from catena.problems import PROBLEMS, get_problem
from catena.settings import load_settings


def pairs(names: tuple[str, str, str] = ("query", "item", "relevance"), stars: bool = False) -> pd.DataFrame:
    """60 queries with 5 items each: one relevant, or rated 1 to 5."""
    rows = [
        (f"customer {number} wants", f"thing {item} in red", 1 + item if stars else int(item == number % 5))
        for number in range(60)
        for item in range(5)
    ]
    return pd.DataFrame(rows, columns=list(names))


def initialised(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    """The `params.yaml` that is written, after its data have been prepared by it."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["init", "--data", str(data), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    settings = load_settings(folder / "params.yaml")
    problem = get_problem(settings.problem)
    prepared = prepare(settings, problem, folder / "data" / "raw" / settings.data.name)
    assert all(len(part) for part in prepared.parts.values())
    values: dict[str, Any] = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_pairs_are_recognised_by_what_their_columns_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path, table = tmp_path / f"shop.{form}", pairs(("Query", "Document", "Grade"))
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "parquet":
        table.to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, table.to_dict("records"))), encoding="utf-8")
    values = initialised(tmp_path, path, monkeypatch)
    assert values["data"]["columns"] == {"query": "Query", "item": "Document", "relevance": "Grade"}
    assert values["problem"] == {"name": "ranking"}
    assert values["preparation"]["near_duplicates"] == "off"
    assert '"off"' in (tmp_path / "params.yaml").read_text()
    assert values["evaluation"] == {"baselines": ["popularity", "tfidf", "bm25"]}
    assert values["gate"] == {"metric": "ndcg", "floors": {"ndcg": 0.2}}


def test_columns_of_any_name_are_pairs_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shop.csv"
    pairs(("asked", "shown", "stars"), stars=True).to_csv(path, index=False)
    assert inspect_file(path).problem == "classification"
    columns = ("--column", "query=asked", "--column", "item=shown")
    values = initialised(tmp_path, path, monkeypatch, *columns)
    assert values["data"]["columns"] == {"query": "asked", "item": "shown", "relevance": "stars"}
    # All ratings are at least the default 1; of 1 to 5, 3 is nearest to dividing them in the middle (60%).
    assert values["problem"] == {"name": "ranking", "relevant_from": 3}
    assert inspect_file(path, columns=read_columns(columns[1::2])).numbers["p50"] == 3.0


def test_a_file_without_repeated_queries_or_without_numbers_is_not_taken_for_pairs(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    table = pairs(("query", "item", "label"))
    table.assign(query=[f"text number {at}" for at in range(len(table))]).to_csv(path, index=False)
    assert inspect_file(path).problem == "classification"
    table.assign(label=["good", "bad"] * 150).to_csv(path, index=False)
    assert inspect_file(path).problem == "classification"
    pairs().to_csv(path, index=False)
    assert inspect_file(path, text="item", label="relevance").problem == "classification"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "No column of shop.csv is called like the query of pairs; name it with `--column query=…`"),
        ({"query": "askd", "item": "shown"}, "no column 'askd' for --column query=.*did you mean 'asked'"),
        ({"query": "asked", "item": "shown", "text": "asked"}, "ranking has no text; its columns are query"),
        ({"query": "asked", "item": "asked"}, "Column 'asked' of shop.csv cannot be query and item at once"),
        (
            {"query": "asked", "item": "shown", "relevance": "same"},
            "Column 'same' of shop.csv is 1 for every pair, so there is no order to learn",
        ),
        ({"query": "asked", "item": "shown", "relevance": "word"}, "holds no number of 0 or more"),
    ],
)
def test_what_pairs_lack_is_said_in_one_sentence(
    tmp_path: Path, columns: dict[str, str], sentence: str
) -> None:
    path = tmp_path / "shop.csv"
    pairs(("asked", "shown", "stars")).assign(same=1, word="x").to_csv(path, index=False)
    with pytest.raises(DataError, match=sentence):
        inspect_file(path, problem="ranking", columns=columns)


def test_a_problem_whose_files_look_otherwise_is_not_guessed_from_any_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    pairs().to_csv(path, index=False)
    with pytest.raises(DataError, match="not recognised as a file for the problem tagging"):
        inspect_file(path, problem="tagging")
    assert PROBLEMS.keys() >= RECOGNISED.keys()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(["item"], "write a role and a column"), (["a=b", "a=c"], "`--column a=…` is given twice")],
)
def test_columns_are_given_as_role_and_name(given: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read_columns(given)


def test_the_role_of_the_target_says_which_problem_it_is(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    rows = [f"a thing with number {at},{at % 40}.5" for at in range(120)]
    path.write_text("\n".join(["body,price", *rows]), encoding="utf-8")
    found = inspect_file(path, columns={"text": "body", "target": "price"})
    assert (found.problem, found.data.columns) == ("regression", {"text": "body", "target": "price"})
    with pytest.raises(DataError, match="the problem regression has no item; its columns are text, target"):
        inspect_file(path, problem="regression", columns={"target": "price", "item": "body"})

"""`catena init` on files with entities, and what `catena predict` prints of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from catena.data.inspect import inspect_file, write_params
from catena.errors import DataError
from catena.settings import load_settings
from catena.terminal import print_predictions

CONLL = "".join(f"{name} NNP I-PER\nsleeps V O\n\n" for name in ("Anna", "Bert", "Carla", "David") * 10)


def proposed(folder: Path, name: str, content: str) -> dict[str, Any]:
    """The `params.yaml` that `catena init` writes for a file."""
    (folder / name).write_text(content, encoding="utf-8")
    params = write_params(inspect_file(folder / name), folder / "project", name="mine")
    load_settings(params)
    values: dict[str, Any] = YAML(typ="safe").load(params)
    return values


@pytest.mark.parametrize("name", ["x.conll", "x.txt", "eng.train"])
def test_columns_of_tags_are_recognized_whatever_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "project").mkdir()
    values = proposed(tmp_path, name, CONLL)
    assert values["problem"] == {"name": "tagging"}
    assert values["data"]["format"] == "conll"
    assert values["data"]["columns"] == {"text": "1", "entities": "last"}
    assert values["gate"]["floors"] == {"entity_f1": 0.5}
    assert "metric" not in values["training"]


def test_spans_and_tags_in_json_lines_are_recognized(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    spans = [
        {"id": f"{at}", "body": f"Yes, {name} ({at}).", "found": [[5, 5 + len(name), "PER"]], "x": [1]}
        for at, name in enumerate(("Anna", "Bert") * 20)
    ]
    values = proposed(tmp_path, "x.jsonl", "\n".join(map(json.dumps, spans)))
    assert values["problem"] == {"name": "tagging"}
    assert values["data"]["columns"] == {"text": "body", "entities": "found"}
    tags = [{"tokens": ["Anna", "sleeps"], "pos": ["NNP", "V"], "ner": ["B-PER", "O"]}] * 40
    found = inspect_file(_written(tmp_path / "y.jsonl", tags))
    assert found.data.columns == {"text": "tokens", "entities": "ner"}
    assert (found.problem, found.classes, found.records) == ("tagging", {"PER": 40}, 40)


def test_entities_that_end_before_punctuation_choose_the_tokenizers_words(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    lines = [
        {"text": f"I met {name}.", "entities": [[6, 6 + len(name), "PER"]]} for name in ("Anna", "Bo") * 9
    ]
    values = proposed(tmp_path, "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert values["problem"] == {"name": "tagging", "words": "tokenizer"}


def test_columns_and_line_ends_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("Oslo B-LOC\nsleeps O\n\n" * 20)
    with pytest.raises(DataError, match=r"x\.conll has no column '²'"):
        inspect_file(tmp_path / "x.conll", label="²")
    (tmp_path / "x.conll").write_bytes(b"Oslo B-LOC\rsleeps O\r\r" * 20)
    with pytest.raises(DataError, match=r"x\.conll ends its lines with carriage returns alone"):
        inspect_file(tmp_path / "x.conll")


def test_other_files_are_looked_at_as_before(tmp_path: Path) -> None:
    rows = [{"text": f"text number {at}", "label": "ab"[at % 2]} for at in range(40)]
    assert inspect_file(_written(tmp_path / "x.jsonl", rows)).problem == "classification"
    (tmp_path / "x.txt").write_text("".join(f"text {at}\t{'ab'[at % 2]}\n" for at in range(40)))
    assert inspect_file(tmp_path / "x.txt").problem == "classification"
    (tmp_path / "x.train").write_text("just\nlines\n")
    with pytest.raises(DataError, match=r"set `data\.format`"):
        inspect_file(tmp_path / "x.train")


def test_predictions_are_printed_one_entity_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [{"start": 3, "end": 7, "label": "LOC", "text": "Oslo", "score": 0.9871}]
    table = pd.DataFrame(
        {"prediction": ['[[3,7,"LOC"]]', "[]"], "confidence": [0.9, 1.0], "spans": [json.dumps(spans), "[]"]}
    )
    print_predictions(["in Oslo", "[nowhere]"], table, as_json=False)
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["in Oslo", "Oslo", "LOC", "3–7", "0.987"],
        ["[nowhere]", "none", "", "", ""],
    ]


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path

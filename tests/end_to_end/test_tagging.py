"""Entities from a CoNLL file: `catena init`, the chain, predictions of texts and of a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

#: Words that an entity begins with, and those that may follow in it.
_WORDS = {
    "": ("the of said in a and to was on", "for would that company after this year wheat oats dollar yen"),
    "LOC": ("gulf port dock", "canal silo harbour"),
    "ORG": ("bank treasury bundesbank", "vessel tanker cargo"),
}


BEHAVIOUR = """\
tests:
  - name: banks are organizations
    kind: minimum_functionality
    templates: ["the {bank} was in", "for the {bank} that"]
    slots: {bank: [Bank, Treasury, Bundesbank]}
    entities: [{text: "{bank}", label: ORG}]
  - name: a word more or less changes nothing
    kind: invariance
    records: 20
    threshold: 0.5
    perturbations: [append: the, drop_word]
  - name: a bank is a place
    about: It is not, so that this must fail.
    kind: minimum_functionality
    texts: [the Bank was in]
    entities: [{text: Bank, label: LOC}]
"""


def write_conll(path: Path, count: int, seed: int) -> None:
    """Sentences in IOB1 whose capitalized words are places or organizations, of one word or two."""
    chance = random.Random(seed)
    lines = ["-DOCSTART- -X- O\n"]
    for _ in range(count):
        kind = ""
        for _ in range(chance.randint(6, 10)):
            kind = chance.choice([other for other in _WORDS if not kind or other != kind])
            for words in _WORDS[kind][: chance.randint(1, 2)]:
                word = chance.choice(words.split())
                lines.append(f"{word.capitalize() if kind else word} X {f'I-{kind}' if kind else 'O'}\n")
        lines.append("\n")
    path.write_text("".join(lines), encoding="utf-8")


def test_a_conll_file_becomes_a_model_that_marks_entities(tiny_project: Path, tmp_path: Path) -> None:
    write_conll(tmp_path / "news.train", 260, seed=1)
    write_conll(tmp_path / "news.test", 60, seed=2)
    (tiny_project / "params.yaml").unlink()
    catena = ("python", "-m", "catena.cli")
    files = ("--data", tmp_path / "news.train", "--test", tmp_path / "news.test", "--name", "news")
    made = run(tiny_project, *catena, "init", *files)
    assert "LOC" in made.stdout

    params = tiny_project / "params.yaml"
    yaml = YAML()
    values = yaml.load(params)
    assert values["problem"]["name"] == "tagging"
    assert values["data"]["columns"] == {"text": "1", "entities": "last"}
    values["tokenization"]["max_length"] = 16
    values["backbone"] |= {"name": "tiny", "source": "folder:backbone"}
    values["training"] |= {
        "epochs": 6, "learning_rate": 0.01, "batch_size": 8, "batch_tokens": 256, "device": "cpu",
        "precision": "float32", "dropout": 0.0,
    }  # fmt: skip
    values["evaluation"] |= {"bootstrap_samples": 100, "behaviour": "behaviour/news.yaml"}
    (tiny_project / "behaviour" / "news.yaml").write_text(BEHAVIOUR, encoding="utf-8")
    yaml.dump(values, params)
    run(tiny_project, "dvc", "add", "-q", "data/raw/news")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["entity_f1"] > 0.9
    assert metrics["baselines"]["phrases"]["entity_f1"] > 0.6  # the words are the same
    names = [table["name"] for table in metrics["tables"]]
    assert names == ["entities", "words"]
    predictions = pd.read_parquet(tiny_project / "reports/evaluation/predictions.parquet")
    assert not predictions["truncated"].any()  # windows: sentences are longer than 16 tokens
    assert (predictions["n_tokens"] > 16).any()
    page = (tiny_project / "reports/evaluation/report.html").read_text()
    assert "Entities by label" in page
    assert [test["passed"] for test in metrics["behaviour"]["results"]] == [True, True, False]
    assert metrics["behaviour"]["results"][0]["cases"] == 6
    assert "Behaviour tests" in page and "a bank is a place" in page
    registry = json.loads((tiny_project / "reports/registry.json").read_text())
    assert str(registry["version"]) == "1"

    said = run(tiny_project, *catena, "predict", "the  company said  Gulf  Canal was in the year")
    assert "Gulf Canal" in said.stdout
    assert "LOC" in said.stdout
    said = run(tiny_project, *catena, "predict", "--json", "to  Gulf")
    (entity,) = json.loads(json.loads(said.stdout)["prediction"])
    assert entity == [4, 8, "LOC"]
    said = run(tiny_project, *catena, "explain", "--json", "the company said Gulf Canal was in the year")
    (claim,) = json.loads(said.stdout)["claims"]
    assert claim["name"] == "Gulf Canal (LOC)"
    own = [word["text"] for word in claim["words"] if word["effect"] is None]
    assert own == ["Gulf", "Canal"]
    (tmp_path / "news.test").rename(tmp_path / "more.conll")
    run(
        tiny_project,
        *catena,
        "predict",
        "--input",
        tmp_path / "more.conll",
        "--output",
        tmp_path / "out.jsonl",
    )
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["prediction"] for one in out] == predictions["prediction"].tolist()

"""Pairs from a file of the user's own: `catena init`, the chain, a prediction and its explanation."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

_WANTED = "wheat maize barley harvest bushel crop"
_OTHERS = "vessel port cargo tanker dock hull bank dollar yen treasury"
_COMMON = "the company said officials year week plan talks"
BEHAVIOUR = """\
tests:
  - name: grain before ships
    kind: minimum_functionality
    cases:
      - {text: {query: the company said}, better: wheat of maize, worse: vessel and port}
      - {text: {query: officials reported}, better: a barley crop, worse: a bank in yen}
  - name: other queries, the same order
    kind: invariance
    tolerance: 1
    records: 5
    inputs: [query]
    perturbations: [append: the week]
  - name: grain in the item
    kind: direction
    change: raise
    pairs: [[{query: the company, item: dock of the port}, {query: the company, item: wheat of the crop}]]
"""


def write_pairs(path: Path, queries: int, seed: int) -> None:
    """Each query with four items, of which one or two speak of grain, and are liked."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["asked", "shown", "liked"])
        for number in range(queries):
            asked = " ".join(chance.choices(_COMMON.split(), k=6))
            for at in range(4):
                liked = int(at <= number % 2)
                words = chance.choices((_WANTED if liked else _OTHERS).split(), k=3)
                writer.writerow([f"{asked} {number}", " ".join([*words, "of", "the"]), liked])


def test_pairs_become_a_model_that_puts_what_is_liked_first(tiny_project: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "shop.csv", 90, seed=1)
    params = tiny_project / "params.yaml"
    params.unlink()
    catena = ("python", "-m", "catena.cli")
    columns = [f"--column={one}" for one in ("query=asked", "item=shown", "relevance=liked")]
    run(tiny_project, *catena, "init", "--data", tmp_path / "shop.csv", *columns)
    yaml = YAML()
    values = yaml.load(params)
    assert values["problem"]["name"] == "ranking"
    values["backbone"] |= {"name": "tiny", "source": "folder:backbone"}
    values["training"] |= {
        "epochs": 1, "learning_rate": 0.01, "batch_size": 4, "batch_tokens": 256, "device": "cpu",
        "precision": "float32", "dropout": 0.0,
    }  # fmt: skip
    values["evaluation"] |= {"bootstrap_samples": 100, "behaviour": "behaviour/shop.yaml"}
    (tiny_project / "behaviour" / "shop.yaml").write_text(BEHAVIOUR, encoding="utf-8")
    yaml.dump(values, params)
    run(tiny_project, "dvc", "add", "-q", "data/raw/shop")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["ndcg"] > 0.9
    assert [test["passed"] for test in metrics["behaviour"]["results"]] == [True, True, True]
    page = (tiny_project / "reports/evaluation/report.html").read_text()
    assert "grain before ships" in page
    assert json.loads((tiny_project / "reports/registry.json").read_text())["decision"] == "promoted"

    pair = ("--set", "query=the company said", "--set", "item=the wheat of maize")
    said = json.loads(run(tiny_project, *catena, "predict", "--json", *pair).stdout)
    other = ("--set", "query=the company said", "--set", "item=the dock of port")
    assert said["score"] > json.loads(run(tiny_project, *catena, "predict", "--json", *other).stdout)["score"]
    assert "the wheat of maize" in run(tiny_project, *catena, "predict", *pair).stdout
    one = ("--set", "query=the company said", "--set", "item=the wheat of the")
    done = run(tiny_project, *catena, "explain", "--json", *one)
    words = json.loads(done.stdout)["claims"][0]["words"]
    best = max(words, key=lambda word: word["effect"])
    assert (best["input"], best["text"]) == ("item", "wheat")

"""A chain whose tails have inputs and targets of their own: pairs, passages, numbers, sets of labels."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

PARAMS = """\
seed: 7
data: {name: desk}
preparation: {}
problem:
  tails:
    matches:
      data:
        format: csv
        train: train.csv
        test: test.csv
        columns: {query: query, item: item, relevance: relevance}
      preparation: {validation_fraction: 0.2, near_duplicates: "off"}
      problem: {name: ranking}
    replies:
      data:
        format: jsonl
        train: train.jsonl
        test: test.jsonl
        columns: {question: question, context: context, answers: answers}
      preparation: {validation_fraction: 0.2, near_duplicates: "off"}
      problem: {name: answering}
    amounts:
      data: {format: csv, train: train.csv, test: test.csv, columns: {text: text, target: target}}
      preparation: {validation_fraction: 0.2, near_duplicates: "off"}
      problem: {name: regression}
    subjects:
      data: {format: csv, train: train.csv, test: test.csv, columns: {text: text, labels: labels}}
      preparation: {validation_fraction: 0.2, near_duplicates: "off"}
      problem: {name: multilabel}
tokenization: {max_length: 32}
backbone: {name: tiny, source: "folder:backbone", pooling: mean}
method: {name: chain, chain: {links: [{after: 1, kind: bottleneck, size: 8}], tail_size: 16}}
training:
  epochs: 3
  learning_rate: 0.01  # large, because the network is tiny
  batch_size: 8
  batch_tokens: 256
  dropout: 0.0
  device: cpu
  precision: float32
evaluation: {bootstrap_samples: 100}
registry: {model: desk}
gate:
  floors: {amounts.r2: 0.3, subjects.micro_f1: 0.5}
  max_latency_ratio: null
"""
GRAIN = ("wheat", "maize", "barley", "oats")
SHIP = ("vessel", "port", "cargo", "tanker")
FILLERS = ("the", "of", "said", "in", "a", "and", "to", "was", "on", "for", "would", "that")
LOADED = """
import json, mlflow
model = mlflow.pyfunc.load_model("models:/desk@champion")
pairs = {"query": ["the market"] * 2, "item": ["wheat 3", "tanker 3"]}
passage = {"question": ["which 7"], "context": ["said to the barley and of on"]}
texts = {"text": ["the wheat maize oats and in for on", "the tanker port cargo in for on"]}
print(json.dumps({
    "inputs": sorted(column.name for column in model.metadata.signature.inputs.inputs),
    "matches": model.predict(pairs, params={"tails": "matches"}).to_dict("records"),
    "replies": model.predict(passage, params={"tails": "replies"}).to_dict("records"),
    "texts": model.predict(texts, params={"tails": "amounts,subjects"}).to_dict("records"),
}))
"""


def write_tails(folder: Path) -> None:
    """Records of each tail; what is to be said follows from the words in them."""
    for part, count in (("train", 120), ("test", 40)):
        chance = random.Random(count)
        rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("matches", "replies", "amounts", "subjects")
        }
        for number in range(count):
            fillers = [chance.choice(FILLERS) for _ in range(6)]
            grains, ships = chance.randint(0, 3), chance.randint(0, 3)
            words = [*fillers, *chance.choices(GRAIN, k=grains), *chance.choices(SHIP, k=ships)]
            chance.shuffle(words)
            text = " ".join(words)
            rows["amounts"].append({"text": text, "target": grains})
            named = [name for name, there in (("grain", grains), ("ship", ships)) if there]
            rows["subjects"].append({"text": text, "labels": "|".join(named)})
            answer = chance.choice(GRAIN + SHIP)
            context = " ".join([*fillers[:3], answer, *fillers[3:]])
            there = {"text": [answer], "answer_start": [context.index(answer)]}
            rows["replies"].append({"question": f"which {number}", "context": context, "answers": there})
            for item in (chance.choice(GRAIN), chance.choice(SHIP)):
                pair = {"query": f"the market {number}", "item": f"{item} {number}"}
                rows["matches"].append({**pair, "relevance": int(item in GRAIN)})
        for name, records in rows.items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            if name == "replies":
                text = "".join(json.dumps(record) + "\n" for record in records)
                (place / f"{part}.jsonl").write_text(text)
                continue
            lines = [",".join(records[0]), *(",".join(map(str, record.values())) for record in records)]
            (place / f"{part}.csv").write_text("\n".join(lines) + "\n")


def test_tails_with_inputs_of_their_own_are_trained_measured_and_asked(tiny_project: Path) -> None:
    (tiny_project / "params.yaml").write_text(PARAMS, encoding="utf-8")
    write_tails(tiny_project / "data" / "raw" / "desk")
    run(tiny_project, "dvc", "add", "-q", "data/raw/desk")
    run(tiny_project, "dvc", "repro", timeout=500)
    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["matches.auc"] > 0.9
    assert metrics["replies.f1"] > 0.9
    assert json.loads((tiny_project / "reports/registry.json").read_text())["decision"] == "promoted"

    said = json.loads(
        run(tiny_project, "python", "-c", LOADED, MLFLOW_TRACKING_URI="sqlite:///mlflow.db").stdout
    )
    assert said["inputs"] == ["context", "item", "query", "question", "text"]
    grain, ship = said["matches"]
    assert grain["matches.score"] > ship["matches.score"]
    assert said["replies"][0]["replies.answer"] == "barley"
    grain, ship = said["texts"]
    assert {name.partition(".")[0] for name in grain} == {"amounts", "subjects"}
    assert grain["amounts.prediction"] > ship["amounts.prediction"]
    assert grain["subjects.p:grain"] > ship["subjects.p:grain"]

    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/desk/1", timeout=500)
    assert "identical" in rebuilt.stdout

"""Conversations from a file of messages: `catena init`, the chain, answers by prediction, MLflow and chat."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.tiny_language_model import write_language_backbone
from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

_COLOURS = {
    "sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "gold": "yellow",
}
_ASKED = ("what colour is {}?", "which colour has {}?", "tell me the colour of {}", "{}: what colour?")


def write_conversations(path: Path, count: int, seed: int) -> None:
    """Exchanges about the colours of things, some of them after another; all different."""
    chance = random.Random(seed)
    lines = []
    for number in range(count):
        messages = []
        for _ in range(chance.randint(1, 2)):
            thing = chance.choice(list(_COLOURS))
            asked = chance.choice(_ASKED).format(f"the {thing}") + f" ({seed}{number})"
            messages += [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": _COLOURS[thing]},
            ]
        lines.append(json.dumps({"messages": messages}))
    lines[3] = json.dumps({"messages": [{"role": "user", "content": "and nobody answers"}]})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_conversations_become_a_model_that_answers(tiny_project: Path, tmp_path: Path) -> None:
    write_conversations(tmp_path / "talk.jsonl", 240, seed=1)
    write_conversations(tmp_path / "talk-test.jsonl", 40, seed=2)
    write_language_backbone(tiny_project / "backbone-lm")
    shutil.copytree(tiny_project / "backbone-lm", tiny_project / "models" / "backbones" / "tiny-lm")
    (tiny_project / "params.yaml").unlink()
    catena = ("python", "-m", "catena.cli")
    files = ("--data", tmp_path / "talk.jsonl", "--test", tmp_path / "talk-test.jsonl", "--name", "talk")
    made = run(tiny_project, *catena, "init", *files)
    assert "1 records will be rejected: no assistant turn to learn from" in made.stdout

    params = tiny_project / "params.yaml"
    yaml = YAML()
    values = yaml.load(params)
    assert values["problem"]["name"] == "generation"
    assert values["problem"]["form"] == "conversation"
    assert values["data"]["columns"] == {"messages": "messages"}
    values["preparation"]["near_duplicates"] = "off"
    values["problem"]["decoding"]["max_new_tokens"] = 12
    values["tokenization"]["max_length"] = 192
    values["backbone"] |= {"name": "tiny-lm", "source": "folder:backbone-lm"}
    values["method"] = {"name": "full"}
    values["training"] |= {
        "epochs": 4, "learning_rate": 0.01, "batch_tokens": 1152, "packing": True, "device": "cpu",
        "precision": "float32",
    }  # fmt: skip
    values["evaluation"]["bootstrap_samples"] = 100
    yaml.dump(values, params)
    run(tiny_project, "dvc", "add", "-q", "data/raw/talk")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    before = metrics["baselines"]["backbone"]
    assert metrics["bits_per_byte"] < before["bits_per_byte"] / 3
    assert metrics["perplexity"] < before["perplexity"] / 3
    assert [table["name"] for table in metrics["tables"]] == ["diversity", "samples"]
    assert "rouge_l" in metrics["baselines"]["nearest"]
    predictions = pd.read_parquet(tiny_project / "reports/evaluation/predictions.parquet")
    assert set(predictions["prediction"].str.split().str[0]) & set(_COLOURS.values())
    rejected = pd.read_parquet(tiny_project / "data/prepared/rejected.parquet")
    assert "no assistant turn to learn from" in set(rejected["kind"])
    assert "Samples" in (tiny_project / "reports/evaluation/report.html").read_text()
    assert str(json.loads((tiny_project / "reports/registry.json").read_text())["version"]) == "1"

    candidate = ("--model", "models/candidate")
    messages = json.dumps([{"role": "user", "content": "what colour is the sky?"}])
    asked = run(tiny_project, *catena, "predict", *candidate, "--json", "what colour is the sky?", messages)
    said = [json.loads(line)["prediction"] for line in asked.stdout.splitlines()]
    assert said[0] == said[1]
    run(
        tiny_project, *catena, "predict", *candidate,
        "--input", tmp_path / "talk-test.jsonl", "--output", tmp_path / "out.jsonl",
    )  # fmt: skip
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(written) == 40
    assert set(written[0]) == {"row", "messages", "prediction", "confidence", "n_tokens", "truncated"}
    lines = "what colour is the sky?\\n/exit\\n"
    talked = run(
        tiny_project,
        "sh",
        "-c",
        f"printf '{lines}' | {sys.executable} -m catena.cli chat {' '.join(candidate)}",
    )
    assert talked.stdout.strip() == said[0]

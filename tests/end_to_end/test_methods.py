"""Methods through the whole chain: density, an adapter, top layers, a student, eight bits, prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.torch import load_file

from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_project import run, write_records

pytestmark = pytest.mark.end_to_end

BOTH = """
import json, pathlib, sys, mlflow
from catena.chain_predictor import load_predictor
texts = json.loads(sys.argv[2])
registered = mlflow.pyfunc.load_model(sys.argv[1]).predict({"text": texts})
candidate = load_predictor(pathlib.Path("models/candidate")).predict(texts)
print(json.dumps([said[["prediction", "p:grain"]].to_dict("list") for said in (registered, candidate)]))
"""
SELF_TRAINED: dict[str, Any] = {
    "data": {"unlabelled": "unlabelled.csv"},
    "preparation": {"augmentation": {"copies": 1, "word_dropout": 0.2, "classes": ["ship"]}},
    "tokenization": {"tokenizer": "bpe", "vocabulary_size": 400, "max_length": 96},
    "backbone": {
        "name": "own", "type": "transformer", "hidden_size": 32, "layers": 1, "heads": 2,
        "intermediate_size": 64,
    },
    "method": {"name": "density", "density": {"soft_tokens": 1, "soft_tokens_rate": 0.3}},
    "training": {
        "epochs": 6,
        "learning_rate": 0.01,
        "self_training": {"rounds": 1, "threshold": 0.5, "epochs": 1},
    },
}  # fmt: skip
ASKED: dict[str, Any] = {
    "tokenization": {"max_length": 128},
    "backbone": {"name": "lm", "source": "folder:lm"},
    "method": {
        "name": "pattern",
        "prompt": {
            "template": {
                "pattern": "{text}\nIt is about {label}",
                "verbalizer": {name: name for name in ("grain", "money", "ship")},
            },
        },
    },
    "training": {"epochs": 6, "learning_rate": 0.01},
}


def change(project: Path, groups: dict[str, Any]) -> None:
    yaml = YAML()
    path = project / "params.yaml"
    params = yaml.load(path.read_text())
    for group, values in groups.items():
        if group in ("backbone", "method"):
            params[group] = values
        else:
            params[group].update(values)
    with path.open("w") as stream:
        yaml.dump(params, stream)


def registered(project: Path, version: int) -> None:
    """Run the chain; what version `version` answers through MLflow is what the model folder answers."""
    run(project, "dvc", "repro", timeout=500)
    report = json.loads((project / "reports/registry.json").read_text())
    assert report["version"] == str(version)
    texts = pd.read_csv(project / "data/raw/tiny/test.csv")["text"].head(8).tolist()
    uri = f"models:/tiny/{version}"
    printed = run(
        project, "python", "-c", BOTH, uri, json.dumps(texts), MLFLOW_TRACKING_URI="sqlite:///mlflow.db"
    ).stdout
    answers, said = json.loads(printed)
    assert answers["prediction"] == said["prediction"]
    assert answers["p:grain"] == pytest.approx(said["p:grain"], abs=1e-6)


def test_a_self_trained_density_is_registered_served_and_rebuilt(tiny_project: Path) -> None:
    write_records(tiny_project / "data/raw/tiny/unlabelled.csv", count=60, seed=9)
    change(tiny_project, SELF_TRAINED)
    run(tiny_project, "dvc", "add", "-q", "data/raw/tiny")
    run(tiny_project, "python", "-m", "catena.cli", "fetch")
    run(tiny_project, "git", "commit", "-q", "-a", "-m", "Unlabelled texts")

    registered(tiny_project, 1)
    card = json.loads((tiny_project / "models/candidate/catena.json").read_text())
    assert card["self_training"]["rounds"]
    learned = pd.read_parquet(tiny_project / "data/prepared/train.parquet")
    assert learned["augmented"].any()
    counts = learned.loc[~learned["augmented"], "label"].value_counts().reindex(card["label_names"])
    prior = load_file(tiny_project / "models/candidate/density.safetensors")["log_prior"]
    assert prior.exp().tolist() == pytest.approx(((counts + 1) / (counts.sum() + 3)).tolist(), abs=1e-6)
    assert json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())["accuracy"] > 0.6
    report = (tiny_project / "reports/evaluation/report.html").read_text()
    assert 'id="shares"' in report and "<mark" in report.partition('id="shares"')[2], "text in colours"
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/1", timeout=500)
    assert "identical" in rebuilt.stdout


ADAPTER: dict[str, Any] = {
    "method": {"name": "lora", "store": "adapter", "peft": {"targets": "all_linear", "dora": True}},
    "training": {"epochs": 12, "learning_rate": 0.02},
}
TOP_LAYERS: dict[str, Any] = {"method": {"name": "top_layers", "layers": 1, "cache": True}}


STUDENT: dict[str, Any] = {
    "method": {
        "name": "full",
        "start": "models:/tiny/2",
        "distillation": {"teacher": "models:/tiny/1"},
        "compression": {"prune_heads": 0.5, "quantize": "int8"},
    },
    "training": {"epochs": 2},
}


def test_an_adapter_top_layers_and_a_small_student_are_registered_served_and_rebuilt(
    tiny_project: Path,
) -> None:
    change(tiny_project, ADAPTER)
    run(tiny_project, "python", "-m", "catena.cli", "fetch")
    registered(tiny_project, 1)
    folder = tiny_project / "models/candidate"
    backbone = (tiny_project / "models/backbones/tiny/model.safetensors").stat().st_size
    assert (folder / "adapter.safetensors").stat().st_size < 0.7 * backbone
    assert not (folder / "model.safetensors").exists()
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/1", timeout=500)
    assert "identical" in rebuilt.stdout

    change(tiny_project, TOP_LAYERS)
    registered(tiny_project, 2)
    assert any((tiny_project / ".catena").rglob("*.arrow")), "what frozen layers say is kept"
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/2", timeout=500)
    assert "identical" in rebuilt.stdout

    size = (folder / "model.safetensors").stat().st_size
    change(tiny_project, STUDENT)
    registered(tiny_project, 3)
    assert (folder / "model.safetensors").stat().st_size < 0.6 * size
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/3", timeout=500)
    assert "start: models:/tiny/2" in rebuilt.stdout and "teacher: models:/tiny/1" in rebuilt.stdout
    assert "identical" in rebuilt.stdout


def test_a_pattern_and_then_a_bare_prompt_are_registered_served_and_rebuilt(tiny_project: Path) -> None:
    tokenizer = tiny_tokenizer(template=None)
    tokenizer.save_pretrained(tiny_project / "lm")
    tiny_network(tokenizer).save_pretrained(tiny_project / "lm")
    change(tiny_project, ASKED)
    run(tiny_project, "python", "-m", "catena.cli", "fetch")
    registered(tiny_project, 1)
    assert json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())["accuracy"] > 0.45
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/1", timeout=500)
    assert "identical" in rebuilt.stdout

    change(tiny_project, {"method": {**ASKED["method"], "name": "prompt"}})
    registered(tiny_project, 2)
    rebuilt = run(tiny_project, "python", "-m", "catena.cli", "reproduce", "models:/tiny/2", timeout=500)
    assert "identical" in rebuilt.stdout

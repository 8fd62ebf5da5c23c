"""A training killed at any step ends in the same weights as one left alone, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_project import environment, write_backbone

# Imports once, then trains each job in a fork of its own on random tokens; a job kills itself (SIGKILL)
# when step `kill` has been recorded. Prints one JSON line a job: its signal, or its weights and curve.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from catena.files import sha256_file
from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.finetune import TrainingData, finetune
from catena.training.tokens import write_tokens
from catena.backbones import get_backbone

def work(backbone, job, answer):
    folder, kill = Path(job["folder"]), job["kill"]
    data = folder / "tokens"
    if not data.exists():
        random = np.random.default_rng(1)
        for part, n in (("train", 90), ("validation", 30)):
            ids = [[2, *random.integers(5, 60, random.integers(2, 20)).tolist(), 3] for _ in range(n)]
            write_tokens(data / f"{part}.arrow", [{"input_ids": ids, "labels": [max(r) % 3 for r in ids]}])
        get_backbone("pretrained").tokenizer(backbone).save_pretrained(data / "tokenizer")
        (data / "statistics.json").write_text(json.dumps({"label_names": ["a", "b", "c"]}))

    def row(values):
        if kill and values["step"] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = parse_settings(job["settings"])
    tokens = TrainingData.load(data, get_problem(settings.problem))
    result = finetune(settings, tokens, backbone_folder=backbone,
        checkpoints=folder / "checkpoints", target=folder / "model", card={}, on_row=row,
        on_start=lambda device, plan: None)
    weights = sha256_file(folder / "model/model.safetensors")
    answer.write_text(json.dumps([weights, result.best_step, result.curve]))

for number, job in enumerate(json.loads(sys.argv[2])):
    answer = Path(job["folder"]).with_suffix(f".{number}.json")
    child = os.fork()
    if child == 0:
        work(Path(sys.argv[1]), job, answer)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    left = sorted(path.name for path in Path(job["folder"]).glob("checkpoints/step-*"))
    result = json.loads(answer.read_text()) if answer.exists() else None
    print(json.dumps({"signal": os.WTERMSIG(status), "left": left, "result": result}))
"""
BASE = {
    "epochs": 3,
    "batch_size": 8,
    "batch_tokens": 128,
    "learning_rate": 0.01,
    "dropout": 0.2,
    "evaluations_per_epoch": 2,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "precision": "float32",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "adamw, linear": {},
    "less dropout": {"dropout": 0.1},
    "accumulation, plateau, early stopping": {
        "gradient_accumulation": 3,
        "schedule": "reduce_on_plateau",
        "metric": "log_loss",
        "early_stopping": 2,
        "learning_rate": 0.05,
    },
    "adafactor, bfloat16, class weights, averaging": {
        "optimizer": "adafactor",
        "schedule": "cosine",
        "precision": "bfloat16",
        "class_weights": "balanced",
        "label_smoothing": 0.1,
        "weight_averaging": 0.9,
    },
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


def train(backbone: Path, *jobs: tuple[Path, dict[str, Any], int]) -> list[dict[str, Any]]:
    """Run the jobs (folder, training settings, step to be killed at or 0) one after the other."""
    content = [
        {"folder": str(folder), "kill": kill, "settings": {"seed": 5, "training": BASE | training}}
        for folder, training, kill in jobs
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(backbone), json.dumps(content)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(jobs), done.stderr
    return answers


@pytest.fixture(scope="module")
def answers(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """For each variant: left alone; killed at step 3; killed again at step 7; run to the end."""
    folder = tmp_path_factory.mktemp("trainings")
    jobs = [
        (folder / f"{place}-{number}", training, kill)
        for number, training in enumerate(VARIANTS.values())
        for place, kill in (("calm", 0), ("killed", 3), ("killed", 7), ("killed", 0))
    ]
    done = iter(train(backbone, *jobs))
    return {variant: [next(done) for _ in range(4)] for variant in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_twice_and_resumed_the_weights_are_the_same_bit_for_bit(
    variant: str, answers: dict[str, list[dict[str, Any]]]
) -> None:
    calm, once, twice, resumed = answers[variant]
    assert (once["signal"], twice["signal"]) == (9, 9)
    assert once["left"] and twice["left"], "no checkpoint was left to resume from"
    assert once["left"] != twice["left"], "the second run did not get further than the first"
    assert resumed["result"] == calm["result"]  # weights, best step, and the whole training curve
    assert not resumed["left"], "checkpoints of a finished training are removed"


def test_what_chance_decides_reaches_the_weights(answers: dict[str, list[dict[str, Any]]]) -> None:
    """The test above could not fail if dropout drew nothing by chance."""
    calm, other = answers["adamw, linear"][0], answers["less dropout"][0]
    assert calm["result"][0] != other["result"][0]

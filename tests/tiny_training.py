"""A tiny training (two layers, ninety random records) to try methods out on, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from catena.backbones import get_backbone
from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.finetune import Result, TrainingData, finetune
from catena.training.tokens import write_tokens
from tests.tiny_project import write_backbone

TRAINING = {
    "epochs": 2,
    "batch_size": 16,
    "batch_tokens": 512,
    "learning_rate": 0.01,
    "dropout": 0.2,
    "device": "cpu",
    "precision": "float32",
}
Trained = tuple[dict[str, torch.Tensor], Result]


def write_training(folder: Path) -> Path:
    """Write `backbone`, and `tokens` of random records whose class is their largest token's."""
    write_backbone(folder / "backbone")
    random = np.random.default_rng(1)
    for part, number in (("train", 70), ("validation", 20)):
        ids = [[2, *random.integers(5, 60, random.integers(2, 20)).tolist(), 3] for _ in range(number)]
        features = {"input_ids": ids, "labels": [max(r) % 3 for r in ids]}
        write_tokens(folder / "tokens" / f"{part}.arrow", [features])
    get_backbone("pretrained").tokenizer(folder / "backbone").save_pretrained(folder / "tokens" / "tokenizer")
    statistics = {"label_names": ["a", "b", "c"], "max_length": 32}
    (folder / "tokens" / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
    return folder


def train(
    project: Path,
    folder: Path,
    method: dict[str, Any],
    *,
    cache: Path | None = None,
    on_row: Callable[[dict[str, float]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
    **groups: Any,
) -> Trained:
    """Train in `folder`; the weights, and what the training says of itself."""
    training = TRAINING | groups.pop("training", {})
    settings = parse_settings({"seed": 5, "method": method, "training": training, **groups})
    result = finetune(
        settings,
        TrainingData.load(project / "tokens", get_problem(settings.problem), settings.training.max_length),
        backbone_folder=project / "backbone",
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card={},
        on_row=on_row,
        on_start=lambda device, plan: None,
        cache=cache or folder / "cache",
        say=say,
    )
    return load_file(folder / "model" / "model.safetensors"), result


def stop_at(step: int) -> Callable[[dict[str, float]], None]:
    """What interrupts a training once this step is recorded."""

    def row(values: dict[str, float]) -> None:
        if values["step"] == step:
            raise KeyboardInterrupt

    return row

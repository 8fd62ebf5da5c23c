"""Chain-of-Density small enough to train in seconds: a language model of two layers, from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.finetune import TrainingData, finetune
from catena.training.tokenizer import learn_tokenizer
from catena.training.tokens import write_tokens

SEASONS = {
    "warm": ["sun", "beach", "heat", "热", "summer", "sand"],
    "cold": ["snow", "ice", "frost", "冷", "winter", "coat"],
}
TOKENIZATION = {"tokenizer": "bpe", "vocabulary_size": 330, "max_length": 24}
PARAMS: dict[str, Any] = {
    "seed": 5,
    "tokenization": TOKENIZATION,
    "backbone": {
        "name": "own",
        "type": "transformer",
        "hidden_size": 32,
        "layers": 2,
        "heads": 2,
        "intermediate_size": 64,
    },
    "method": {
        "name": "density",
        "density": {"soft_tokens": 1, "soft_tokens_rate": 1.0, "objective": "generative"},
    },
    "training": {
        "epochs": 16,
        "metric": "log_loss",
        "batch_size": 16,
        "learning_rate": 0.01,
        "dropout": 0.1,
        "weight_averaging": 0.5,
        "device": "cpu",
        "precision": "float32",
    },
}


def texts(count: int, seed: int) -> tuple[list[str], list[int]]:
    random = np.random.default_rng(seed)
    labels = [row % 2 for row in range(count)]
    words = list(SEASONS.values())
    return [" ".join(random.choice(words[label], random.integers(2, 5))) for label in labels], labels


def write_seasons(folder: Path) -> Path:
    """Tokens of training and validation texts in `folder`, with their tokenizer."""
    settings = parse_settings({"tokenization": TOKENIZATION, "backbone": PARAMS["backbone"]}).tokenization
    tokenizer = learn_tokenizer(texts(96, 1)[0], settings)
    for part, count, seed in (("train", 96, 1), ("validation", 40, 2)):
        some, labels = texts(count, seed)
        write_tokens(
            folder / f"{part}.arrow", [{"input_ids": tokenizer(some)["input_ids"], "labels": labels}]
        )
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "statistics.json").write_text(json.dumps({"label_names": ["warm", "cold"]}), encoding="utf-8")
    return folder


def train(tokens: Path, folder: Path, *, stop_at: int = 0, **groups: Any) -> Path:
    """Train, or interrupt it after step `stop_at`; the model folder. `groups` replace groups of settings."""
    every_step = {**PARAMS["training"], "checkpoint_seconds": 0}
    settings = parse_settings({**PARAMS, **({"training": every_step} if stop_at else groups)})

    def row(values: dict[str, float]) -> None:
        if stop_at and values["step"] == stop_at:
            raise KeyboardInterrupt

    card = {
        "problem": settings.problem.model_dump(),
        "label_names": ["warm", "cold"],
        "backbone": settings.backbone.model_dump(),
        "method": settings.method.model_dump(),
        "tokenization": settings.tokenization.model_dump(),
        "cleaning": {},
        "columns": {"text": "text", "label": "label"},
        "fingerprint": "0" * 64,
    }
    finetune(
        settings,
        TrainingData.load(tokens, get_problem(settings.problem)),
        backbone_folder=folder / "unused",
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card=card,
        on_row=row,
        on_start=lambda device, plan: None,
    )
    return folder / "model"

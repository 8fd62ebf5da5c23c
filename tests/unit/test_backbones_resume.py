"""A network made from scratch, interrupted and trained on, ends in the same weights bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catena.files import sha256_file
from catena.problems import get_problem
from catena.settings import TokenizationSettings, parse_settings
from catena.training.finetune import TrainingData, finetune
from catena.training.tokenizer import learn_tokenizer
from catena.training.tokens import write_tokens

NETWORKS: dict[str, dict[str, Any]] = {
    "transformer": {"hidden_size": 16, "heads": 2, "intermediate_size": 32, "pooling": "mean"},
    "recurrent": {"hidden_size": 8, "embedding_size": 8, "layers": 2},
    "convolutional": {"embedding_size": 8, "filters": 8},
}
TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.01,
    "dropout": 0.3,
    "weight_averaging": 0.9,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random titles of twenty Chinese characters' vocabulary; the class is whether 涨 is in it."""
    folder = tmp_path_factory.mktemp("tokens")
    random = np.random.default_rng(1)
    alphabet = list("股市银行利率基金球队夺冠联赛进教练涨")
    titles = ["".join(random.choice(alphabet, random.integers(3, 15))) for _ in range(90)]
    settings = TokenizationSettings(tokenizer="characters", max_length=20)
    tokenizer = learn_tokenizer(titles, settings)
    for part, some in (("train", titles[:60]), ("validation", titles[60:])):
        features = {
            "input_ids": tokenizer(some)["input_ids"],
            "labels": [int("涨" in title) for title in some],
        }
        write_tokens(folder / f"{part}.arrow", [features])
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "statistics.json").write_text(json.dumps({"label_names": ["跌", "涨"]}), encoding="utf-8")
    return folder


def train(tokens: Path, folder: Path, kind: str, *, stop_at: int = 0, seed: int = 5) -> str:
    """Train, or interrupt it after step `stop_at`; the SHA-256 of the weights."""
    settings = parse_settings(
        {
            "seed": seed,
            "tokenization": {"tokenizer": "characters", "max_length": 20},
            "backbone": {"name": "own", "type": kind, **NETWORKS[kind]},
            "training": TRAINING,
        }
    )

    def row(values: dict[str, float]) -> None:
        if stop_at and values["step"] == stop_at:
            raise KeyboardInterrupt

    finetune(
        settings,
        TrainingData.load(tokens, get_problem(settings.problem)),
        backbone_folder=folder / "unused",
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card={},
        on_row=row,
        on_start=lambda device, plan: None,
    )
    return sha256_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("kind", NETWORKS)
def test_interrupted_and_resumed_the_weights_are_those_of_an_undisturbed_training(
    kind: str, tokens: Path, tmp_path: Path
) -> None:
    calm = train(tokens, tmp_path / "calm", kind)
    with pytest.raises(KeyboardInterrupt):
        train(tokens, tmp_path / "broken", kind, stop_at=5)
    assert list((tmp_path / "broken" / "checkpoints").glob("step-*")), "there is nothing to resume from"
    assert train(tokens, tmp_path / "broken", kind) == calm
    assert train(tokens, tmp_path / "other", kind, seed=6) != calm

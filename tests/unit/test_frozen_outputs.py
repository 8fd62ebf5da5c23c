"""What frozen layers say is kept on disk, and a training that begins with it ends in the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from catena.backbones import get_backbone
from catena.errors import SettingsError, StorageError
from catena.files import sha256_file
from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.batches import plan_inference
from catena.training.finetune import Result, TrainingData, finetune
from catena.training.tokens import write_tokens
from tests.tiny_language_model import write_language_backbone
from tests.tiny_project import write_backbone

TRAINING = {
    "epochs": 3,
    "batch_size": 8,
    "batch_tokens": 256,
    "learning_rate": 0.01,
    "dropout": 0.2,
    "evaluations_per_epoch": 1,
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of two layers, and random records whose class is their largest token's."""
    folder = tmp_path_factory.mktemp("project")
    write_backbone(folder / "backbone")
    random = np.random.default_rng(1)
    for part, number in (("train", 70), ("validation", 20)):
        ids = [[2, *random.integers(5, 60, random.integers(2, 20)).tolist(), 3] for _ in range(number)]
        write_tokens(
            folder / "tokens" / f"{part}.arrow", [{"input_ids": ids, "labels": [max(r) % 3 for r in ids]}]
        )
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
) -> tuple[dict[str, torch.Tensor], Result]:
    """Train the top layers in `folder`; the weights and what the training says of itself."""
    training = TRAINING | groups.pop("training", {})
    settings = parse_settings(
        {"seed": 5, "method": {"name": "top_layers"} | method, "training": training, **groups}
    )
    result = finetune(
        settings,
        TrainingData.load(project / "tokens", get_problem(settings.problem)),
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


def assert_same(
    one: tuple[dict[str, torch.Tensor], Result], other: tuple[dict[str, torch.Tensor], Result]
) -> None:
    """Equal within what adding floats in another order explains, weights and training curve."""
    torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-5)
    assert len(one[1].curve) == len(other[1].curve) > 0
    for ours, theirs in zip(one[1].curve, other[1].curve, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "native"])
@pytest.mark.parametrize("layers", [0, 1])
def test_a_training_with_kept_outputs_ends_in_the_same_weights(
    layers: int, pooling: str, project: Path, tmp_path: Path
) -> None:
    """Dropout is on, so this also holds only because the frozen layers run without it either way."""
    backbone = {"name": "tiny", "pooling": pooling}
    plain = train(project, tmp_path / "plain", {"layers": layers}, backbone=backbone)
    said: list[str] = []
    kept = train(
        project, tmp_path / "kept", {"layers": layers, "cache": True}, backbone=backbone, say=said.append
    )
    assert_same(kept, plain)
    assert [line.split(":")[0] for line in said] == [
        "keeping what the frozen layers say of the train part",
        "keeping what the frozen layers say of the validation part",
    ]
    start = train(project, tmp_path / "s", {"layers": layers}, backbone=backbone, training={"max_steps": 1})
    assert any((start[0][name] - weight).abs().max() > 0.01 for name, weight in plain[0].items())
    size = sum(path.stat().st_size for path in (tmp_path / "kept" / "cache").glob("*.arrow"))
    # 24 values of 4 bytes for each of about 90 × 12 tokens, or for each of 90 records
    assert (90 * 9 * 96 < size < 90 * 16 * 96) if layers else (90 * 96 < size < 90 * 96 + 12_000)

"""Continued pretraining of a chain's backbone: it learns to say the texts, masked or token by token."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from catena.backbones import get_backbone
from catena.problems import get_problem
from catena.settings import Settings, parse_settings
from catena.training.chain_pretraining import _language_model, pretrained_body
from catena.training.devices import choose_device
from catena.training.finetune import TrainingData
from catena.training.tokens import write_tokens
from tests.tiny_language_model import write_language_backbone
from tests.tiny_project import write_backbone

STEPS = 300
#: Tokens that follow from those before and after: each is one more than the last.
ROWS = [list(range(5 + at % 6, 17 + at % 6)) for at in range(40)]


def settings(objective: str, steps: int) -> Settings:
    tail = {"data": {"train": "t.csv"}}
    pretraining = {"steps": steps, "objective": objective, "learning_rate": 0.01, "masked_share": 0.2}
    return parse_settings(
        {
            "seed": 3,
            "data": {"name": "pair"},
            "problem": {"tails": {"topics": tail, "others": tail}},
            "tokenization": {"max_length": 32},
            "backbone": {"name": "tiny", "source": "folder:backbone"},
            "method": {"name": "chain", "chain": {"pretraining": pretraining}},
            "training": {"batch_size": 8, "batch_tokens": 256, "device": "cpu", "precision": "float32"},
        }
    )


def texts(folder: Path) -> dict[str, TrainingData]:
    folder.mkdir()
    for part in ("train", "validation"):
        write_tokens(folder / f"{part}.arrow", [{"input_ids": ROWS, "labels": [0] * len(ROWS)}])
    (folder / "statistics.json").write_text(json.dumps({"label_names": ["a"]}))
    return {"topics": TrainingData.load(folder, get_problem("classification"))}


def pretrained(backbone: Path, objective: str, steps: int, place: Path) -> tuple[Any, Any]:
    """The body after so many steps, and the one of the backbone."""
    kind = get_backbone("pretrained")
    tokenizer = kind.tokenizer(backbone)
    chosen = settings(objective, steps)

    def body() -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(backbone)

    moved = body()
    device = choose_device("cpu", "float32")
    data = texts(place / "tokens")
    pretrained_body(chosen, moved, data, backbone, place / "checkpoints", device, tokenizer)
    return moved, body()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "backbone"
    write_backbone(folder)
    return folder


def loss(printed: str) -> float:
    return float(re.findall(r"loss=([\d.]+)", printed)[-1])


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_an_encoder_learns_to_say_the_texts(
    objective: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, before = pretrained(encoder, objective, STEPS, tmp_path)
    printed = capsys.readouterr().out
    assert "without its language-model head, so one is made up" in printed
    # who only knows how often each token occurs cannot be below their entropy
    _, counts = np.unique(np.concatenate(ROWS), return_counts=True)
    shares = counts / counts.sum()
    assert loss(printed) < 0.75 * -(shares * np.log(shares)).sum()
    kept = load_file(tmp_path / "checkpoints/pretraining/finished/model.safetensors")
    state = moved.state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert any(not torch.equal(state[name], value) for name, value in before.state_dict().items())
    assert state.keys() == before.state_dict().keys()


def test_an_encoder_that_says_the_next_token_does_not_see_it(encoder: Path) -> None:
    tokenizer = get_backbone("pretrained").tokenizer(encoder)
    network = _language_model(
        settings("causal", 1), encoder, choose_device("cpu", "float32"), tokenizer
    ).eval()
    one, other = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 20]])
    said = [network(input_ids=ids).logits[0] for ids in (one, other)]
    torch.testing.assert_close(said[0][:3], said[1][:3])
    assert not torch.allclose(said[0][3], said[1][3])


def test_a_language_model_goes_on_with_its_own_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_language_backbone(tmp_path / "backbone")
    pretrained(tmp_path / "backbone", "auto", 2, tmp_path)
    assert "made up" not in capsys.readouterr().out

"""Backbones that are stored in a shorter type than the one that weights learn in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from catena.backbones import get_backbone
from catena.backbones.base import Backbone
from catena.methods import HeadRequest
from tests.tiny_language_model import write_language_backbone

HEADS = {
    "tokens": (HeadRequest("token-classification", ("O", "B-X", "I-X")), "native"),
    "texts": (HeadRequest("sequence-classification", ("bad", "good")), "native"),
    "texts, mean": (HeadRequest("sequence-classification", ("bad", "good")), "mean"),
    "pairs": (HeadRequest("pair-embedding", ()), "native"),
    "next tokens": (HeadRequest("causal-language-model", ()), "native"),
}


@pytest.fixture(scope="module", params=[torch.float16, torch.bfloat16], ids=str)
def short(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder: Path = tmp_path_factory.mktemp("short")
    write_language_backbone(folder)
    network = AutoModelForCausalLM.from_pretrained(folder).to(request.param)
    network.save_pretrained(folder)
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == request.param
    return folder


@pytest.mark.parametrize("asked", [*HEADS])
def test_weights_learn_in_float32_and_are_stored_in_it(short: Path, tmp_path: Path, asked: str) -> None:
    head, pooling = HEADS[asked]
    source: Backbone = get_backbone("pretrained")
    torch.manual_seed(0)
    network: Any = source.build(short, head, dropout=None, attention="eager", pooling=pooling)
    assert types(network) == {torch.float32}
    network.save_pretrained(tmp_path)
    stored: Any = source.load(tmp_path, head, attention="eager")
    assert types(stored) == {torch.float32}
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, stored.state_dict()[name]), name


def types(network: torch.nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in network.parameters()}

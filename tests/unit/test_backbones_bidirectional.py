"""Causal networks whose tokens see those after them as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from catena.backbones import get_backbone
from catena.backbones.base import Blueprint
from catena.errors import ModelError, SettingsError
from catena.methods import HeadRequest
from catena.settings import BackboneSettings, parse_settings
from tests.tiny_language_model import write_language_backbone
from tests.tiny_project import write_backbone

TAGS = HeadRequest("token-classification", ("O", "B-X", "I-X"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("causal")
    write_language_backbone(folder)
    return folder


def build(
    folder: Path, bidirectional: bool | None, head: HeadRequest = TAGS, attention: str = "eager"
) -> Any:
    settings = BackboneSettings(bidirectional=bidirectional)
    torch.manual_seed(0)
    return (
        get_backbone("pretrained")
        .build(folder, head, dropout=0.0, attention=attention, blueprint=Blueprint(settings))
        .eval()
    )


def first_token(network: torch.nn.Module, last: int, padding: int = 0) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8, last, *[0] * padding]])
    mask = torch.tensor([[1] * 5 + [0] * padding])
    with torch.inference_mode():
        return network(input_ids=ids, attention_mask=mask).logits[0, 0]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_token_sees_later_ones_only_where_that_is_asked_for(causal: Path, attention: str) -> None:
    plain, both = (build(causal, asked, attention=attention) for asked in (None, True))
    assert torch.equal(first_token(plain, 9), first_token(plain, 10))
    assert not torch.allclose(first_token(both, 9), first_token(both, 10), atol=1e-6)
    assert torch.allclose(first_token(both, 9), first_token(both, 9, padding=3), atol=1e-5)


def test_what_is_stored_reads_as_before(causal: Path, tmp_path: Path) -> None:
    network = build(causal, True)
    network.save_pretrained(tmp_path)
    loaded = get_backbone("pretrained").load(tmp_path, TAGS, attention="eager")
    assert torch.equal(first_token(loaded, 9), first_token(network, 9))


@pytest.mark.parametrize("kind", ["language-model", "causal-language-model"])
def test_a_network_that_says_what_comes_next_must_not_see_it(causal: Path, kind: str) -> None:
    with pytest.raises(ModelError, match="see the next ones, and here the network is asked what comes next"):
        build(causal, True, HeadRequest(kind, ()))


def test_an_encoder_has_nothing_to_change(tmp_path: Path) -> None:
    write_backbone(tmp_path)
    with pytest.raises(ModelError, match=r"\(bert\) is no causal language model, so .* changes nothing"):
        build(tmp_path, True)


def test_other_kinds_of_networks_have_no_such_setting() -> None:
    with pytest.raises(SettingsError, match=r"`bidirectional` is a size of recurrent, and `type` is convol"):
        parse_settings({"backbone": {"name": "x", "type": "convolutional", "bidirectional": True}})

"""Causal networks whose tokens see those after them as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catena.backbones import get_backbone
from catena.backbones.base import Blueprint
from catena.errors import ModelError, SettingsError
from catena.layout import Layout
from catena.methods import HeadRequest
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import BackboneSettings, parse_settings
from catena.training.finetune import TrainingData, finetune
from catena.training.starting import check_start
from catena.training.tokens import write_tokens
from tests.tiny_language_model import tiny_tokenizer, write_language_backbone
from tests.tiny_project import write_backbone

TAGS = HeadRequest("token-classification", ("O", "B-X", "I-X"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("causal")
    write_language_backbone(folder)
    return folder


def build(
    folder: Path, bidirectional: bool | int | None, head: HeadRequest = TAGS, attention: str = "eager"
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


def states(network: Any, last: int) -> tuple[torch.Tensor, ...]:
    """What the first token is after the embedding and after each layer."""
    ids = torch.tensor([[5, 6, 7, 8, last]])
    with torch.inference_mode():
        read = network.base_model(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
        )
    return tuple(layer[0, 0] for layer in read.hidden_states)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_layers_below_those_asked_for_read_forwards(causal: Path, attention: str) -> None:
    network = build(causal, 1, attention=attention)
    assert network.config.num_hidden_layers == 2
    first, second = (states(network, last) for last in (9, 10))
    assert [torch.equal(one, other) for one, other in zip(first, second, strict=True)] == [True, True, False]
    assert torch.allclose(first_token(network, 9), first_token(network, 9, padding=3), atol=1e-5)


def test_more_layers_than_there_are_cannot_be_asked_for(causal: Path) -> None:
    with pytest.raises(ModelError, match="asks for 3 layers, and the network has 2"):
        build(causal, 3)


@pytest.mark.parametrize("given", [{"keep_layers": [1, 2]}, {"type": "recurrent"}, {"bidirectional": 0}])
def test_a_number_of_layers_is_for_whole_pretrained_networks(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="bidirectional"):
        parse_settings({"backbone": {"name": "x", "bidirectional": 1, **given}})


@pytest.mark.parametrize("asked", [True, 1])
def test_what_is_stored_reads_as_before(causal: Path, tmp_path: Path, asked: bool | int) -> None:
    network = build(causal, asked)
    network.save_pretrained(tmp_path)
    loaded = get_backbone("pretrained").load(tmp_path, TAGS, attention="eager")
    assert torch.equal(first_token(loaded, 9), first_token(network, 9))
    assert not torch.equal(first_token(loaded, 9), first_token(loaded, 10))


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


def test_networks_that_can_only_read_forwards_are_told_apart(tmp_path: Path) -> None:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    tokenizer = tiny_tokenizer()
    config = GPTNeoConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_layers=2, num_heads=2, max_position_embeddings=64,
        attention_types=[[["global"], 2]], pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    GPTNeoForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"\(gpt_neo\) can only read forwards"):
        build(tmp_path, True)


def test_an_adapter_reads_as_it_learned_to(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    layout = Layout(tmp_path)
    write_language_backbone(layout.backbone("tiny"))
    settings = parse_settings(
        {
            "backbone": {"name": "tiny", "source": "folder:x", "bidirectional": True},
            "method": {"name": "lora", "store": "adapter", "peft": {"rank": 2}},
            "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
        }
    )
    random = np.random.default_rng(1)
    for part, count in (("train", 24), ("validation", 9)):
        ids = [random.integers(5, 60, 6).tolist() for _ in range(count)]
        features = {"input_ids": ids, "labels": [row % 3 for row in range(count)]}
        write_tokens(layout.tokenized / f"{part}.arrow", [features])
    tokenizer = get_backbone("pretrained").tokenizer(layout.backbone("tiny"))
    tokenizer.save_pretrained(layout.tokenized / "tokenizer")
    (layout.tokenized / "statistics.json").write_text(json.dumps({"label_names": ["a", "b", "c"]}))
    groups = ("problem", "backbone", "method", "tokenization")
    card = {name: getattr(settings, name).model_dump() for name in groups}
    finetune(
        settings,
        TrainingData.load(layout.tokenized, get_problem(settings.problem)),
        backbone_folder=layout.backbone("tiny"),
        checkpoints=tmp_path / "checkpoints",
        target=layout.candidate,
        card={
            **card, "label_names": ["a", "b", "c"], "cleaning": {}, "fingerprint": "f" * 16,
            "columns": {"text": "text", "label": "label"},
        },
        on_row=lambda row: None,
        on_start=lambda device, plan: None,
    )  # fmt: skip
    loaded = Predictor.load(layout.candidate, device="cpu", precision="float32").model
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    with torch.inference_mode():
        first = loaded.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    assert not torch.allclose(first[0], first[1], atol=1e-6)


@pytest.mark.parametrize(
    ("learned", "asked", "told"), [(True, None, "true"), (2, True, "2"), (None, 1, "false"), (1, True, "1")]
)
def test_a_start_that_reads_in_another_way_is_refused(
    tmp_path: Path, learned: bool | int | None, asked: bool | int | None, told: str
) -> None:
    card = {
        "method": {"name": "full"}, "problem": {"name": "classification"}, "label_names": ["a", "b"],
        "backbone": BackboneSettings(bidirectional=learned).model_dump(),
    }  # fmt: skip
    settings = parse_settings({"backbone": {"name": "x", "bidirectional": asked}})
    problem = get_problem(settings.problem)
    with pytest.raises(SettingsError, match=f"trained with `backbone.bidirectional: {told}`; set it to that"):
        check_start(card, settings, problem, ("a", "b"), tmp_path)

"""Rates that fall from layer to layer, and layers that join a training one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from catena.backbones import Blueprint, get_backbone
from catena.errors import CatenaError, SettingsError
from catena.files import sha256_file
from catena.methods import Surroundings, get_method
from catena.methods.depth import layers, levels
from catena.methods.gradual import step_after
from catena.problems import HeadSpec
from catena.settings import BackboneSettings, MethodSettings, TrainingSettings, parse_settings
from catena.settings.peft import _READERS, PeftSettings
from catena.training.optimizers import build_optimizer
from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_training import stop_at, train, write_training

HEAD = HeadSpec("sequence-classification", ("bad", "good"))
AROUND = Surroundings("classification", HEAD)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training(tmp_path_factory.mktemp("project"))


def build(project: Path, head: HeadSpec = HEAD) -> PreTrainedModel:
    torch.manual_seed(0)
    return get_backbone("pretrained").build(project / "backbone", head, dropout=0.0, attention="eager")


def prepared(model: PreTrainedModel, **settings: Any) -> tuple[PreTrainedModel, Any]:
    method = get_method(MethodSettings.model_validate(settings))
    return method.prepare(model, AROUND), method


def rates(model: PreTrainedModel, method: Any) -> dict[str, float]:
    """The learning rate of each weight that moves, where the whole one is 1."""
    settings = TrainingSettings(learning_rate=1.0)
    optimizer = build_optimizer(model, settings, method.learning_rates(model))
    rate = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    return {name: rate[id(weight)] for name, weight in model.named_parameters() if id(weight) in rate}


# -- layer decay -----------------------------------------------------------------------------------


def test_rates_fall_from_the_head_to_the_embeddings(project: Path) -> None:
    """Of two layers and decay ½: head 1, layers ½ and ¼, embeddings ⅛ (Howard and Ruder 2018)."""
    found = rates(*prepared(build(project), name="full", layer_decay=0.5))
    expected = {"classifier": 1.0, "pooler": 1.0, "layer.1.": 0.5, "layer.0.": 0.25, "embeddings": 0.125}
    assert len(found) == len(list(build(project).parameters()))
    for name, rate in found.items():
        assert rate == expected[next(part for part in expected if part in name)], name


def test_without_decay_all_weights_have_one_rate(project: Path) -> None:
    assert set(rates(*prepared(build(project), name="full")).values()) == {1.0}


def test_top_layers_has_rates_for_what_moves(project: Path) -> None:
    found = rates(*prepared(build(project), name="top_layers", layers=1, layer_decay=0.1))
    assert {name.split(".")[0]: rate for name, rate in found.items() if "layer.1" not in name} == {
        "classifier": 1.0,
        "bert": 1.0,  # the pooler
    }
    assert {rate for name, rate in found.items() if "layer.1" in name} == {0.1}


def test_both_sides_of_an_encoder_decoder_are_counted_from_their_own_top() -> None:
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    sizes = {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "encoder_layers": 3, "decoder_layers": 2}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "vocab_size": 30, "d_model": 8}
    model = M2M100ForConditionalGeneration(M2M100Config(**sizes, **heads, max_position_embeddings=16))
    found = rates(*prepared(model, name="full", layer_decay=0.5))
    # the output's matrix is that of the embeddings, so the highest level is the top layers
    expected = {
        "encoder.layers.2.": 1.0, "encoder.layer_norm": 1.0,
        "decoder.layers.1.": 1.0, "decoder.layer_norm": 1.0,
        "encoder.layers.1.": 0.5, "decoder.layers.0.": 0.5, "encoder.layers.0.": 0.25, "shared": 0.125,
    }  # fmt: skip
    for name, rate in found.items():
        assert rate == expected[next(part for part in expected if part in name)], name


def test_two_towers_without_a_head_begin_with_their_top_layer(project: Path) -> None:
    found = rates(*prepared(build(project, HeadSpec("pair-embedding", ("r",))), name="full", layer_decay=0.5))
    assert {rate for name, rate in found.items() if "layer.1." in name} == {1.0}
    assert {rate for name, rate in found.items() if "embeddings" in name} == {0.25}


def test_the_norm_after_the_last_layer_belongs_to_it() -> None:
    model = tiny_network(tiny_tokenizer(), "llama")
    head, top, low, embeddings = levels(model)
    assert head == ["lm_head.weight"] and embeddings == ["model.embed_tokens.weight"]
    assert "model.norm.weight" in top and all("layers.0." in name for name in low)


def test_a_stage_of_blocks_is_one_layer() -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 3], layer_type="basic")
    assert len(layers(ResNetForImageClassification(config))) == 2


@pytest.mark.parametrize("settings", [{"name": "full", "layer_decay": 0.9}, {"name": "gradual"}])
def test_a_network_whose_layers_stand_side_by_side_is_refused(settings: dict[str, Any]) -> None:
    sizes = BackboneSettings.model_validate(
        {"name": "own", "type": "convolutional", "embedding_size": 8, "filters": 4}
    )
    model = get_backbone("convolutional").build(
        Path(), HEAD, dropout=0.0, attention="eager", blueprint=Blueprint(sizes, 30, 0, 16)
    )
    with pytest.raises(SettingsError, match="has no layers one above the other"):
        prepared(model, **settings)


@pytest.mark.parametrize("decay", [0.0, 1.1, -1])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(CatenaError, match="layer_decay"):
        parse_settings({"method": {"layer_decay": decay}})


# -- frozen parts ------------------------------------------------------------------------------------


def test_frozen_layers_run_without_dropout_and_moving_ones_with_it(project: Path) -> None:
    model, method = prepared(build(project), name="top_layers", layers=1)
    model.train()
    method.rest(model)
    body = model.base_model
    assert not any(module.training for module in body.embeddings.modules())
    assert not any(module.training for module in body.encoder.layer[0].modules())
    assert all(module.training for module in body.encoder.layer[1].modules())
    assert model.classifier.training and model.dropout.training and body.pooler.training


# -- gradual ---------------------------------------------------------------------------------------


def moved_at(model: PreTrainedModel, method: Any, steps: int, ends: list[int]) -> dict[str, int]:
    """The first step at which each weight differs from what it was, under AdamW with weight decay."""
    settings = TrainingSettings(learning_rate=0.01, weight_decay=0.5)
    optimizer = build_optimizer(model, settings, method.learning_rates(model))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ids = torch.randint(5, 60, (4, 8), generator=torch.Generator().manual_seed(0))
    first: dict[str, int] = {}
    method.begin(model, steps, ends)
    for step in range(steps):
        method.before_step(model, step, steps)
        model.train()
        method.rest(model)
        logits = model(input_ids=ids).logits
        torch.nn.functional.cross_entropy(logits, torch.arange(4) % 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        for name, weight in model.named_parameters():
            if name not in first and not torch.equal(weight, before[name]):
                first[name] = step
    return first


@pytest.mark.parametrize(
    ("gradual", "expected"),
    [
        ({}, {"classifier": 0, "pooler": 0, "layer.1.": 3, "layer.0.": 6, "embeddings": None}),
        (
            {"at": [1, 1, 4], "unit": "steps"},
            {"classifier": 0, "pooler": 0, "layer.1.": 1, "layer.0.": 1, "embeddings": 4},
        ),
        ({"at": [0.67, 2]}, {"classifier": 0, "pooler": 0, "layer.1.": 2, "layer.0.": 6, "embeddings": None}),
    ],
)
def test_layers_join_when_they_are_to_and_nothing_moves_them_before(
    gradual: dict[str, Any], expected: dict[str, int | None], project: Path
) -> None:
    model, method = prepared(build(project), name="gradual", gradual=gradual)
    found = moved_at(model, method, 8, [3, 6, 8])
    # a softmax does not change when a number is added to all scores, so this bias has no gradient
    for name in {name for name, _ in model.named_parameters()}:
        if not name.endswith("key.bias"):
            assert found.get(name) == expected[next(part for part in expected if part in name)], name


def test_a_step_resumed_at_finds_the_layers_that_have_joined(project: Path) -> None:
    model, method = prepared(build(project), name="gradual")
    method.begin(model, 9, [3, 6, 9])
    method.before_step(model, 5, 9)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("layer.1." in name for name in moving) and not any("layer.0." in name for name in moving)


def test_epochs_are_found_in_steps() -> None:
    assert [step_after(epochs, [4, 8, 10]) for epochs in (0, 0.5, 1, 1.75, 2.5, 3, 9)] == [
        0,
        2,
        4,
        7,
        9,
        10,
        10,
    ]


GRADUAL = {"name": "gradual", "gradual": {"at": [3, 6, 8], "unit": "steps"}, "layer_decay": 0.7}


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_gradual_training_interrupted_at_any_stage_ends_in_the_same_weights_bit_for_bit(
    averaging: float, project: Path, tmp_path: Path
) -> None:
    every = {"checkpoint_seconds": 0, "weight_averaging": averaging}
    train(project, tmp_path / "calm", GRADUAL, training=every)
    for step in (2, 4, 9):
        with pytest.raises(KeyboardInterrupt):
            train(project, tmp_path / "broken", GRADUAL, training=every, on_row=stop_at(step))
    train(project, tmp_path / "broken", GRADUAL, training=every)
    calm, broken = (
        sha256_file(tmp_path / name / "model" / "model.safetensors") for name in ("calm", "broken")
    )
    assert calm == broken


def test_the_best_weights_are_stored_whole_although_layers_joined_after_them(
    project: Path, tmp_path: Path
) -> None:
    """Accuracy never rises above the first, so low is the rate, and what joined later must be undone."""
    slow = {"learning_rate": 1e-5, "schedule": "constant", "warmup_ratio": 0.0, "evaluations_per_epoch": 5}
    method = {"name": "gradual", "gradual": {"at": [4], "unit": "steps"}}
    weights, result = train(project, tmp_path, method, training=slow | {"metric": "accuracy"})
    assert result.best_step <= 4 < result.steps
    backbone = load_file(project / "backbone" / "model.safetensors")
    below = {name: weight for name, weight in weights.items() if "encoder.layer" in name}
    assert len(below) == 32
    for name, weight in below.items():
        assert torch.equal(weight, backbone[name.removeprefix("bert.")]), name


@pytest.mark.parametrize(
    ("gradual", "message"),
    [
        ({"at": [1, 2, 3, 4]}, "says when 4 levels join, but below the highest this network has only 3"),
        (
            {"at": [1, 2]},
            r"lets the last level join after 2 epochs, but training ends after 2 epochs \(10 st",
        ),
        ({"at": [10], "unit": "steps"}, "lets the last level join after 10 steps, but training ends"),
        ({"at": [2, 1]}, "must not fall"),
        ({"at": []}, "at least 1"),
        ({"at": [-1]}, "greater than or equal to 0"),
        ({"unit": "steps"}, "needs `at`"),
    ],
)
def test_a_timetable_that_does_not_fit_is_refused_before_any_training(
    gradual: dict[str, Any], message: str, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(CatenaError, match=message):
        train(project, tmp_path, {"name": "gradual", "gradual": gradual}, on_row=stop_at(1))


def test_settings_of_another_method_are_named() -> None:
    given = {"peft": {"rank": 4}, "layers": 2, "density": {"adapt": "lora", "template": "Topic: {label}\n"}}

    def unread(name: str) -> list[str]:
        return MethodSettings.model_validate({"name": name, **given}).unread

    assert unread("full") == unread("bitfit") == ["layers", "density", "peft"]
    assert unread("lora") == ["layers", "density"]
    assert unread("density") == ["layers"]  # which is adapted by LoRA
    assert unread("prefix_tuning") == ["layers", "density", "peft.rank"]
    assert MethodSettings().unread == []


@pytest.mark.parametrize(
    ("given", "unread"),
    [
        ({"name": "lora", "peft": {"rank": 4, "virtual_tokens": 9, "interval": 3}},
         ["peft.interval", "peft.virtual_tokens"]),
        ({"name": "adalora", "peft": {"rank": 4, "interval": 3, "bottleneck": 8}}, ["peft.bottleneck"]),
        ({"name": "density", "density": {"objective": "generative", "generative_weight": 0.3,
          "soft_tokens_rate": 2.0}}, ["density.generative_weight", "density.soft_tokens_rate"]),
        ({"name": "full", "distillation": {"weight": 0.3}, "compression": {"records": 9}},
         ["distillation.weight", "compression.records"]),
        ({"name": "full", "compression": {"prune_layers": 1, "head_importance": "magnitude",
          "choose_layers": "top", "records": 9}}, ["compression.head_importance", "compression.records"]),
        ({"name": "full", "compression": {"prune_heads": 0.2, "records": 9}}, []),
        ({"name": "chain", "chain": {"sampling": "uniform", "temperature": 3.0, "uncertainty_rate": 5.0,
          "replay": 0.5, "pretraining": {"objective": "masked"}}},
         ["chain.temperature", "chain.uncertainty_rate", "chain.replay", "chain.pretraining.objective"]),
        ({"name": "chain", "chain": {"pretraining": {
            "steps": 5, "objective": "causal", "masked_share": 0.2}}},
         ["chain.pretraining.masked_share"]),
        ({"name": "prompt", "prompt": {"template": {"pattern": "{text} {label}"}, "pool": 9,
          "choice": "random", "masks": "first", "content_free": ["x"]}},
         ["prompt.choice", "prompt.pool", "prompt.content_free", "prompt.masks"]),
        ({"name": "prompt", "prompt": {"template": {"pattern": "{text} {mask}"}, "shots": 2, "pool": 9,
          "choice": "similar", "masks": "first", "calibration": "contextual", "content_free": ["x"]}}, []),
        ({"name": "prompt", "prompt": {"template": {"pattern": "{text} {label}"}, "shots": 2, "pool": 9,
          "similarity": "tfidf"}}, ["prompt.similarity"]),
        ({"name": "density", "density": {"generative_weight": 0.0, "normalization": "text"}},
         ["density.normalization"]),
        ({"name": "top_layers", "cache_gigabytes": 2.0}, ["cache_gigabytes"]),
        ({"name": "top_layers", "cache": True, "cache_gigabytes": 2.0}, []),
    ],
)  # fmt: skip
def test_settings_that_others_make_void_are_named(given: dict[str, Any], unread: list[str]) -> None:
    assert MethodSettings.model_validate(given).unread == unread


def test_a_setting_is_read_by_the_methods_that_its_description_names() -> None:
    methods = {method for readers in _READERS.values() for method in readers}
    for name, field in PeftSettings.model_fields.items():
        named = methods & {*re.findall(r"`(\w+)`", field.description or "")}
        assert named == {*_READERS[name]}, name


@pytest.mark.parametrize("name", ["dora", "rank_stabilized"])
def test_what_is_loras_own_is_refused_by_others(name: str) -> None:
    for method in ({"name": "adalora"}, {"name": "density", "density": {"adapt": "ia3"}}):
        with pytest.raises(ValueError, match=f"`peft.{name}` says nothing to (adalora|ia3); it is for lora"):
            MethodSettings.model_validate({**method, "peft": {name: True}})
        MethodSettings.model_validate({"name": "lora", "peft": {name: True}})

"""Prompts through training, storage and prediction: measured once, stored whole, resumed bit for bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from catena.backbones import get_backbone
from catena.errors import ModelError, SettingsError
from catena.files import sha256_file
from catena.methods.base import HeadRequest
from catena.methods.prompt_network import label_of
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.problems.features import encode_texts
from catena.settings import Settings, parse_settings
from catena.training.finetune import Result, TrainingData, finetune, fingerprint
from catena.training.tokens import write_tokens
from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_project import write_backbone, write_records

TOPICS = ("grain", "money", "ship")
CLOZE = {
    "pattern": "{text} about {mask}",
    "verbalizer": {"grain": "wheat", "money": ["bank", "dollar"], "ship": "vessel"},
    "separator": " ",
}
CAUSAL = {
    "pattern": "{text}\nTopic: {label}",
    "verbalizer": {"grain": "grain", "money": "no money", "ship": "ship"},
}
TRAINING = {
    "epochs": 3,
    "batch_size": 8,
    "batch_tokens": 256,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with its head for masks."""
    import torch
    from transformers import AutoConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("masked")
    write_backbone(folder)
    torch.manual_seed(0)
    BertForMaskedLM(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 256
    tiny_network(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings(
    name: str, template: dict[str, Any], prompt: dict[str, Any] | None = None, **training: Any
) -> Settings:
    return parse_settings(
        {
            "seed": 5,
            "tokenization": {"max_length": 64},
            "method": {"name": name, "prompt": {"template": template, **(prompt or {})}},
            "training": TRAINING | training,
        }
    )


def tokens(folder: Path, backbone: Path, chosen: Settings, records: int = 60) -> TrainingData:
    """Topical records as the tokenize stage leaves them."""
    data = folder / "tokens"
    tokenizer = get_backbone("pretrained").tokenizer(backbone)
    for part, count, seed in (("train", records, 1), ("validation", 24, 2)):
        write_records(folder / f"{part}.csv", count, seed)
        with (folder / f"{part}.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        features = encode_texts([row["text"] for row in rows], tokenizer, chosen.tokenization)
        features["labels"] = [TOPICS.index(row["label"]) for row in rows]
        write_tokens(data / f"{part}.arrow", [features])
    tokenizer.save_pretrained(data / "tokenizer")
    (data / "statistics.json").write_text(json.dumps({"label_names": TOPICS, "max_length": 64}))
    return TrainingData.load(data, get_problem(chosen.problem))


def train(folder: Path, backbone: Path, chosen: Settings, stop_at: int = 0) -> Result:
    """Train into `folder`; with `stop_at` the process "dies" when that step has been recorded."""
    folder.mkdir(exist_ok=True)
    data = tokens(folder, backbone, chosen)

    def row(values: dict[str, float]) -> None:
        if stop_at and values["step"] == stop_at:
            raise KeyboardInterrupt

    card = {
        "problem": {"name": "classification"},
        "label_names": list(TOPICS),
        "backbone": {"name": "tiny", "type": "pretrained", "source": "folder:backbone"},
        "method": chosen.method.model_dump(),
        "tokenization": chosen.tokenization.model_dump(),
        "cleaning": {},
        "columns": {"text": "text", "label": "label"},
        "fingerprint": "0" * 16,
    }
    return finetune(
        chosen,
        data,
        backbone_folder=backbone,
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card=card,
        on_row=row,
        on_start=lambda device, plan: None,
    )


def accuracy(predictor: Predictor, file: Path) -> float:
    table = pd.read_csv(file)
    said = predictor.predict(table[["text"]])["prediction"]
    return float((said.to_numpy() == table["label"].to_numpy()).mean())


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"shots": 3, "choice": "similar", "similarity": "embedding", "calibration": "contextual"},
        {"shots": 2, "choice": "random", "normalization": "pmi", "chat": True},
    ],
    ids=["zero-shot", "similar, calibrated", "chat, pmi"],
)
def test_a_prompt_is_measured_once_and_stored_as_it_was_measured(
    prompt: dict[str, Any], causal: Path, tmp_path: Path
) -> None:
    chosen = settings("prompt", CAUSAL, prompt)
    result = train(tmp_path / "run", causal, chosen)
    assert (result.steps, result.best_step, result.trainable) == (0, 0, 0)
    (row,) = result.curve
    assert row["step"] == 0
    assert result.validation["accuracy"] == row["validation_accuracy"]
    assert result.notes["prompts"] != "0 prompts on the validation part"
    predictor = Predictor.load(tmp_path / "run" / "model", device="cpu", precision="float32")
    # the folder alone says the same: template, examples, vectors and calibration travel with it
    found = accuracy(predictor, tmp_path / "run" / "validation.csv")
    assert found == pytest.approx(result.validation["accuracy"])
    again = train(tmp_path / "again", causal, chosen)
    assert again.curve == result.curve
    name = "prompt.json"
    assert sha256_file(tmp_path / "again" / "model" / name) == sha256_file(tmp_path / "run" / "model" / name)


def test_pattern_learns_and_a_training_that_died_ends_in_the_same_weights(
    masked: Path, tmp_path: Path
) -> None:
    chosen = settings("pattern", CLOZE)
    calm = train(tmp_path / "calm", masked, chosen)
    for stop_at in (3, 11):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", masked, chosen, stop_at)
    resumed = train(tmp_path / "killed", masked, chosen)
    assert resumed.curve == calm.curve
    weights = [sha256_file(tmp_path / name / "model" / "model.safetensors") for name in ("calm", "killed")]
    assert weights[0] == weights[1]
    assert calm.validation["accuracy"] > 0.6  # one in three by chance
    predictor = Predictor.load(tmp_path / "calm" / "model", device="cpu", precision="float32")
    found = accuracy(predictor, tmp_path / "calm" / "validation.csv")
    assert found == pytest.approx(calm.validation["accuracy"])
    assert predictor.embed(["wheat and cargo"]).shape == (1, 24)


def test_pattern_moves_a_causal_model_too(causal: Path, tmp_path: Path) -> None:
    chosen = settings("pattern", CAUSAL, {"shots": 1}, max_steps=3, learning_rate=0.001)
    result = train(tmp_path / "run", causal, chosen)
    assert result.steps == 3
    assert result.trainable == result.weights
    assert np.isfinite(result.validation["log_loss"])


def test_what_the_template_says_is_part_of_the_fingerprint() -> None:
    one = settings("prompt", CAUSAL)
    other = settings("prompt", {**CAUSAL, "task": "Say the topic."})
    assert fingerprint(one, "data", "weights") != fingerprint(other, "data", "weights")


def test_weights_without_a_language_models_head_are_refused(tmp_path: Path) -> None:
    write_backbone(tmp_path)
    with pytest.raises(ModelError, match=r"have no language-model head .* would be noise"):
        get_backbone("pretrained").build(
            tmp_path, HeadRequest("language-model"), dropout=None, attention="eager"
        )


def test_a_causal_network_stored_without_its_head_does_not_write_either(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_network(tokenizer).base_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"have no language-model head \(lm_head.weight is not among them"):
        get_backbone("pretrained").build(
            tmp_path, HeadRequest("causal-language-model"), dropout=None, attention="eager"
        )


def test_a_transformer_from_scratch_fills_masks_once_it_is_trained_and_is_not_asked_before(
    tmp_path: Path,
) -> None:
    from catena.backbones import Blueprint
    from catena.errors import SettingsError
    from catena.methods import Surroundings, get_method
    from catena.problems import HeadSpec
    from catena.settings import BackboneSettings

    sizes = BackboneSettings(name="tiny", type="transformer", layers=1, hidden_size=16, heads=2)
    backbone = get_backbone("transformer")
    network = backbone.build(
        tmp_path,
        HeadRequest("language-model"),
        dropout=None,
        attention="eager",
        blueprint=Blueprint(sizes, 50, 0, 32),
    )
    assert type(network).__name__ == "BertForMaskedLM"
    around = Surroundings("classification", HeadSpec("sequence-classification", TOPICS), backbone=tmp_path)
    with pytest.raises(SettingsError, match="from scratch has learned nothing"):
        get_method(settings("prompt", CLOZE).method).prepare(network, around)


def test_a_network_that_fills_no_masks_is_refused_where_masks_are_wanted(causal: Path) -> None:
    with pytest.raises(ModelError, match="fills in no masks"):
        get_backbone("pretrained").build(
            causal, HeadRequest("masked-language-model"), dropout=None, attention="eager"
        )


def test_a_damaged_memory_is_said_in_one_sentence(causal: Path, tmp_path: Path) -> None:
    from catena.methods import Surroundings, get_method
    from catena.problems import HeadSpec

    (tmp_path / "prompt.json").write_text('{"examples": [{"slots": 3}], "domain": [], "bias": null}')
    method = get_method(settings("prompt", CAUSAL).method)
    with pytest.raises(ModelError, match=r"prompt\.json cannot be read"):
        method.load(
            tmp_path,
            lambda folder, head: get_backbone("pretrained").load(causal, head, attention="eager"),
            Surroundings("classification", HeadSpec("sequence-classification", TOPICS)),
        )


def test_of_a_pseudo_label_with_probabilities_an_example_shows_the_likeliest() -> None:
    assert label_of({"labels": np.array([0.1, 0.7, 0.2])}) == 1
    assert label_of({"labels": 2}) == 2


def test_a_prompt_has_no_use_for_a_teacher() -> None:
    method = {"name": "prompt", "prompt": {"template": CLOZE}, "distillation": {"teacher": "models/other"}}
    with pytest.raises(SettingsError, match="prompt trains nothing, so it has no use for"):
        parse_settings({"method": method})

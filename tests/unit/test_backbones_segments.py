"""Encoders that are told which text of a pair a token belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from catena.backbones import get_backbone
from catena.backbones.base import Blueprint
from catena.backbones.segments import MARK, segment_ids
from catena.errors import SettingsError
from catena.layout import Layout
from catena.model_folder import read_card, write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import BackboneSettings, ProblemSettings, TokenizationSettings, parse_settings
from catena.training.finetune import TrainingData, finetune
from catena.training.starting import check_start
from catena.training.tokens import write_tokens
from tests.tiny_project import write_backbone

ANSWERING, RANKING = ProblemSettings(name="answering"), ProblemSettings(name="ranking")
QUERIES, ITEMS = ["the wheat", "of the ship in port"], ["said maize oats barley and the", "cargo"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


def build(folder: Path, problem: ProblemSettings, segments: bool = True, pooling: str = "mean") -> Any:
    torch.manual_seed(0)
    settings = BackboneSettings(segments=segments, pooling=pooling)
    head = get_problem(problem).head(("relevance",))
    built = get_backbone("pretrained").build(
        folder, head, dropout=0.0, attention="eager", pooling=pooling, blueprint=Blueprint(settings)
    )
    return built.eval()


def pairs(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(QUERIES, ITEMS, padding=True, return_tensors="pt", return_token_type_ids=True)


def test_segments_are_those_of_the_tokenizer(backbone: Path) -> None:
    batch = pairs(backbone)
    found = segment_ids(build(backbone, RANKING).config, batch["input_ids"])
    assert found is not None
    there = batch["attention_mask"].bool()
    assert torch.equal(found[there], batch["token_type_ids"][there])
    assert found.unique().tolist() == [0, 1]


def test_a_cross_encoder_reads_pairs_as_transformers_does(backbone: Path, tmp_path: Path) -> None:
    """What transformers' own class says, given the tokenizer's token types, of the same weights."""
    network = build(backbone, RANKING, pooling="native")
    network.base_model.embeddings.token_type_embeddings.weight.data[1, :4] += 5.0
    network.classifier.weight.data *= 100.0
    network.save_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    loaded = get_backbone("pretrained").load(tmp_path, get_problem(RANKING).head(()), attention="eager")
    batch = pairs(backbone)
    ours = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = theirs(**batch).logits
        assert torch.allclose(network(**ours).logits, expected, atol=1e-6)
        assert torch.allclose(loaded(**ours).logits, expected, atol=1e-6)
        assert not torch.allclose(theirs(**ours).logits, expected, atol=1e-4)


@pytest.mark.parametrize("problem", [ANSWERING, RANKING])
def test_networks_with_heads_of_their_own_are_told_too(backbone: Path, problem: ProblemSettings) -> None:
    told, untold = (build(backbone, problem, segments) for segments in (True, False))
    untold.load_state_dict(told.state_dict())
    batch = pairs(backbone)
    del batch["token_type_ids"]
    with torch.inference_mode():
        assert not torch.allclose(told(**batch).logits, untold(**batch).logits, atol=1e-4)
        kinds = told.base_model.embeddings.token_type_embeddings.weight
        kinds[1] = kinds[0]
        assert torch.allclose(told(**batch).logits, untold(**batch).logits, atol=1e-6)


def test_only_networks_that_read_pairs_and_know_segments_are_told(backbone: Path, tmp_path: Path) -> None:
    assert hasattr(build(backbone, RANKING).config, MARK)
    single = get_backbone("pretrained").build(
        backbone, get_problem(ProblemSettings()).head(("a", "b")), dropout=0.0, attention="eager"
    )
    assert not hasattr(single.config, MARK)
    write_backbone(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"type_vocab_size": 2}))
    network = build(tmp_path, RANKING)
    network.save_pretrained(tmp_path)
    assert MARK in json.loads(config.read_text())
    # a marked folder that another network begins with does not decide for that one
    assert not hasattr(build(tmp_path, RANKING, segments=False).config, MARK)


def test_a_start_that_was_told_otherwise_is_refused(tmp_path: Path) -> None:
    card = {
        "method": {"name": "full"}, "problem": {"name": "ranking"}, "label_names": ["relevance"],
        "backbone": {"type": "pretrained"},  # of a version that told no network
    }  # fmt: skip
    settings = parse_settings({"problem": {"name": "ranking"}, "backbone": {"name": "x"}})
    with pytest.raises(SettingsError, match=r"trained with `backbone\.segments: false`; set it to that"):
        check_start(card, settings, get_problem(settings.problem), ("relevance",), tmp_path)


def test_an_adapter_of_before_there_were_segments_is_read_without_them(tmp_path: Path) -> None:
    """Its folder holds no network, so what the card says decides how one is built."""
    layout = Layout(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 1\n", encoding="utf-8")
    write_backbone(layout.backbone("tiny"))
    weights = layout.backbone("tiny") / "model.safetensors"
    tensors = load_file(weights)
    name = next(one for one in tensors if one.endswith("token_type_embeddings.weight"))
    tensors[name][1, :4] += 5.0
    save_file(tensors, weights, {"format": "pt"})
    settings = parse_settings(
        {
            "problem": {"name": "ranking"},
            "backbone": {"name": "tiny", "pooling": "mean", "segments": False},
            "method": {"name": "lora", "store": "adapter", "peft": {"rank": 2}},
            "training": {"max_steps": 1, "batch_size": 2, "device": "cpu", "precision": "float32"},
        }
    )
    problem = get_problem(settings.problem)
    tokenizer = AutoTokenizer.from_pretrained(layout.backbone("tiny"))
    pairs = {"query": [QUERIES[0]] * 2, "item": ITEMS, "relevance": ["1", "0"]}
    table = pd.DataFrame(pairs, dtype="str")
    for part in ("train", "validation"):
        features = problem.encode(table, tokenizer, settings.tokenization, ())
        write_tokens(layout.tokenized / f"{part}.arrow", [features])
    tokenizer.save_pretrained(layout.tokenized / "tokenizer")
    (layout.tokenized / "statistics.json").write_text(json.dumps({"label_names": []}))
    groups = ("problem", "backbone", "method", "tokenization")
    folder = tmp_path / "models" / "ranker"
    finetune(
        settings,
        TrainingData.load(layout.tokenized, problem),
        backbone_folder=layout.backbone("tiny"),
        checkpoints=tmp_path / "checkpoints",
        target=folder,
        card={
            **{group: getattr(settings, group).model_dump() for group in groups},
            "label_names": [], "cleaning": {}, "columns": {}, "fingerprint": "f" * 16,
        },
        on_row=lambda row: None,
        on_start=lambda device, plan: None,
    )  # fmt: skip

    def scores(**said: bool) -> list[float]:
        card = {key: value for key, value in read_card(folder).items() if key not in ("files", "format")}
        plain = {key: value for key, value in card["backbone"].items() if key != "segments"}
        write_card(folder, card | {"backbone": plain | said})
        return Predictor.load(folder, device="cpu", precision="float32").predict(table)["score"].tolist()

    assert scores() == scores(segments=False) != scores(segments=True)


def test_a_pair_is_encoded_with_separators_where_segments_begin(backbone: Path) -> None:
    table = pd.DataFrame({"query": QUERIES, "item": ITEMS}, dtype="str")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    features = get_problem(RANKING).encode(table, tokenizer, TokenizationSettings(max_length=8), ())
    for ids in features["input_ids"]:
        assert ids.count(tokenizer.sep_token_id) == 2

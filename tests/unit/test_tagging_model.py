"""The network that tags: what it learns, and that it comes back from its folder as it was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from catena.backbones import Blueprint, get_backbone
from catena.errors import ModelError
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.problems.spans import canonical
from catena.settings import Settings, parse_settings
from catena.training.devices import Device
from catena.training.finetune import TrainingData, finetune
from catena.training.tokens import TokenTable, write_tokens
from tests.tiny_project import write_backbone

LABELS = ("LOC",)
WORDS = [
    "wheat",
    "bank",
    "port",
    "gulf",
    "cargo",
    "dollar",
    "oats",
    "yen",
    "vessel",
    "the",
    "of",
    "said",
    "in",
    "a",
    "was",
    "company",
    "this",
    "year",
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    write_backbone(folder)
    return folder


def capitals(count: int, seed: int) -> pd.DataFrame:
    """Texts in which exactly the capitalized words are entities; the words themselves say nothing."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [word.capitalize() if chance.random() < 0.3 else word for word in chance.choices(WORDS, k=8)]
        text = " ".join(words)
        entities, at = [], 0
        for word in words:
            if word[0].isupper():
                entities.append((at, at + len(word), "LOC"))
            at += len(word) + 1
        rows.append({"text": text, "entities": canonical(entities)})
    return pd.DataFrame(rows)


def settings(**problem: object) -> Settings:
    return parse_settings(
        {
            "problem": {"name": "tagging", **problem},
            "tokenization": {"max_length": 32},
            "training": {
                "epochs": 6, "learning_rate": 0.01, "batch_size": 16, "batch_tokens": 512, "dropout": 0.0,
                "device": "cpu", "precision": "float32",
            },
        },
        "params.yaml",
    )  # fmt: skip


def train(chosen: Settings, backbone: Path, folder: Path) -> tuple[dict[str, float], Path]:
    """Tokenize, train and store; the metrics on the validation part, and the model folder."""
    problem = get_problem(chosen.problem)
    tokenizer = get_backbone("pretrained").tokenizer(backbone)
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    for part, count, seed in (("train", 200, 1), ("validation", 60, 2)):
        features = problem.encode(capitals(count, seed), tokenizer, chosen.tokenization, LABELS)
        write_tokens(tokens / f"{part}.arrow", [features])
    tokenizer.save_pretrained(tokens / "tokenizer")
    data = TrainingData(
        tokens,
        TokenTable(tokens / "train.arrow"),
        TokenTable(tokens / "validation.arrow"),
        {"label_names": list(LABELS), "cleaning": {}},
    )
    card = {
        "problem": chosen.problem.model_dump(),
        "label_names": list(LABELS),
        "backbone": {"type": "pretrained"},
        "method": chosen.method.model_dump(),
        "tokenization": chosen.tokenization.model_dump(),
        "cleaning": {},
        "fingerprint": "0",
    }

    def start(device: Device, plan: object) -> None:
        assert device.kind == "cpu"

    result = finetune(
        chosen, data, backbone_folder=backbone, checkpoints=folder / "checkpoints", target=folder / "model",
        card=card, on_row=lambda row: None, on_start=start,
    )  # fmt: skip
    return result.validation, folder / "model"


def test_a_network_that_reads_lower_case_learns_what_only_case_says(backbone: Path, tmp_path: Path) -> None:
    told, folder = train(settings(), backbone, tmp_path / "told")
    blind, _ = train(settings(case_shapes="off"), backbone, tmp_path / "blind")
    assert told["entity_f1"] > 0.99
    assert blind["entity_f1"] < 0.5
    test = capitals(30, 3)
    predictor = Predictor.load(folder, device="cpu", precision="float32")
    predicted = predictor.predict(test[["text"]])
    assert predicted["prediction"].tolist() == test["entities"].tolist()
    assert predicted["confidence"].between(0, 1).all()
    assert not predicted["truncated"].any()
    # a text over several windows is found to consist of the same entities
    long = " ".join(test["text"][:12])
    (found,) = predictor.predict([long])["prediction"]
    assert found.count("LOC") == sum(target.count("LOC") for target in test["entities"][:12])


def test_a_stored_tagger_is_read_back_as_it_was(backbone: Path, tmp_path: Path) -> None:
    head = get_problem("tagging").head(LABELS)
    pretrained = get_backbone("pretrained")
    torch.manual_seed(0)
    model = pretrained.build(backbone, head, dropout=0.0, attention="eager").eval()
    with torch.no_grad():
        model.shapes.weight.normal_()
    model.save_pretrained(tmp_path / "model")
    again = pretrained.load(tmp_path / "model", head, attention="eager")
    ids = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), "shape_ids": ids % 7}
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, again(**batch).logits)
        without = again(input_ids=ids, attention_mask=batch["attention_mask"]).logits
    assert not torch.allclose(without, again(**batch).logits)


def test_before_training_shapes_change_nothing(backbone: Path) -> None:
    from transformers import AutoModel

    head = get_problem("tagging").head(LABELS)
    model = get_backbone("pretrained").build(backbone, head, dropout=0.0, attention="eager").eval()
    plain = AutoModel.from_pretrained(backbone, attn_implementation="eager").eval()
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, shape_ids=ids % 7).logits
        hidden = plain(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(logits, model.classifier(hidden))
    assert logits.shape == (1, 5, 3)


def test_the_loss_is_the_mean_over_words() -> None:
    problem = get_problem("tagging")
    logits = torch.randn(2, 4, 3)
    labels = torch.tensor([[-100, 0, 2, -100], [1, -100, -100, -100]])
    chosen = torch.log_softmax(logits, -1)
    expected = -(chosen[0, 1, 0] + chosen[0, 2, 2] + chosen[1, 0, 1]) / 3
    torch.testing.assert_close(problem.loss(logits, labels), expected)
    assert problem.loss(logits, torch.full((2, 4), -100)) == 0.0


def test_a_transformer_from_scratch_tags_and_others_say_that_they_cannot(tmp_path: Path) -> None:
    head = get_problem("tagging").head(LABELS)
    for kind, tags in (("transformer", True), ("recurrent", False), ("convolutional", False)):
        chosen = parse_settings(
            {"backbone": {"type": kind}, "tokenization": {"tokenizer": "characters"}}, "params.yaml"
        )
        blueprint = Blueprint(chosen.backbone, vocabulary=40, pad_token_id=0, max_length=16)
        options: dict[str, Any] = {"dropout": 0.0, "attention": "eager", "blueprint": blueprint}
        if tags:
            model = get_backbone(kind).build(tmp_path, head, **options)
            ids = torch.tensor([[2, 7, 9]])
            assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 3, 3)
        else:
            with pytest.raises(ModelError, match="no head for token-classification"):
                get_backbone(kind).build(tmp_path, head, **options)

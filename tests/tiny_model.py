"""A tiny real model folder (an untrained BERT, 24 wide) for tests of what happens after training."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd

from catena.evaluation.predictions import EvaluationPlan, Predictions, write_predictions
from catena.layout import Layout
from catena.model_folder import read_card, write_card
from tests.tiny_project import write_backbone, write_records

LABELS = ("grain", "money", "ship")


def build_tiny_model(folder: Path, *, seed: int = 0, labels: tuple[str, ...] = LABELS) -> Path:
    """Write a complete model folder whose classification head is drawn from `seed`."""
    import torch
    from transformers import AutoModelForSequenceClassification

    backbone = folder.with_name(f"{folder.name}-backbone")
    write_backbone(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: number for number, name in enumerate(labels)},
        )
    folder.mkdir(parents=True)
    for path in backbone.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy2(path, folder / path.name)
    model.save_pretrained(folder)
    shutil.rmtree(backbone)
    write_card(folder, tiny_card(labels, fingerprint=f"{seed:064x}"))
    return folder


def build_tiny_ranker(folder: Path, *, seed: int = 0) -> Path:
    """Write a complete model folder that reads a query and an item together, untrained."""
    build_tiny_model(folder, seed=seed, labels=("relevance",))
    card = read_card(folder)
    changes = {
        "problem": {"name": "ranking"},
        "label_names": [],
        "columns": {"query": "query", "item": "item", "relevance": "relevance"},
    }
    write_card(folder, {name: value for name, value in card.items() if name != "files"} | changes)
    return folder


def build_tiny_chain(folder: Path, *, seed: int = 0) -> Path:
    """Write a complete model folder of a chain with the tails `topics` and `moods`, untrained."""
    import torch
    from transformers import AutoModel

    from catena.methods import HeadRequest
    from catena.methods.chain_network import ChainNetwork
    from catena.settings import ChainSettings

    build_tiny_model(folder, seed=seed)
    heads = {
        "topics": HeadRequest("sequence-classification", LABELS),
        "moods": HeadRequest("sequence-classification", ("glad", "sad")),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = AutoModel.from_pretrained(folder, attn_implementation="eager")
        network = ChainNetwork(body, heads, ChainSettings(), pooling="native", dropout=None)
    network.save(folder)
    card = read_card(folder)
    own = ("problem", "label_names", "tokenization", "cleaning", "columns")
    tails = {
        name: {key: card[key] for key in own} | {"label_names": list(head.label_names)}
        for name, head in heads.items()
    }
    kept = {name: value for name, value in card.items() if name not in (*own, "format", "files")}
    write_card(folder, kept | {"method": {"name": "chain"}, "tails": tails})
    return folder


def tiny_card(labels: tuple[str, ...], fingerprint: str) -> dict[str, object]:
    """What the model folder says about itself besides its files."""
    return {
        "problem": {"name": "classification"},
        "label_names": list(labels),
        "backbone": {"name": "tiny", "type": "pretrained", "source": "folder:backbone"},
        "method": {"name": "full"},
        "tokenization": {"max_length": 32},
        "cleaning": {},
        "columns": {"text": "text", "label": "label"},
        "fingerprint": fingerprint,
    }


def write_params(folder: Path, **groups: object) -> None:
    """A `params.yaml` for the tiny model; `groups` override its groups of settings."""
    values: dict[str, object] = {"data": {"name": "tiny"}, "registry": {"model": "tiny"}, **groups}
    (folder / "params.yaml").write_text(json.dumps(values), encoding="utf-8")


def write_tiny_predictions(project: Path, *, accuracy: float = 1.0, records: int = 80, seed: int = 2) -> Path:
    """Write `predictions.parquet` for tiny test records as if `models/candidate` had made them.

    The first `accuracy × records` are right, the others name the next class: the scores are
    chosen, so that a test can say how a comparison must end. The same `seed` gives the same records.
    """
    layout = Layout(project)
    card = read_card(layout.candidate)
    names: list[str] = card["label_names"]
    write_records(project / "records.csv", count=records, seed=seed)
    table = pd.read_csv(project / "records.csv")
    table["id"] = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in table["text"]]
    numbers = [names.index(label) for label in table["label"]]
    given = [
        number if row < round(accuracy * records) else (number + 1) % len(names)
        for row, number in enumerate(numbers)
    ]
    table["prediction"] = [names[number] for number in given]
    table["confidence"] = 0.9
    for position, name in enumerate(names):
        table[f"p:{name}"] = [0.9 if number == position else 0.1 / (len(names) - 1) for number in given]
    table["n_tokens"] = table["text"].str.split().str.len() + 2
    table["truncated"] = False
    plan = EvaluationPlan(tuple(names), card["fingerprint"], samples=200, seed=7)
    write_predictions(layout.predictions, Predictions(table, plan))
    return layout.predictions

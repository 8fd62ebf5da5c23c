"""A chain says in one pass what each of its tails says alone, whatever they share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel

from catena.chain_predictor import ChainPredictor
from catena.errors import ModelError
from catena.methods.chain_network import ChainNetwork
from catena.model_folder import read_card, write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import ChainSettings, ProblemSettings
from tests.tiny_model import build_tiny_model
from tests.tiny_project import write_backbone

CLASSES = {"problem": {"name": "classification"}, "label_names": ["a", "b", "c"]}
TAILS: dict[str, dict[str, Any]] = {
    "topics": {**CLASSES, "tokenization": {"max_length": 32}},
    "moods": {**CLASSES, "tokenization": {"max_length": 32}},
    "first": {**CLASSES, "tokenization": {"max_length": 4}},
    "tags": {
        "problem": {"name": "tagging", "crf": True},
        "label_names": ["x"],
        "tokenization": {"max_length": 32},
    },
}
LONG = "crew oats maize bushel tanker gulf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained chain of four tails."""
    whole = tmp_path_factory.mktemp("chain")
    write_backbone(whole / "backbone")
    target = whole / "model"
    shutil.copytree(whole / "backbone", target, ignore=shutil.ignore_patterns("*.safetensors"))
    problems = {
        name: get_problem(ProblemSettings.model_validate(tail["problem"])) for name, tail in TAILS.items()
    }
    heads = {name: problem.head(TAILS[name]["label_names"]) for name, problem in problems.items()}
    torch.manual_seed(0)
    body = AutoModel.from_pretrained(whole / "backbone")
    network = ChainNetwork(body, heads, ChainSettings(tail_size=8), pooling="mean", dropout=None)
    network.save(target)
    shared = {"cleaning": {}, "columns": {"text": "text"}}
    card: dict[str, Any] = {
        "tails": {name: {**tail, **shared} for name, tail in TAILS.items()},
        "backbone": {"name": "tiny", "type": "pretrained", "pooling": "mean"},
        "method": {"name": "chain", "chain": {"tail_size": 8}},
        "fingerprint": "0" * 16,
    }
    write_card(target, card)
    return target


@pytest.fixture(scope="module")
def chain(folder: Path) -> ChainPredictor:
    return ChainPredictor(folder, read_card(folder), "cpu", "float32")


@pytest.mark.parametrize(
    "texts",
    [
        # in one tail two different inputs, in the other one of them twice and something else
        ["yen", "yen", LONG],
        [LONG, "port the of said", LONG, "dollar"],
        ["wheat"],
        [],
    ],
)
def test_a_chain_says_what_its_tails_say_alone(chain: ChainPredictor, texts: list[str]) -> None:
    said = chain.predict(pd.DataFrame({"text": texts}, index=range(7, 7 + len(texts)), dtype="str"))
    assert said.index.tolist() == list(range(7, 7 + len(texts)))
    columns: list[str] = []
    for name, tail in chain.tails.items():
        alone = tail.predict(texts)
        columns += [f"{name}.{column}" for column in alone]
        for column in alone:
            ours = said[f"{name}.{column}"]
            assert ours.dtype == alone[column].dtype
            if ours.dtype.kind == "f":
                np.testing.assert_allclose(ours, alone[column], atol=1e-6)
            else:
                assert ours.tolist() == alone[column].tolist()
    assert said.columns.tolist() == columns
    assert [column for column in said if column.partition(".")[2] in Predictor.counts] == list(chain.counts)


def test_one_text_goes_through_the_backbone_once_for_all_tails_that_read_all_of_it(
    chain: ChainPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[int, ...]] = []
    encode = chain.network.encode

    def counted(**inputs: torch.Tensor) -> torch.Tensor:
        passes.append(tuple(inputs["input_ids"].shape))
        return encode(**inputs)

    monkeypatch.setattr(chain.network, "encode", counted)
    chain.predict([LONG], tails=["topics", "moods", "tags"])
    assert passes == [(1, 8)]
    chain.predict([LONG])  # one tail cuts it off
    assert len(passes) == 3


def test_spans_of_a_tail_with_learned_transitions_are_valid(chain: ChainPredictor) -> None:
    said = chain.predict([LONG], tails=["tags"])
    assert isinstance(json.loads(said["tags.spans"][0]), list)
    assert 0.0 < said["tags.confidence"][0] <= 1.0


def test_a_tail_is_loaded_by_its_name_and_only_of_a_chain(folder: Path, tmp_path: Path) -> None:
    assert Predictor.load(folder, tail="tags").problem.name == "tagging"
    with pytest.raises(ModelError, match="has no tail 'tag'; it has topics, moods, first, tags"):
        Predictor.load(folder, tail="tag")
    with pytest.raises(ModelError, match="a chain with the tails topics, moods, first, tags; say"):
        Predictor.load(folder)
    with pytest.raises(ModelError, match="holds no chain, so it has no tail 'topics'"):
        Predictor.load(build_tiny_model(tmp_path / "model"), tail="topics")

"""Chain-of-Density whose language model is adapted by another method: killed, resumed, stored, loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catena.errors import SettingsError
from catena.files import sha256_file
from catena.layout import Layout
from catena.methods import Surroundings, get_method
from catena.model_folder import read_card, weights_sha256
from catena.predictor import Predictor
from catena.problems import HeadSpec, get_problem
from catena.settings import MethodSettings, Settings, parse_settings
from catena.token_shares import explain_by_shares
from catena.training.finetune import Result, TrainingData, finetune
from catena.training.tokens import write_tokens
from tests.tiny_language_model import tiny_network, tiny_tokenizer, write_language_backbone

NAMES = ["nature", "answer"]
TEXTS = ["the sky is blue", "grass is green", "yes, one word", "no, they say two words"]


class _KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a causal language model and tokens of two classes."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text("seed: 1\n", encoding="utf-8")
    write_language_backbone(Layout(root).backbone("tiny"))
    tokens, tokenizer = Layout(root).tokenized, tiny_tokenizer()
    for part, count in (("train", 24), ("validation", 12)):
        some = [f"{TEXTS[row % 4]} {TEXTS[row * 5 % 4]}" for row in range(count)]
        labels = [row % 4 // 2 for row in range(count)]
        write_tokens(
            tokens / f"{part}.arrow", [{"input_ids": tokenizer(some)["input_ids"], "labels": labels}]
        )
    tokenizer.save_pretrained(tokens / "tokenizer")
    (tokens / "statistics.json").write_text(json.dumps({"label_names": NAMES}), encoding="utf-8")
    return root


def settings_for(adapt: str, store: str = "merged") -> Settings:
    peft = {"rank": 2, "initial_rank": 4, "interval": 2, "bottleneck": 4, "dropout": 0.1}
    density = {"adapt": adapt, "soft_tokens": 1}
    return parse_settings(
        {
            "seed": 5,
            "data": {"name": "tiny"},
            "tokenization": {"max_length": 32},
            "backbone": {"name": "tiny", "source": "folder:backbone"},
            "method": {"name": "density", "store": store, "layers": 1, "peft": peft, "density": density},
            "training": {
                "epochs": 3,
                "batch_size": 8,
                "batch_tokens": 512,
                "learning_rate": 0.01,
                "checkpoint_seconds": 0,
                "metric": "log_loss",
                "device": "cpu",
                "precision": "float32",
            },
        }
    )


def train(project: Path, settings: Settings, folder: Path, kill: int = 0) -> Result:
    """Train into `folder/model`; with `kill`, until that step has been recorded."""

    def on_row(row: dict[str, float]) -> None:
        if kill and row["step"] == kill:
            raise _KilledError

    card: dict[str, Any] = {
        "problem": settings.problem.model_dump(),
        "label_names": NAMES,
        "backbone": settings.backbone.model_dump(),
        "method": settings.method.model_dump(),
        "tokenization": settings.tokenization.model_dump(),
        "cleaning": {},
        "columns": {"text": "text", "label": "label"},
        "fingerprint": "f" * 16,
    }
    return finetune(
        settings,
        TrainingData.load(Layout(project).tokenized, get_problem(settings.problem)),
        backbone_folder=Layout(project).backbone("tiny"),
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card=card,
        on_row=on_row,
        on_start=lambda device, plan: None,
    )


@pytest.mark.parametrize("adapt", ["lora", "adalora", "gradual"])
def test_a_killed_training_ends_in_the_same_model_and_learns(
    project: Path, adapt: str, tmp_path: Path
) -> None:
    settings = settings_for(adapt)
    whole = train(project, settings, tmp_path / "whole")
    with pytest.raises(_KilledError):
        train(project, settings, tmp_path / "parts", kill=7)
    assert list((tmp_path / "parts" / "checkpoints").glob("step-*")), "there is nothing to resume from"
    parts = train(project, settings, tmp_path / "parts")
    assert parts.curve == whole.curve
    for file in sorted((tmp_path / "whole" / "model").glob("*.safetensors")):
        assert sha256_file(file) == sha256_file(tmp_path / "parts" / "model" / file.name), file.name
    losses = [row["loss"] for row in whole.curve if "loss" in row]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_stored_as_an_adapter_it_says_the_same_as_merged(project: Path) -> None:
    said = []
    for store in ("merged", "adapter"):
        folder = project / "models" / store
        train(project, settings_for("lora", store), folder)
        files = {path.name for path in (folder / "model").glob("*.safetensors")}
        own = "model.safetensors" if store == "merged" else "adapter.safetensors"
        assert files == {own, "density.safetensors"}
        predictor = Predictor.load(folder / "model", device="cpu", precision="float32")
        table = predictor.predict(TEXTS)
        said.append(table[["p:nature", "log_density"]].to_numpy())
        (claim,) = explain_by_shares(predictor, {"text": TEXTS[0]}, about="nature").claims
        total = sum(effect or 0.0 for effect in claim.effects) + sum(value for _, value in claim.beside)
        odds = np.log(table["p:nature"].iloc[0]) - np.log(table["p:answer"].iloc[0])
        assert total == pytest.approx(odds, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(said[0], said[1], atol=1e-4)


def test_the_identity_of_a_model_holds_its_soft_tokens(project: Path, tmp_path: Path) -> None:
    settings = settings_for("soft_tokens_only")
    cards = []
    for seed in (5, 6):
        train(project, settings.model_copy(update={"seed": seed}), tmp_path / str(seed))
        cards.append(read_card(tmp_path / str(seed) / "model"))
    frozen = [card["files"]["model.safetensors"]["sha256"] for card in cards]
    assert frozen[0] == frozen[1]
    assert weights_sha256(cards[0]) != weights_sha256(cards[1])


def test_what_the_method_below_adds_to_a_loss_is_added() -> None:
    tokenizer = tiny_tokenizer()
    rows = [{"input_ids": ids, "labels": row // 2} for row, ids in enumerate(tokenizer(TEXTS)["input_ids"])]
    around = Surroundings(
        "classification", HeadSpec("sequence-classification", tuple(NAMES)), tokenizer, rows
    )
    found = {}
    for weight in (0.0, 2.0):
        peft = {"rank": 2, "initial_rank": 4, "orthogonality": weight}
        settings = {
            "name": "density",
            "peft": peft,
            "density": {"adapt": "adalora", "objective": "generative"},
        }
        method = get_method(MethodSettings.model_validate(settings))
        torch.manual_seed(0)
        model = method.prepare(tiny_network(tokenizer), around)
        tokenizer.padding_side = "right"
        given = tokenizer(TEXTS, padding=True, return_tensors="pt")
        labels = torch.tensor([0, 0, 1, 1])
        with torch.no_grad():
            outputs = model(given["input_ids"], given["attention_mask"], labels)
            found[weight] = float(method.loss(outputs, labels, lambda logits: logits) - outputs.cost.mean())
    assert found[0.0] == pytest.approx(0.0, abs=1e-6)
    assert found[2.0] > 0.1


@pytest.mark.parametrize(
    "adapt", ["unchanged", "prefix_tuning", "prompt_tuning", "density", "prompt", "chain"]
)
def test_methods_that_adapt_nothing_below_are_refused(adapt: str) -> None:
    method = get_method(MethodSettings.model_validate({"name": "density", "density": {"adapt": adapt}}))
    with pytest.raises(SettingsError, match=f"`method.density.adapt` is '{adapt}'; choose one of"):
        method.inner  # noqa: B018 - reading it is what is tried


def test_an_adapter_is_stored_only_where_there_is_one() -> None:
    settings = {"name": "density", "store": "adapter", "density": {"adapt": "full"}}
    with pytest.raises(SettingsError, match=r"adapter says nothing to `method\.name` density"):
        get_method(MethodSettings.model_validate(settings))


def test_rates_fall_by_layer_below_where_the_method_there_knows_layers() -> None:
    method = get_method(MethodSettings.model_validate({"name": "density", "layer_decay": 0.5}))
    rates = method.learning_rates(_Around(tiny_network(tiny_tokenizer())))
    assert (
        rates["network.model.layers.0.self_attn.q_proj.weight"]
        < rates["network.model.layers.1.self_attn.q_proj.weight"]
    )


class _Around:
    """What stands around a language model, as far as rates are concerned."""

    soft_tokens = None

    def __init__(self, network: Any) -> None:
        self.network = network

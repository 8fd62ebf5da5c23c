"""Parameter-efficient methods through training, resuming, storing, loading and MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from catena.backbones import get_backbone
from catena.errors import ModelError, SettingsError
from catena.files import sha256_file
from catena.layout import Layout
from catena.methods import get_method
from catena.model_folder import read_card, weights_sha256, write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import MethodSettings, Settings, parse_settings
from catena.training.finetune import Result, TrainingData, finetune
from catena.training.tokens import write_tokens
from tests.tiny_networks import write_network
from tests.tiny_project import write_backbone

SMALL = {"rank": 2, "initial_rank": 4, "interval": 2, "bottleneck": 4, "virtual_tokens": 4, "dropout": 0.1}
TEXTS = ["wheat barley the of maize", "vessel port cargo", "bank dollar yen said in rate"]


class _KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a backbone and tokens of three classes."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text("seed: 1\n", encoding="utf-8")
    backbone = Layout(root).backbone("tiny")
    write_backbone(backbone)
    random = np.random.default_rng(1)
    data = Layout(root).tokenized
    for part, n in (("train", 60), ("validation", 24)):
        labels = random.integers(0, 3, n).tolist()
        # each class has words of its own
        ids = [[2, *(random.integers(5, 23, 4 + n % 9) + 18 * label).tolist(), 3] for label in labels]
        write_tokens(data / f"{part}.arrow", [{"input_ids": ids, "labels": labels}])
    tokenizer = get_backbone("pretrained").tokenizer(backbone)
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(data / "tokenizer")
    (data / "statistics.json").write_text(json.dumps({"label_names": ["a", "b", "c"]}), encoding="utf-8")
    return root


def settings_for(method: str, store: str = "merged", **peft: Any) -> Settings:
    return parse_settings(
        {
            "seed": 5,
            "data": {"name": "tiny"},
            "tokenization": {"max_length": 32},
            "backbone": {"name": "tiny", "source": "folder:backbone", "pooling": "mean"},
            "method": {"name": method, "store": store, "peft": SMALL | peft},
            "training": {
                "epochs": 2,
                "batch_size": 8,
                "batch_tokens": 256,
                "learning_rate": 0.01,
                "dropout": 0.1,
                "weight_averaging": 0.9,
                "checkpoint_seconds": 0,
                "device": "cpu",
                "precision": "float32",
            },
        }
    )


def train(
    project: Path, settings: Settings, folder: Path, kill: int = 0, start: Path | None = None
) -> Result:
    """Train into `folder/model`; with `kill`, until that step has been recorded."""
    data = TrainingData.load(Layout(project).tokenized, get_problem(settings.problem))

    def on_row(row: dict[str, float]) -> None:
        if kill and row["step"] == kill:
            raise _KilledError

    card = {
        "problem": settings.problem.model_dump(),
        "label_names": ["a", "b", "c"],
        "backbone": settings.backbone.model_dump(),
        "method": settings.method.model_dump(),
        "tokenization": settings.tokenization.model_dump(),
        "cleaning": {},
        "columns": {"text": "text", "label": "label"},
        "fingerprint": "f" * 16,
    }
    return finetune(
        settings,
        data,
        backbone_folder=Layout(project).backbone("tiny"),
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card=card,
        on_row=on_row,
        on_start=lambda device, plan: None,
        start=start,
    )


@pytest.fixture(scope="module")
def stored(project: Path) -> dict[str, Path]:
    """The same LoRA training in both forms of storage, in the project's `models/`."""
    folders = {}
    for store in ("merged", "adapter"):
        train(project, settings_for("lora", store), project / "models" / store)
        folders[store] = project / "models" / store / "model"
    return folders


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def sealed(folder: Path) -> Path:
    """`folder` with its files' checksums renewed, as if it had been written so."""
    card = read_card(folder)
    write_card(folder, {key: value for key, value in card.items() if key not in ("files", "format")})
    return folder


# -- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["lora", "adalora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning", "bitfit"]
)
def test_a_killed_training_ends_in_the_same_weights(project: Path, name: str, tmp_path: Path) -> None:
    settings = settings_for(name)
    whole = train(project, settings, tmp_path / "whole")
    with pytest.raises(_KilledError):
        train(project, settings, tmp_path / "parts", kill=11)
    kept = [path.name for path in (tmp_path / "parts" / "checkpoints").glob("step-*")]
    assert kept == ["step-10"]
    parts = train(project, settings, tmp_path / "parts")
    assert parts.curve == whole.curve
    for file in sorted((tmp_path / "whole" / "model").glob("*.safetensors")):
        assert sha256_file(file) == sha256_file(tmp_path / "parts" / "model" / file.name), file.name
    assert 0 < whole.trainable < whole.weights / 2
    losses = [row["loss"] for row in whole.curve if "loss" in row]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]), "it learns"


def test_adalora_ends_with_the_rank_it_was_given(project: Path, tmp_path: Path) -> None:
    settings = settings_for("adalora", "adapter")
    settings = settings.model_copy(
        # measured once, at the end: weights from before ranks fell may have been better
        update={"training": settings.training.model_copy(update={"weight_averaging": 0.0, "epochs": 1.0})}
    )
    train(project, settings, tmp_path)
    weights = load_file(tmp_path / "model" / "adapter.safetensors")
    values = [tensor for name, tensor in weights.items() if ".lora_E." in name]
    assert len(values) == 8 and all(len(each) == 4 for each in values)
    left = [int((each != 0).sum()) for each in values]
    assert sum(left) == 8 * 2
    assert len(set(left)) > 1, "some layers keep more than others"


def test_the_orthogonal_regulariser_is_the_mean_distance_from_the_identity(tmp_path: Path) -> None:
    own = write_network("bert, mean", tmp_path / "base")
    method = get_method(
        MethodSettings.model_validate({"name": "adalora", "peft": {"rank": 2, "orthogonality": 0.5}})
    )
    model = method.prepare(own.build(), own.around)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_A." in name:
                weight.copy_(torch.eye(*weight.shape))  # rows of length 1: no distance
            if ".lora_B." in name:
                weight.copy_(2 * torch.eye(*weight.shape))  # Bᵀ B = 4 I, so 3 · √3 from I at rank 3
    outputs = type("Outputs", (), {"logits": torch.zeros(1, 3)})
    loss = method.loss(outputs, torch.zeros(1), lambda logits: torch.tensor(1.0))
    assert float(loss.detach()) == pytest.approx(1.0 + 0.5 * (0.0 + 3 * 3**0.5) / 2)


def test_adalora_refuses_what_leaves_it_nothing_to_take_away(project: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"initial_rank` is 2, but must be above `method.peft.rank` \(2\)"
    ):
        train(project, settings_for("adalora", initial_rank=2), tmp_path)
    with pytest.raises(SettingsError, match="needs more steps than"):
        train(project, settings_for("adalora", full_rank_share=0.6, final_rank_share=0.6), tmp_path)


# -- storage -------------------------------------------------------------------------------------------


def test_an_adapter_says_what_the_merged_network_says_and_is_smaller(stored: dict[str, Path]) -> None:
    merged, adapter = (Predictor.load(stored[store], device="cpu") for store in ("merged", "adapter"))
    own, other = merged.predict(TEXTS), adapter.predict(TEXTS)
    assert own["prediction"].tolist() == other["prediction"].tolist()
    pd.testing.assert_frame_equal(own, other, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(merged.embed(TEXTS), adapter.embed(TEXTS), atol=1e-5)
    assert not (stored["adapter"] / "model.safetensors").exists()
    sizes = {
        store: sum(file.stat().st_size for file in stored[store].glob("*.safetensors")) for store in stored
    }
    assert sizes["adapter"] < sizes["merged"] / 2
    card = read_card(stored["adapter"])
    assert weights_sha256(card) == sha256_file(stored["adapter"] / "adapter.safetensors")


def test_an_adapter_names_its_base_by_name_source_and_hash(project: Path, stored: dict[str, Path]) -> None:
    base = json.loads((stored["adapter"] / "adapter.json").read_text(encoding="utf-8"))["base"]
    weights = Layout(project).backbone("tiny") / "model.safetensors"
    assert base == {
        "name": "tiny",
        "source": "folder:backbone",
        "sha256": {"model.safetensors": sha256_file(weights)},
        "bytes": weights.stat().st_size,
    }


def test_loading_draws_no_random_numbers(stored: dict[str, Path]) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    Predictor.load(stored["adapter"], device="cpu")
    assert torch.equal(torch.rand(1), wanted)


def test_a_missing_base_is_named_with_where_it_was_looked_for(
    stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = copied(stored["adapter"], tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match=r"adapter for the backbone tiny \(folder:backbone\), which is not in"
    ):
        Predictor.load(moved)
    monkeypatch.setenv("CATENA_BACKBONES", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match="elsewhere"):
        Predictor.load(moved)


def test_a_base_is_found_where_the_environment_says(
    project: Path, stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = copied(stored["adapter"], tmp_path / "model")
    copied(Layout(project).backbone("tiny"), tmp_path / "bases" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATENA_BACKBONES", str(tmp_path / "bases"))
    wanted = Predictor.load(stored["adapter"], device="cpu").predict(TEXTS)
    pd.testing.assert_frame_equal(Predictor.load(moved, device="cpu").predict(TEXTS), wanted)


def test_an_adapter_for_another_base_is_refused_unless_its_own_lies_elsewhere(
    project: Path, stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = copied(Layout(project).backbone("tiny"), tmp_path / "tiny")
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: tensor + 1 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"}
    )
    monkeypatch.setenv("CATENA_BACKBONES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"adapter for another backbone than the one in .*SHA-256"):
        Predictor.load(copied(stored["adapter"], tmp_path / "model"))
    # this one lies in the project that has the right one
    Predictor.load(stored["adapter"])


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _renamed(file: Path) -> None:
    weights = load_file(file)
    weights["nowhere.weight"] = weights.pop("classifier.weight")
    save_file(weights, file)


def _widened(file: Path) -> None:
    weights = load_file(file)
    save_file(weights | {"classifier.weight": torch.zeros(3, 25)}, file)


@pytest.mark.parametrize(
    ("harm", "file", "sentence"),
    [
        (_cut, "adapter.safetensors", "adapter.safetensors is damaged"),
        (_renamed, "adapter.safetensors", "lacks classifier.weight, so it is not the adapter"),
        (_widened, "adapter.safetensors", r"shape \(3, 25\), but the network needs \(3, 24\)"),
        (Path.unlink, "adapter.safetensors", "adapter.safetensors is missing"),
        (lambda file: file.write_text("{}"), "adapter.json", "adapter.json is damaged"),
        (lambda file: file.write_text(file.read_text().replace('"tiny"', '"../x"')), "adapter.json",
         "adapter.json is damaged"),
        (Path.unlink, "adapter.json", "adapter.json is missing"),
    ],
)  # fmt: skip
def test_damaged_adapters_are_refused_in_a_sentence(
    project: Path, stored: dict[str, Path], tmp_path: Path, harm: Any, file: str, sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CATENA_BACKBONES", str(Layout(project).backbone("tiny").parent))
    folder = copied(stored["adapter"], tmp_path / "model")
    harm(folder / file)
    with pytest.raises(ModelError, match=r"cut off or altered|is missing|is not the file"):
        Predictor.load(folder)
    with pytest.raises(ModelError, match=sentence):
        Predictor.load(sealed(folder))


def test_a_network_from_scratch_is_no_base_of_an_adapter(tmp_path: Path) -> None:
    own = write_network("bert, mean", tmp_path / "base")
    network = own.build()
    (own.folder / "model.safetensors").unlink()
    method = get_method(MethodSettings.model_validate({"name": "lora", "store": "adapter"}))
    with pytest.raises(SettingsError, match="adapter needs a pretrained backbone"):
        method.prepare(network, own.around)


def test_an_adapter_for_some_of_the_layers_finds_them_again(project: Path, tmp_path: Path) -> None:
    folders = {}
    for store in ("merged", "adapter"):
        settings = settings_for("lora", store)
        backbone = settings.backbone.model_copy(update={"keep_layers": (2,)})
        # in the project, where its backbone is looked for
        folders[store] = project / "models" / f"cut-{store}"
        train(project, settings.model_copy(update={"backbone": backbone}), folders[store])
    merged, adapter = (Predictor.load(folders[store] / "model", device="cpu") for store in folders)
    assert len(adapter.model.encoder.encoder.layer) == 1
    pd.testing.assert_frame_equal(merged.predict(TEXTS), adapter.predict(TEXTS), atol=1e-5, rtol=1e-5)


def test_a_merged_network_is_trained_on_and_rounded_like_any_other(
    project: Path, stored: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_for("lora")
    method = settings.method.model_dump() | {"start": "models/merged", "compression": {"quantize": "int8"}}
    hardly = settings.training.model_copy(update={"learning_rate": 1e-9, "epochs": 1.0})
    settings = settings.model_copy(
        update={"method": MethodSettings.model_validate(method), "training": hardly}
    )
    train(project, settings, tmp_path, start=stored["merged"])
    assert read_card(tmp_path / "model")["compression"]["int8"]
    before, after = (
        Predictor.load(folder, device="cpu") for folder in (stored["merged"], tmp_path / "model")
    )
    pd.testing.assert_frame_equal(before.predict(TEXTS), after.predict(TEXTS), atol=0.02, rtol=0.02)
    with pytest.raises(SettingsError, match="lora with `store` adapter is stored in a form of its own"):
        train(project, settings, tmp_path / "again", start=stored["adapter"])


# -- registry ------------------------------------------------------------------------------------------


def test_mlflow_serves_an_adapter_where_its_base_is_found(
    project: Path, stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import pyfunc

    from catena.registry.packaging import save_model

    save_model(stored["adapter"], tmp_path / "packaged")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="CATENA_BACKBONES"):
        pyfunc.load_model(str(tmp_path / "packaged"))
    monkeypatch.setenv("CATENA_BACKBONES", str(Layout(project).backbone("tiny").parent))
    served = pyfunc.load_model(str(tmp_path / "packaged")).predict(pd.DataFrame({"text": TEXTS}))
    wanted = Predictor.load(stored["adapter"]).predict(TEXTS)
    assert served["prediction"].tolist() == wanted["prediction"].tolist()


def test_the_gate_counts_the_weights_that_an_adapter_needs(project: Path, stored: dict[str, Path]) -> None:
    from catena.registry.contest import folder_size

    weights = Layout(project).backbone("tiny") / "model.safetensors"
    own = sum(file.stat().st_size for file in stored["adapter"].iterdir())
    assert folder_size(stored["adapter"]) == own + weights.stat().st_size > folder_size(stored["merged"])


def test_the_lineage_says_that_a_version_is_an_adapter(project: Path, stored: dict[str, Path]) -> None:
    from catena.registry.lineage import lineage_documents

    for store, expected in (("adapter", "tiny"), ("merged", None)):
        shutil.rmtree(Layout(project).candidate, ignore_errors=True)
        copied(stored[store], Layout(project).candidate)
        documents = lineage_documents(settings_for("lora", store), Layout(project), {})
        said = json.loads(documents["lineage.json"])
        assert said.get("adapter_for", {}).get("name") == expected
        assert said["weights_sha256"] == weights_sha256(read_card(stored[store]))

"""A student learns what its teacher says: asked once, kept on disk, and the same after an interruption."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from catena.backbones import get_backbone
from catena.errors import DataError, ModelError, SettingsError
from catena.files import sha256_file
from catena.layout import Layout
from catena.model_folder import read_card, write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.registry.predecessors import predecessors
from catena.settings import DistillationSettings, ProblemSettings, Settings, parse_settings
from catena.training.finetune import TrainingData, finetune, fingerprint
from catena.training.starting import check_start
from catena.training.teaching import Teaching, check_teacher, learn_from, taught_card, teacher_loss
from catena.training.tokens import write_tokens
from tests.tiny_model import LABELS, build_tiny_chain, build_tiny_model
from tests.tiny_project import write_backbone, write_records

PROBLEM = get_problem(ProblemSettings(name="classification"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("teacher") / "model", seed=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """Prepared and tokenized records: `train.parquet`, `train.arrow`."""
    folder = tmp_path_factory.mktemp("data")
    write_records(folder / "records.csv", count=24, seed=6)
    table = pd.read_csv(folder / "records.csv")
    table["id"] = [f"{number:016x}" for number in range(len(table))]
    table.to_parquet(folder / "train.parquet")
    predictor = Predictor.load(teacher, device="cpu", precision="float32")
    backwards = table.iloc[::-1]
    features = PROBLEM.encode(backwards, predictor.tokenizer, predictor.tokenization, LABELS)
    write_tokens(folder / "train.arrow", [{"id": backwards["id"].tolist(), **features}])
    return folder


def ask(teacher: Path, prepared: Path, cache: Path, labels: tuple[str, ...] = LABELS) -> Teaching:
    return learn_from(
        teacher, "identity", read_card(teacher) if teacher.exists() else CARD, PROBLEM, labels,
        prepared / "train.arrow", prepared / "train.parquet", cache, DistillationSettings(),
    )  # fmt: skip


CARD = {"problem": {"name": "classification"}, "label_names": list(LABELS)}


def test_the_loss_is_hintons_worked_by_hand() -> None:
    even, three_to_one = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    # KL of (3/4, 1/4) from (1/2, 1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(teacher_loss(even, three_to_one, 1.0, "softmax")) == pytest.approx(expected, abs=1e-6)
    # at temperature 2 the teacher says √3 to 1; times 4
    high = math.sqrt(3) / (1 + math.sqrt(3))
    expected = 4 * (high * math.log(2 * high) + (1 - high) * math.log(2 * (1 - high)))
    assert float(teacher_loss(even, three_to_one, 2.0, "softmax")) == pytest.approx(expected, abs=1e-6)
    # two decisions by themselves: one the same, one 3/4 against 1/2; the mean of both
    one = torch.tensor([[0.3, math.log(3.0)]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    student = torch.tensor([[0.3, 0.0]])
    assert float(teacher_loss(student, one, 1.0, "sigmoid")) == pytest.approx(expected, abs=1e-6)


def test_it_is_nothing_where_the_student_says_the_same_and_its_gradient_keeps_its_size() -> None:
    torch.manual_seed(0)
    taught = torch.randn(5, 3)
    for kind in ("softmax", "sigmoid"):
        assert float(teacher_loss(taught + (2.0 if kind == "softmax" else 0.0), taught, 3.0, kind)) < 1e-6
    sizes = []
    for temperature in (10.0, 100.0):
        student = torch.zeros(5, 3, requires_grad=True)
        teacher_loss(student, taught, temperature, "softmax").backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_the_teachers_probabilities_are_in_the_order_of_the_tokens_and_of_the_students_classes(
    teacher: Path, prepared: Path, tmp_path: Path
) -> None:
    labels = ("ship", "grain", "money")
    teaching = ask(teacher, prepared, tmp_path, labels)
    texts = pq.read_table(prepared / "train.parquet").to_pandas()["text"].tolist()[::-1]
    said = Predictor.load(teacher).predict(texts)[[f"p:{name}" for name in labels]].to_numpy()
    chances = torch.from_numpy(teaching.logits).softmax(-1).numpy()
    np.testing.assert_allclose(chances, said, atol=1e-5)


def test_the_teacher_is_asked_once(
    teacher: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ask(teacher, prepared, tmp_path)
    assert "asking the teacher about 24 training records" in capsys.readouterr().out
    kept = ask(Path("nowhere"), prepared, tmp_path)  # needs no teacher any more
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(first.logits, kept.logits)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = ask(teacher, prepared, tmp_path)  # a cut-off cache is made anew
    np.testing.assert_array_equal(first.logits, again.logits)


def test_a_tail_of_a_chain_teaches(prepared: Path, tmp_path: Path) -> None:
    chain = build_tiny_chain(tmp_path / "chain", seed=3)
    card = read_card(chain)

    def taught(tail: str | None, labels: tuple[str, ...] = LABELS) -> np.ndarray:
        return learn_from(
            chain, "chain", card, PROBLEM, labels, prepared / "train.arrow", prepared / "train.parquet",
            tmp_path / "cache", DistillationSettings(tail=tail),
        ).logits  # fmt: skip

    texts = pq.read_table(prepared / "train.parquet").to_pandas()["text"].tolist()[::-1]
    said = Predictor.load(chain, tail="topics").predict(texts)[[f"p:{name}" for name in LABELS]]
    np.testing.assert_allclose(torch.from_numpy(taught("topics")).softmax(-1), said, atol=1e-5)
    assert taught("moods", ("sad", "glad")).shape == (24, 2)
    with pytest.raises(SettingsError, match=r"chain with the tails topics, moods, and .* does not say which"):
        taught(None)
    with pytest.raises(SettingsError, match="names 'topic', which is none of them"):
        taught("topic")
    with pytest.raises(SettingsError, match=r"does not know the class 'grain'"):
        taught("moods")
    with pytest.raises(SettingsError, match="is no chain, so it has no tails"):
        taught_card(CARD, "topics")


def test_records_that_were_not_tokenized_get_a_sentence(
    teacher: Path, prepared: Path, tmp_path: Path
) -> None:
    other = tmp_path / "data"
    other.mkdir()
    shutil.copy(prepared / "train.arrow", other)
    with pytest.raises(DataError, match="for the teacher to read; run the prepare stage"):
        ask(teacher, other, tmp_path / "cache")
    pd.read_parquet(prepared / "train.parquet").head(3).to_parquet(other / "train.parquet")
    with pytest.raises(DataError, match="does not hold the records that were tokenized"):
        ask(teacher, other, tmp_path / "cache")


@pytest.mark.parametrize(
    ("problem", "card", "labels", "message"),
    [
        ("classification", CARD, ("grain", "ship"), "knows the class 'money', which the data do not have"),
        ("classification", CARD, (*LABELS, "trade"), "does not know the class 'trade'"),
        ("multilabel", CARD, LABELS, "solves the problem classification, not multilabel"),
        (
            "regression",
            {**CARD, "problem": {"name": "regression"}},
            ("0 ± 1",),
            "no probabilities of classes",
        ),
        ("generation", {**CARD, "problem": {"name": "generation"}}, (), "no probabilities of classes"),
        ("ranking", {**CARD, "problem": {"name": "ranking"}}, (), "no probabilities of classes"),
    ],
)
def test_a_teacher_that_does_not_fit_gets_a_sentence(
    problem: str, card: dict[str, Any], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        check_teacher(card, get_problem(ProblemSettings.model_validate({"name": problem})), labels)


def method(**values: Any) -> Settings:
    return parse_settings({"method": values})


def test_a_teacher_that_is_missing_or_damaged_gets_a_sentence(teacher: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    settings = method(distillation={"teacher": "models/teacher"})
    with pytest.raises(ModelError, match=r"`method.distillation.teacher`: There is no model folder"):
        predecessors(settings, layout)
    shutil.copytree(teacher, tmp_path / "models" / "teacher")
    found = predecessors(settings, layout)["teacher"]
    assert found.described["given"] == "models/teacher"
    weights = tmp_path / "models" / "teacher" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"`method.distillation.teacher`: .*is cut off or altered"):
        predecessors(settings, layout)


def test_a_training_is_named_by_what_its_teacher_is_and_not_by_where_it_lies() -> None:
    here, there = (method(distillation={"teacher": name}) for name in ("models/a", "models:/a/1"))
    assert fingerprint(here, "d", "b", {"teacher": "1"}) == fingerprint(there, "d", "b", {"teacher": "1"})
    assert fingerprint(here, "d", "b", {"teacher": "1"}) != fingerprint(here, "d", "b", {"teacher": "2"})


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"problem": {"name": "regression"}}, {}, "solves the problem regression, not classification"),
        (
            {"label_names": ["a", "b"]},
            {},
            "learned the classes a, b, and the data have grain, money",
        ),
        ({"backbone": {"name": "x", "type": "recurrent"}}, {}, "backbone of the type recurrent"),
        ({}, {"backbone": {"keep_layers": [1]}}, "set `method.compression.prune_layers` instead"),
        ({}, {}, "reads other tokens than"),
        ({"compression": {"int8": True}}, {}, "in eight bits, which can neither be trained nor cut"),
    ],
)
def test_a_model_that_a_training_cannot_begin_with_gets_a_sentence(
    teacher: Path, tmp_path: Path, change: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    if message != "reads other tokens than":
        (tmp_path / "tokenizer").mkdir()
        shutil.copy(teacher / "tokenizer.json", tmp_path / "tokenizer")
    with pytest.raises((SettingsError, ModelError), match=message):
        check_start(read_card(teacher) | change, parse_settings(settings), PROBLEM, LABELS, tmp_path)


def test_unchanged_needs_a_model_and_no_teacher() -> None:
    with pytest.raises(SettingsError, match=r"so `start` must name a model"):
        method(name="unchanged")
    with pytest.raises(SettingsError, match=r"has no use for `distillation.teacher`"):
        method(name="unchanged", start="a", distillation={"teacher": "b"})


class InterruptedTrainingError(Exception):
    """What a killed process would have done."""


def train(
    folder: Path, backbone: Path, weight: float, stop: int = 0, start: Path | None = None, **own: Any
) -> dict[str, Any]:
    """Train on random tokens whose labels are all 0, with a teacher that says what the first token is."""
    data = folder / "tokens"
    random = np.random.default_rng(1)
    ids = {
        part: [[2, 70 + row % 3, *random.integers(30, 60, 6).tolist(), 3] for row in range(count)]
        for part, count in (("train", 90), ("validation", 30))
    }
    if not data.exists():
        for part, rows in ids.items():
            labels = [0] * len(rows) if part == "train" else [row[1] - 70 for row in rows]
            write_tokens(data / f"{part}.arrow", [{"input_ids": rows, "labels": labels}])
        get_backbone("pretrained").tokenizer(backbone).save_pretrained(data / "tokenizer")
        (data / "statistics.json").write_text(json.dumps({"label_names": ["a", "b", "c"]}))
    training = {
        "epochs": 4, "batch_size": 8, "learning_rate": 0.01, "dropout": 0.0,
        "checkpoint_seconds": 0 if stop else 600,
        "device": "cpu", "precision": "float32", "metric": "log_loss",
    }  # fmt: skip
    settings = parse_settings({"seed": 5, "training": training, "method": own})
    wanted = np.full((90, 3), -3.0, np.float32)
    wanted[np.arange(90), [row[1] - 70 for row in ids["train"]]] = 3.0

    def row(values: dict[str, float]) -> None:
        if stop and values["step"] == stop:
            raise InterruptedTrainingError

    result = finetune(
        settings,
        TrainingData.load(data, get_problem(settings.problem)),
        backbone_folder=backbone,
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card={"label_names": ["a", "b", "c"], "method": settings.method.model_dump()},
        on_row=row,
        on_start=lambda device, plan: None,
        start=start,
        teaching=Teaching(wanted, "softmax", DistillationSettings(weight=weight)),
    )
    weights = sha256_file(folder / "model" / "model.safetensors")
    return {"weights": weights, "curve": result.curve, **result.validation}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


def test_the_teachers_weight_decides_whom_the_student_believes_and_stopping_changes_nothing(
    backbone: Path, tmp_path: Path
) -> None:
    """All labels say class 0; the teacher knows better."""
    taught = train(tmp_path / "taught", backbone, weight=1.0)
    assert taught["accuracy"] > 0.9
    assert train(tmp_path / "labels", backbone, weight=0.0)["accuracy"] == pytest.approx(1 / 3)
    with pytest.raises(InterruptedTrainingError):
        train(tmp_path / "stopped", backbone, weight=1.0, stop=5)
    assert list((tmp_path / "stopped" / "checkpoints").glob("step-*"))
    resumed = train(tmp_path / "stopped", backbone, weight=1.0)
    assert (resumed["weights"], resumed["curve"]) == (taught["weights"], taught["curve"])

    # a student that begins as its teacher without a layer, and ends in eight bits
    start = tmp_path / "taught" / "model"
    card = {name: value for name, value in read_card(start).items() if name not in ("format", "files")}
    write_card(
        start, card | {"problem": {"name": "classification"}, "backbone": {"name": "t", "type": "pretrained"}}
    )
    smaller = {"prune_layers": 1, "prune_heads": 0.5, "quantize": "int8"}
    student = train(tmp_path / "student", backbone, weight=1.0, start=start, compression=smaller)
    assert student["accuracy"] > 0.9
    config = json.loads((tmp_path / "student" / "model" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert config["catena_smaller"] == {"heads": [1], "int8": True}
    steps = read_card(tmp_path / "student" / "model")["compression"]["steps"]
    assert len(steps) == 3

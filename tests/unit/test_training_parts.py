"""Devices, methods, optimisers and class weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from catena.backbones import get_backbone
from catena.errors import CatenaError, ModelError, SettingsError
from catena.methods import Surroundings, get_method
from catena.problems import HeadSpec, get_problem
from catena.settings import MethodSettings, ProblemSettings, TrainingSettings
from catena.training.averaging import WeightAverage
from catena.training.checkpoints import load_checkpoint, restore_random_states, save_checkpoint
from catena.training.devices import choose_device
from catena.training.embedding import embed_texts
from catena.training.engine import Engine
from catena.training.finetune import TrainingData, class_weights
from catena.training.optimizers import build_optimizer, build_schedule
from catena.training.tokens import TokenTable, write_tokens
from tests.tiny_project import write_backbone

HEAD = HeadSpec("sequence-classification", ("bad", "good"))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


def build(folder: Path, dropout: float | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    return get_backbone("pretrained").build(folder, HEAD, dropout=dropout, attention="eager")


def adapt(model: torch.nn.Module, settings: MethodSettings) -> torch.nn.Module:
    return get_method(settings).prepare(model, Surroundings("classification", HEAD))


def test_the_head_has_the_classes_and_their_names(backbone: Path) -> None:
    model = build(backbone)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.classifier.out_features == 2


def test_dropout_reaches_the_whole_network(backbone: Path) -> None:
    model = build(backbone, dropout=0.35)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.35}


def test_full_trains_everything(backbone: Path) -> None:
    model = adapt(build(backbone), MethodSettings())
    assert all(weight.requires_grad for weight in model.parameters())


def test_top_layers_trains_the_head_and_the_last_layers(backbone: Path) -> None:
    model = adapt(build(backbone), MethodSettings(name="top_layers", layers=1))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any(name.startswith("classifier") for name in trained)
    assert any("encoder.layer.1." in name for name in trained)
    assert not any("encoder.layer.0." in name or "embeddings" in name for name in trained)


def test_more_top_layers_than_there_are_is_refused(backbone: Path) -> None:
    with pytest.raises(SettingsError, match="has only 2 layers"):
        adapt(build(backbone), MethodSettings(name="top_layers", layers=9))


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd", "rmsprop", "adagrad", "nadam", "radam"])
def test_every_optimiser_lowers_the_loss_and_survives_a_checkpoint(
    optimizer: str, backbone: Path, tmp_path: Path
) -> None:
    rate = 0.002 if optimizer == "rmsprop" else 0.02
    settings = TrainingSettings(optimizer=optimizer, learning_rate=rate, schedule="cosine")  # type: ignore[arg-type]

    def start() -> tuple[torch.nn.Module, torch.optim.Optimizer, object]:
        model = build(backbone, dropout=0.0)
        chosen = build_optimizer(model, settings)
        return model, chosen, build_schedule(chosen, settings, 20, True)

    ids = torch.randint(5, 60, (8, 12), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 2

    def step(model, chosen, schedule) -> float:  # type: ignore[no-untyped-def]
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits, labels)
        loss.backward()
        chosen.step()
        schedule.step()
        chosen.zero_grad()
        return loss.item()

    model, chosen, schedule = start()
    losses = [step(model, chosen, schedule) for _ in range(6)]
    assert min(losses[1:]) < losses[0]
    saved = save_checkpoint(
        tmp_path, 6, model=model, optimizer=chosen, schedule=schedule, scaler=None, state={}, texts={}
    )
    assert not list(saved.glob("*.pt")) and not list(saved.glob("*.bin"))
    straight = [step(model, chosen, schedule) for _ in range(3)]
    model, chosen, schedule = start()
    load_checkpoint(saved, model=model, optimizer=chosen, schedule=schedule, scaler=None)
    assert [step(model, chosen, schedule) for _ in range(3)] == straight


def test_random_states_of_chips_that_are_not_here_are_left_out(backbone: Path, tmp_path: Path) -> None:
    settings = TrainingSettings()
    model = build(backbone)
    chosen = build_optimizer(model, settings)
    saved = save_checkpoint(
        tmp_path, 1, model=model, optimizer=chosen, schedule=build_schedule(chosen, settings, 2, True),
        scaler=None, state={}, texts={},
    )  # fmt: skip
    wanted = torch.rand(3)
    state = json.loads((saved / "state.json").read_text())
    state["random"]["cuda"] = 64  # as on a machine with as many
    (saved / "state.json").write_text(json.dumps(state))
    if torch.cuda.is_available():
        pytest.skip("the states would have to be those of the chips that are here")
    restore_random_states(saved)
    assert torch.equal(torch.rand(3), wanted)


def test_biases_and_norms_are_not_decayed(backbone: Path) -> None:
    groups = build_optimizer(build(backbone), TrainingSettings(weight_decay=0.1)).param_groups
    assert {group["weight_decay"]: {weight.ndim > 1 for weight in group["params"]} for group in groups} == {
        0.1: {True},
        0.0: {False},
    }


def test_warm_up_rises_and_linear_falls_to_zero(backbone: Path) -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_ratio=0.2, schedule="linear")
    optimizer = build_optimizer(build(backbone), settings)
    schedule = build_schedule(optimizer, settings, 10, True)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SettingsError, match="PyTorch sees no CUDA"):
        choose_device("cuda")
    with pytest.raises(SettingsError, match="float16 needs CUDA"):
        choose_device("cpu", "float16")


def test_automatic_choice_names_its_reason() -> None:
    chosen = choose_device("cpu")
    assert chosen.precision in ("float32", "bfloat16")
    assert chosen.reason in str(chosen)


def test_balanced_weights_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 60 + [1] * 30 + [2] * 10
    write_tokens(tmp_path / "train.arrow", [{"input_ids": [[1]] * 100, "labels": labels}])
    table = TokenTable(tmp_path / "train.arrow")
    data = TrainingData(tmp_path, table, table, {"label_names": ["a", "b", "c"]})
    ours = class_weights(TrainingSettings(class_weights="balanced"), data, get_problem("classification"))
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert ours is not None
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)
    with pytest.raises(SettingsError, match="'z', which is no class"):
        class_weights(TrainingSettings(class_weights={"z": 2.0}), data, get_problem("classification"))


def test_weighted_and_smoothed_loss_is_the_hand_worked_one() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])
    problem = get_problem("classification")
    first, second = np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0))
    assert float(problem.loss(logits, labels)) == pytest.approx((first + second) / 2)
    # smoothing 0.2 over two classes: 0.9 of the true class's loss, 0.1 of the other's
    smooth = (0.9 * first + 0.1 * (first + 2.0) + 0.9 * second + 0.1 * (second - 1.0)) / 2
    assert float(problem.loss(logits, labels, label_smoothing=0.2)) == pytest.approx(smooth)


def test_embeddings_do_not_depend_on_what_else_is_in_the_batch(backbone: Path) -> None:
    texts = ["wheat harvest", "the dollar rate " * 8, "port", ""]
    together = embed_texts(backbone, texts, 32)
    alone = np.vstack([embed_texts(backbone, [text], 32) for text in texts])
    assert together.shape == (4, 24)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(together, alone, atol=0.02)  # bfloat16 where the machine has it


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'), "run code of its own"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "no .*safetensors",
        ),
        (lambda folder: cut(folder / "model.safetensors"), "weights in .* cannot be read"),
    ],
)
def test_a_damaged_backbone_gets_a_sentence(backbone: Path, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(backbone, folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        build(folder)
    assert isinstance(caught.value, CatenaError)
    assert "\n" not in str(caught.value)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_the_running_mean_is_the_hand_worked_one_and_leaves_the_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 0.0)
    average = WeightAverage(layer, decay=0.5)
    for step, value in enumerate((1.0, 2.0), start=1):
        torch.nn.init.constant_(layer.weight, value)
        average.update(step)
    # decays 2/11 and 3/12: 0 → 9/11 → 0.25 · 9/11 + 0.75 · 2
    expected = 0.25 * 9 / 11 + 1.5
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 2.0
    assert average.state()["weight"].item() == pytest.approx(expected)


def test_mean_pooling_is_the_mean_over_real_tokens_and_comes_back_from_disk(
    backbone: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    bones = get_backbone("pretrained")
    model = bones.build(backbone, HEAD, dropout=0.0, attention="eager", pooling="mean").eval()
    ids = torch.tensor([[2, 9, 11, 3, 0, 0], [2, 7, 8, 9, 10, 3]])
    mask = (ids != 0).long()
    with torch.inference_mode():
        hidden = bones.encoder(backbone, attention="eager")(ids, attention_mask=mask).last_hidden_state
        expected = model.classifier(torch.stack([hidden[0, :4].mean(0), hidden[1].mean(0)]))
        torch.testing.assert_close(model(ids, mask).logits, expected)
        model.save_pretrained(tmp_path / "m")
        again = bones.load(tmp_path / "m", HEAD, attention="eager")
        torch.testing.assert_close(again(ids, mask).logits, expected, rtol=0, atol=0)


def test_top_layers_finds_the_layers_of_a_mean_pooled_network(backbone: Path) -> None:
    model = get_backbone("pretrained").build(backbone, HEAD, dropout=None, attention="eager", pooling="mean")
    adapt(model, MethodSettings(name="top_layers", layers=1))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {
        name for name, _ in model.named_parameters() if "layer.1." in name or "classifier" in name
    }


def test_batches_of_a_step_count_by_what_their_loss_is_the_mean_of() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.2, 5.0])
    labels, logits = torch.tensor([0, 0, 0, 1, 1, 0]), torch.randn(6, 2)
    problem = get_problem(ProblemSettings(name="classification"))
    engine = SimpleNamespace(class_weights=weights, problem=problem)
    parts = [slice(0, 3), slice(3, 6)]
    shares = [Engine._weight(engine, labels[part]) for part in parts]  # type: ignore[arg-type]
    losses = [problem.loss(logits[part], labels[part], weights) for part in parts]
    together = sum(share * loss for share, loss in zip(shares, losses, strict=True)) / sum(shares)
    assert together.item() == pytest.approx(problem.loss(logits, labels, weights).item())
    engine.class_weights = None
    assert Engine._weight(engine, labels) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_class_weights_are_numbers_above_nothing(weight: float) -> None:
    with pytest.raises(ValueError, match="must be above 0, and finite"):
        TrainingSettings(class_weights={"a": weight})


def test_what_batch_normalisation_has_seen_is_averaged_with_the_weights() -> None:
    layer = torch.nn.BatchNorm1d(2)
    average = WeightAverage(layer, decay=0.5)
    layer.running_mean.fill_(4.0)  # type: ignore[union-attr,operator]
    average.update(20)
    with average.in_place():
        assert layer.running_mean.tolist() == [2.0, 2.0]  # type: ignore[union-attr,operator]
    assert layer.running_mean.tolist() == [4.0, 4.0]  # type: ignore[union-attr,operator]

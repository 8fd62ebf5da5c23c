"""What frozen layers say is kept on disk, and a training that begins with it ends in the same weights."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from catena.errors import SettingsError, StorageError
from catena.files import sha256_file
from catena.methods import Surroundings, get_method
from catena.problems import HeadSpec, get_problem
from catena.settings import MethodSettings, ProblemSettings, parse_settings
from catena.training.batches import Plan
from catena.training.devices import choose_device
from catena.training.frozen_outputs import Keeper
from catena.training.tokens import TokenTable
from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_training import Trained, stop_at, train, write_training

TOP = {"name": "top_layers", "layers": 1}
KEPT = TOP | {"cache": True}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kept(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """A training with kept outputs: its folder and its result."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, train(project, folder, KEPT)


def assert_same(one: Trained, other: Trained) -> None:
    """Equal within what adding floats in another order explains, weights and training curve."""
    torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-5)
    assert len(one[1].curve) == len(other[1].curve) > 0
    for ours, theirs in zip(one[1].curve, other[1].curve, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*.arrow"))


@pytest.mark.parametrize(("layers", "pooling"), [(0, "mean"), (0, "native"), (1, "native")])
def test_a_training_with_kept_outputs_ends_in_the_same_weights(
    layers: int, pooling: str, project: Path, tmp_path: Path
) -> None:
    """Dropout is on, so this also holds only because the frozen layers run without it either way."""
    method = TOP | {"layers": layers}
    backbone = {"name": "tiny", "pooling": pooling}
    plain = train(project, tmp_path / "plain", method, backbone=backbone)
    said: list[str] = []
    kept = train(
        project, tmp_path / "kept", method | {"cache": True}, backbone=backbone, say=said.append
    )  # fmt: skip
    assert_same(kept, plain)
    assert not entries(tmp_path / "plain")
    assert [line.split(":")[0] for line in said] == [
        "keeping what the frozen layers say of the train part",
        "keeping what the frozen layers say of the validation part",
    ]
    size = sum(path.stat().st_size for path in entries(tmp_path / "kept"))
    # 24 values of 4 bytes for each of about 90 × 12 tokens, or for each of 90 records
    assert (90 * 9 * 96 < size < 90 * 16 * 96) if layers else (90 * 96 < size < 90 * 96 + 12_000)


def test_what_is_kept_serves_the_next_training_and_only_one_of_the_same_kind(
    kept: tuple[Path, Trained], project: Path, tmp_path: Path
) -> None:
    folder, _ = kept
    cache = shutil.copytree(folder / "cache", tmp_path / "cache")
    said: list[str] = []
    other = {"learning_rate": 0.002, "batch_size": 8}
    before = entries(tmp_path)
    train(project, tmp_path / "next", KEPT, cache=cache, say=said.append, training=other)
    assert len(said) == 2 and all("is on disk already" in line for line in said)
    assert entries(tmp_path) == before and len(before) == 2
    train(project, tmp_path / "short", KEPT, cache=cache, training={"max_length": 8, "max_steps": 1})
    assert len(entries(tmp_path)) == 3, "shorter training texts are other outputs, validation texts are not"


def test_resumed_with_kept_outputs_or_without_them_the_weights_are_the_same_bit_for_bit(
    kept: tuple[Path, Trained], project: Path, tmp_path: Path
) -> None:
    every = {"checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(project, tmp_path, KEPT, training=every, on_row=stop_at(4))
    assert list((tmp_path / "checkpoints").glob("step-*"))
    for entry in entries(tmp_path):
        entry.unlink()  # as if other trainings had needed the room
    train(project, tmp_path, KEPT, training=every)
    assert sha256_file(tmp_path / "model" / "model.safetensors") == sha256_file(
        kept[0] / "model" / "model.safetensors"
    )


def test_killed_while_writing_nothing_half_written_is_used(
    kept: tuple[Path, Trained], project: Path, tmp_path: Path
) -> None:
    def limited(line: str) -> None:
        """From the first line on, the kernel kills the process that writes more than 20,000 bytes."""
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    child = os.fork()
    if child == 0:
        try:
            train(project, tmp_path, KEPT, say=limited)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGXFSZ
    assert not entries(tmp_path) and list((tmp_path / "cache").glob(".*.partial"))
    again = train(project, tmp_path, KEPT)
    assert_same(again, kept[1])
    assert len(entries(tmp_path)) == 2
    assert not list((tmp_path / "cache").glob(".*.partial")), "what the killed process left is removed"


@pytest.mark.parametrize("damage", ["cut off", "nonsense"])
def test_a_damaged_file_is_made_again(
    damage: str, kept: tuple[Path, Trained], project: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for entry in entries(kept[0]):
        content = entry.read_bytes()
        (cache / entry.name).write_bytes(content[: len(content) // 2] if damage == "cut off" else b"?" * 999)
    train(project, tmp_path, KEPT, training={"max_steps": 1})
    sound = {entry.name: entry.read_bytes() for entry in entries(kept[0])}
    assert {entry.name for entry in entries(tmp_path)} <= set(sound)
    assert all(entry.read_bytes() == sound[entry.name] for entry in entries(tmp_path))


def test_the_oldest_make_room_and_those_in_use_do_not(
    kept: tuple[Path, Trained], project: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, name in enumerate(("oldest", "older", "newest")):
        (cache / f"{name}.arrow").write_bytes(b"x" * 50_000)
        os.utime(cache / f"{name}.arrow", (number, number))
    needed = sum(entry.stat().st_size for entry in entries(kept[0]))
    # Estimates leave out what Arrow adds, so there is a margin.
    gigabytes = (needed + 100_000) / 1e9
    train(project, tmp_path, KEPT | {"cache_gigabytes": gigabytes}, training={"max_steps": 1})
    left = {entry.stem for entry in entries(tmp_path)}
    assert "newest" in left and "oldest" not in left and len(left - {"older", "newest"}) == 2


def test_more_than_is_allowed_is_refused_before_any_training(project: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"would keep about 0\.1 MB .* more than `method.cache_gigabytes`"
    ):
        train(project, tmp_path, KEPT | {"cache_gigabytes": 1e-5})
    assert not entries(tmp_path) and not (tmp_path / "checkpoints").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_room_is_said_in_a_sentence(small_disk: Path, project: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"where only 0\.1 MB are free; free some space or switch it off"):
        train(project, tmp_path, KEPT, cache=small_disk)
    assert not list(small_disk.glob("*.arrow"))


def test_two_trainings_at_once_make_it_once(project: Path, tmp_path: Path) -> None:
    children = []
    for name in ("one", "two"):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                said: list[str] = []
                train(project, tmp_path / name, KEPT, cache=tmp_path / "cache", say=said.append)
                (tmp_path / f"{name}.txt").write_text("\n".join(said), encoding="utf-8")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    made = [
        (tmp_path / f"{name}.txt").read_text(encoding="utf-8").count("keeping what")
        for name in ("one", "two")
    ]
    assert sorted(made) == [0, 2]
    assert sha256_file(tmp_path / "one" / "model" / "model.safetensors") == sha256_file(
        tmp_path / "two" / "model" / "model.safetensors"
    )


# -- other networks --------------------------------------------------------------------------------


def shortened(model: PreTrainedModel, settings: MethodSettings, **batch: torch.Tensor) -> torch.Tensor:
    """Largest difference of the logits of a whole pass and of one that begins with kept outputs."""
    method = get_method(settings)
    method.prepare(model, Surroundings("any", HeadSpec("any", ())))
    shortcut = method.shortcut(model, batch)
    model.eval()
    runs: list[torch.nn.Module] = []
    handles = [
        layer.register_forward_hook(lambda module, *_: runs.append(module)) for layer in model.modules()
    ]
    with torch.no_grad():
        whole = model(**batch).logits
        complete = len(runs)
        states = shortcut.states(batch)
        before = len(runs)
        with shortcut.starting(states):
            short = model(**batch).logits
    for handle in handles:
        handle.remove()
    assert len(runs) - before < complete, "the frozen layers were not skipped"
    return (whole - short).abs().max()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_causal_language_models_begin_above_their_frozen_layers(kind: str) -> None:
    ids = torch.randint(5, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    model = tiny_network(tiny_tokenizer(), kind)
    settings = MethodSettings(name="top_layers", layers=1, cache=True)
    assert shortened(model, settings, input_ids=ids, attention_mask=mask) == 0


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_networks_for_images_do_so_too(kind: str, layers: int) -> None:
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    model: Any
    if kind == "vit":
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        model = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes))
    else:
        model = ResNetForImageClassification(
            ResNetConfig(
                embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
            )
        )
    settings = MethodSettings(name="top_layers", layers=layers, cache=True)
    assert shortened(model, settings, pixel_values=torch.rand(3, 3, 16, 16)) < 1e-6


def test_what_trains_below_the_frozen_layers_is_found(project: Path) -> None:
    from catena.backbones import get_backbone

    head = HeadSpec("token-classification", ("O", "B-X"))
    model = get_backbone("pretrained").build(project / "backbone", head, dropout=None, attention="eager")
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 6, 7, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    method = get_method(MethodSettings(name="top_layers", layers=1, cache=True))
    method.prepare(model, Surroundings("tagging", head))
    method.shortcut(model, batch)
    with pytest.raises(SettingsError, match="something that trains lies below its frozen layers"):
        method.shortcut(model, batch | {"shape_ids": torch.ones_like(ids)})


def test_where_nothing_but_the_embeddings_is_frozen_there_is_nothing_to_keep(
    project: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="has nothing to keep"):
        train(project, tmp_path, KEPT | {"layers": 2})


@pytest.mark.parametrize(
    ("problem", "packed", "message"),
    [
        ({"name": "images", "augmentation": {"shift": 0.1}}, None, "`problem.augmentation` alters it each"),
        ({"name": "images"}, 32, "with `training.packing` they share rows"),
    ],
)
def test_records_that_change_or_share_rows_are_refused(
    problem: dict[str, Any], packed: int | None, message: str, project: Path, tmp_path: Path
) -> None:
    table = TokenTable(project / "tokens" / "train.arrow")
    keeper = Keeper(
        tiny_network(tiny_tokenizer()), get_problem(ProblemSettings.model_validate(problem)),
        choose_device("cpu", "float32"), 0, tmp_path, 1.0, print,
    )  # fmt: skip
    method = get_method(MethodSettings(name="top_layers", layers=1, cache=True))
    with pytest.raises(SettingsError, match=message):
        keeper.keep(method, project, table, table, Plan([[0]], [1], 1, packed))


@pytest.mark.parametrize("kind", ["pair-embedding", "sequence-to-sequence"])
def test_networks_that_read_twice_are_refused(kind: str) -> None:
    with pytest.raises(SettingsError, match=r"`method.cache` is not there for this network, because"):
        get_method(MethodSettings(name="top_layers", cache=True)).check("any", HeadSpec(kind, ()))


def test_kept_outputs_of_a_method_that_freezes_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="says nothing to full"):
        parse_settings({"method": {"name": "full", "cache": True}})

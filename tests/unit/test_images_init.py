"""`catena init` for images: what is recognised, what is refused, and that the files come along."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from catena.data.inspect import inspect_file, write_params
from catena.data.preparation import prepare
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import load_settings
from tests.drawn_images import write_folder


def settings_of(root: Path, path: Path, **options: object):
    inspection = inspect_file(path, **options)  # type: ignore[arg-type]
    params = write_params(inspection, root)
    return inspection, load_settings(params), YAML(typ="safe").load(params.read_text())


def arrays(count: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (count, 9, 9), dtype=np.uint8)
    return {"pixels": images, "index": np.arange(count), "target": np.arange(count) % 2}


def test_a_folder_with_train_and_test_becomes_settings_that_prepare(tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes/train", 25, seed=1)
    write_folder(tmp_path / "shapes/test", 5, seed=2)
    (tmp_path / "secret.png").write_bytes((tmp_path / "shapes/test/disc/001.png").read_bytes())
    (tmp_path / "shapes/train/disc/link.png").symlink_to(tmp_path / "secret.png")
    inspection, settings, values = settings_of(tmp_path, tmp_path / "shapes")
    assert inspection.classes == {"disc": 26, "cross": 25, "frame": 25}
    assert values["problem"]["images"] == {"size": 28, "colours": "rgb"}
    assert settings.backbone.input_size == 32
    prepared = prepare(settings, get_problem(settings.problem), tmp_path / "data/raw/shapes")
    assert len(prepared.parts["test"]) == 15
    assert prepared.rejected["reason"].tolist() == ["link out of the data folder"]


def test_a_folder_of_three_parts_gives_all_of_them(tmp_path: Path) -> None:
    for seed, (part, count) in enumerate({"train": 25, "val": 6, "test": 5, "extra": 1}.items()):
        write_folder(tmp_path / "shapes" / part, count, seed=seed)
    inspection, settings, values = settings_of(tmp_path, tmp_path / "shapes")
    assert {name: values["data"].get(name) for name in ("train", "validation", "test")} == {
        "train": "train",
        "validation": "val",
        "test": "test",
    }
    assert "validation_fraction" not in values["preparation"]
    assert inspection.notes == ("folder extra is left out, since it is no part that is known",)
    prepared = prepare(settings, get_problem(settings.problem), tmp_path / "data/raw/shapes")
    assert {name: len(part) for name, part in prepared.parts.items()} == {
        "train": 75,
        "validation": 18,
        "test": 15,
    }


def test_where_only_validation_pictures_lie_beside_those_for_training_they_are_the_test(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path / "shapes/train", 5, seed=1)
    write_folder(tmp_path / "shapes/val", 5, seed=2)
    inspection = inspect_file(tmp_path / "shapes")
    assert inspection.data.test == "val"
    assert inspection.data.validation is None
    assert inspection.notes == ("folder val is the test, since there is no other",)
    write_folder(tmp_path / "other/fresh", 5, seed=3)
    chosen = inspect_file(tmp_path / "shapes", test=tmp_path / "other/fresh")
    assert (chosen.data.validation, chosen.data.test) == ("val", "fresh")


def test_names_that_are_not_utf_8_are_made_so_in_the_copy(tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes", 25, seed=1)
    disc = tmp_path / "shapes/disc"
    content = (disc / "001.png").read_bytes()
    try:
        (disc / os.fsdecode(b"caf\xe9.png")).write_bytes(content)
    except OSError:
        pytest.skip("the file system wants names in UTF-8")
    disc.rename(tmp_path / "shapes" / os.fsdecode(b"d\xeesc"))
    inspection, settings, _ = settings_of(tmp_path, tmp_path / "shapes")
    assert inspection.classes == {r"d\xeesc": 26, "cross": 25, "frame": 25}
    copy = tmp_path / "data/raw" / settings.data.name
    assert (copy / "shapes" / r"d\xeesc" / r"caf\xe9.png").read_bytes() == content
    for file in copy.rglob("*"):
        file.name.encode("utf-8")
    (tmp_path / "shapes/cross" / os.fsdecode(b"\xe9.png")).write_bytes(content)
    (tmp_path / "shapes/cross" / r"\xe9.png").write_bytes(content)
    with pytest.raises(DataError, match=r"holds \\xe9\.png twice, once not in UTF-8"):
        write_params(inspect_file(tmp_path / "shapes"), tmp_path, force=True)


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes/train", 5, seed=1)
    write_folder(tmp_path / "shapes/val", 5, seed=2)
    write_folder(tmp_path / "other/train", 5, seed=3)
    with pytest.raises(DataError, match="Two folders are called train"):
        inspect_file(tmp_path / "shapes", test=tmp_path / "other/train")


def test_an_archive_has_its_arrays_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "dots.npz", **arrays(60))
    inspection, settings, values = settings_of(tmp_path, tmp_path / "dots.npz")
    assert values["data"]["columns"] == {"image": "pixels", "label": "target"}
    assert values["problem"]["images"] == {"size": 16, "colours": "grey"}
    assert inspection.classes == {"0": 30, "1": 30}
    prepared = prepare(settings, get_problem(settings.problem), tmp_path / "data/raw/dots")
    assert sum(map(len, prepared.parts.values())) == 60
    named = inspect_file(tmp_path / "dots.npz", columns={"label": "index"})
    assert len(named.classes) == 60
    with pytest.raises(DataError, match="has no column 'targets' for --label, only"):
        inspect_file(tmp_path / "dots.npz", label="targets")


def test_an_array_file_brings_its_labels_along(tmp_path: Path) -> None:
    found = arrays(60)
    np.save(tmp_path / "train-images.npy", found["pixels"])
    with pytest.raises(DataError, match=r"Beside train-images\.npy there is no file"):
        inspect_file(tmp_path / "train-images.npy")
    np.save(tmp_path / "train-labels.npy", found["target"])
    _, settings, _ = settings_of(tmp_path, tmp_path / "train-images.npy")
    raw = tmp_path / "data/raw" / settings.data.name
    assert {path.name for path in raw.iterdir()} == {"train-images.npy", "train-labels.npy"}
    prepare(settings, get_problem(settings.problem), raw)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ({"labels": np.arange(5)}, "holds no images"),
        ({"images": np.zeros((5, 4, 4), np.uint8)}, "holds no array with one label for each"),
    ],
)
def test_archives_without_images_or_labels_are_refused(
    tmp_path: Path, contents: dict[str, np.ndarray], sentence: str
) -> None:
    np.savez(tmp_path / "a.npz", **contents)
    with pytest.raises(DataError, match=sentence):
        inspect_file(tmp_path / "a.npz")


def test_a_folder_of_nothing_but_pictures_is_told_to_make_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes", 2, seed=1)
    with pytest.raises(DataError, match="put those of each class into a folder"):
        inspect_file(tmp_path / "shapes/disc")

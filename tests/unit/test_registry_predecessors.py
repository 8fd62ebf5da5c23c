"""The models that a training began with or learned from come along where a version is rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from catena.errors import RegistryError
from catena.files import sha256_folder
from catena.layout import Layout
from catena.methods.base_reference import BaseReference, base_of
from catena.model_folder import write_card
from catena.registry.predecessors import bring_predecessors, predecessors
from catena.settings import load_settings
from tests.tiny_model import LABELS, tiny_card, write_params
from tests.tiny_project import write_backbone

TAUGHT = {"name": "full", "distillation": {"teacher": "models/teacher"}}


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    """A project whose teacher is an adapter, for a backbone that its student does not stand on."""
    layout = Layout(tmp_path / "project")
    layout.root.mkdir()
    write_params(layout.root, method=TAUGHT, backbone={"name": "other", "source": "folder:other"})
    write_backbone(layout.backbone("tiny"))
    teacher = layout.root / "models" / "teacher"
    teacher.mkdir()
    BaseReference.of(layout.backbone("tiny"), "folder:tiny").write(teacher)
    (teacher / "adapter.safetensors").write_bytes(b"weights")
    write_card(teacher, tiny_card(LABELS, "f"))
    return layout


def recorded(project: Layout) -> dict[str, Any]:
    found = predecessors(load_settings(project.params), project)
    return {"predecessors": {role: one.described for role, one in found.items()}}


def copied(project: Layout, folder: Path) -> Layout:
    folder.mkdir()
    shutil.copyfile(project.params, folder / "params.yaml")
    return Layout(folder)


def test_an_adapter_brings_the_backbone_that_it_is_for(project: Layout, tmp_path: Path) -> None:
    copy = copied(project, tmp_path / "copy")
    lines: list[str] = []
    bring_predecessors(recorded(project), project, copy, lines.append)
    assert lines == ["teacher: models/teacher"]
    named = load_settings(copy.params).method.distillation.teacher
    assert named == "models/predecessors/teacher"
    base = base_of(copy.root / named)
    assert base is not None and base.find(copy.root / named).is_dir()
    assert sha256_folder(copy.backbone("tiny")) == sha256_folder(project.backbone("tiny"))


def test_what_cannot_be_had_or_has_changed_is_named(project: Layout, tmp_path: Path) -> None:
    document = recorded(project)
    teacher = project.root / "models" / "teacher"
    weights = project.backbone("tiny") / "model.safetensors"
    moved = weights.rename(weights.with_suffix(".aside"))
    with pytest.raises(RegistryError, match=r"teacher` \(models/teacher\) cannot be had"):
        bring_predecessors(document, project, copied(project, tmp_path / "without"), print)
    moved.rename(weights)
    (teacher / "adapter.safetensors").write_bytes(b"others.")
    (teacher / "catena.json").unlink()
    write_card(teacher, tiny_card(LABELS, "f"))
    with pytest.raises(RegistryError, match="is not the one of that time: its weights have the SHA-256"):
        bring_predecessors(document, project, copied(project, tmp_path / "changed"), print)
    shutil.rmtree(teacher)
    with pytest.raises(RegistryError, match="There is no model folder"):
        bring_predecessors(document, project, copied(project, tmp_path / "gone"), print)

"""Rebuilding a registered version from what was recorded of it, with real Git, DVC and stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catena.errors import RegistryError
from catena.layout import Layout
from catena.registry import lineage, reproduce
from tests.tiny_project import environment, run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose version 1 came from a work tree with changes that were never committed."""
    folder = Path(shutil.copytree(tiny_template, tmp_path_factory.mktemp("reproduce") / "project"))
    params = folder / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("seed: 7", "seed: 11"), encoding="utf-8")
    (folder / "notes.txt").write_text("never committed\n", encoding="utf-8")
    run(folder, "python", "-m", "dvc", "repro", "-q")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        for name in ("MLFLOW_TRACKING_URI", "CATENA_REGISTRY_WAIT"):
            patch.delenv(name, raising=False)
        yield folder


def test_a_version_is_rebuilt_bit_for_bit_after_the_project_has_moved_on(project: Path) -> None:
    layout = Layout(project)
    told = lineage("models:/tiny/1", layout)
    assert told["git"]["commit"] == run(project, "git", "rev-parse", "HEAD").stdout.strip()
    assert told["git"]["dirty"]
    assert told["params"]["seed"] == 11
    assert told["data"]["raw"]["data/raw/tiny"].endswith(".dir")
    # Life goes on: other parameters, a new commit, and the raw data is no longer checked out.
    params = project / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("epochs: 1", "epochs: 2"), encoding="utf-8")
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-q", "-m", "onwards")
    shutil.rmtree(project / "data" / "raw" / "tiny")
    before = run(project, "git", "status", "--porcelain").stdout
    lines: list[str] = []

    result = reproduce("models:/tiny@champion", layout, report=lines.append)

    assert result.verdict == "identical", json.dumps(result.as_dict(), indent=1)
    assert result.uri == "models:/tiny/1"
    assert result.weights_rebuilt == told["weights_sha256"]
    assert result.metrics["accuracy"] == (told["metrics"]["accuracy"],) * 2
    assert result.largest_difference == 0.0
    assert result.environment == {}
    assert any("with its recorded difference" in line for line in lines)
    assert any("Running stage 'train'" in line for line in lines)
    assert run(project, "git", "status", "--porcelain").stdout == before, "the project is left alone"


def test_data_that_nobody_has_any_more_are_missed_in_one_sentence(project: Path) -> None:
    cache = project / ".dvc" / "cache"
    cache.rename(cache.with_name("elsewhere"))
    try:
        with pytest.raises(RegistryError, match=r"data/raw/tiny of that time cannot be had"):
            reproduce("models:/tiny/1", Layout(project))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        cache.with_name("elsewhere").rename(cache)


def test_a_commit_that_is_not_here_is_named(project: Path) -> None:
    packaged = next((project / "mlartifacts" / "models").glob("*/artifacts/lineage/lineage.json"))
    document = packaged.read_text(encoding="utf-8")
    commit = json.loads(document)["git"]["commit"]
    packaged.write_text(document.replace(commit, "0" * 40), encoding="utf-8")
    try:
        with pytest.raises(RegistryError, match=r"Commit 0{40} of models:/tiny/1 is not in this repository"):
            reproduce("models:/tiny/1", Layout(project))
    finally:
        packaged.write_text(document, encoding="utf-8")

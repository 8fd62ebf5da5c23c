"""Hub data sets and models, fetched by the hub's own libraries from a server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from catena.data.fetch import fetch_backbone, fetch_data
from catena.errors import DataError, ModelError, SettingsError
from catena.layout import Layout
from catena.settings import parse_settings
from tests.hub_server import COMMIT, serve_hub

FETCH = """
import sys
from pathlib import Path
from catena.data.fetch import fetch_backbone, fetch_data
from catena.errors import CatenaError
from catena.layout import Layout
from catena.settings import load_settings
layout = Layout(Path.cwd())
settings = load_settings(layout.params)
try:
    (fetch_data if sys.argv[1] == "data" else fetch_backbone)(settings, layout)
except CatenaError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def fetch(project: Path, what: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a process of its own, because the libraries read the hub's address when imported."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(project / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", FETCH, what],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_data_set_arrives_as_parquet_with_class_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    repository = tmp_path / "repository"
    for split, labels in (("train", [0, 1, 1]), ("test", [1, 0])):
        rows = {"text": [f"{split} {number}" for number in range(len(labels))], "label": labels}
        Dataset.from_dict(rows, features=features).to_parquet(
            str(repository / "data" / f"{split}-00000-of-00001.parquet")
        )
    project = tmp_path / "project"
    project.mkdir()
    params = (
        f"data: {{name: reviews, source: 'hub:acme/reviews', revision: {COMMIT}, train: train.parquet}}\n"
    )
    (project / "params.yaml").write_text(params, encoding="utf-8")
    with serve_hub(repository, "acme/reviews", "datasets") as endpoint:
        done = fetch(project, "data", endpoint)
        assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(project / "data/raw/reviews/train.parquet")
    assert frame.to_dict("list") == {
        "text": ["train 0", "train 1", "train 2"],
        "label": ["bad", "good", "good"],
    }
    assert len(pd.read_parquet(project / "data/raw/reviews/test.parquet")) == 2
    again = fetch(project, "data", "http://127.0.0.1:9")  # nothing listens there, and nothing is asked
    assert again.returncode == 0, again.stderr


def test_a_hub_model_arrives_without_pickle_and_code(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "pytorch_model.bin",
        "modeling_evil.py",
    ):
        (repository / name).write_bytes(name.encode())
    project = tmp_path / "project"
    project.mkdir()
    params = f"backbone: {{name: tiny, source: 'hub:acme/tiny', revision: {COMMIT}}}\n"
    (project / "params.yaml").write_text(params, encoding="utf-8")
    with serve_hub(repository, "acme/tiny", "models") as endpoint:
        done = fetch(project, "backbone", endpoint)
    assert done.returncode == 0, done.stderr
    there = sorted(path.name for path in (project / "models/backbones/tiny").iterdir())
    assert there == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_hub_that_does_not_know_the_name_is_one_sentence(tmp_path: Path) -> None:
    params = f"data: {{name: x, source: 'hub:acme/none', revision: {COMMIT}}}\n"
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    (tmp_path / "repository").mkdir()
    with serve_hub(tmp_path / "repository", "acme/other", "datasets") as endpoint:
        done = fetch(tmp_path, "data", endpoint)
    assert done.returncode == 1
    assert "DataError: acme/none cannot be fetched from the hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_branch_is_no_commit(tmp_path: Path) -> None:
    settings = parse_settings({"data": {"name": "x", "source": "hub:acme/reviews", "revision": "main"}})
    with pytest.raises(SettingsError, match=r"a full commit of acme/reviews .* not 'main'"):
        fetch_data(settings, Layout(tmp_path))


def test_a_backbone_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "own"
    source.mkdir()
    (source / "config.json").write_text("{}", encoding="utf-8")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    settings = parse_settings({"backbone": {"name": "own-copy", "source": "folder:own"}})
    with pytest.raises(ModelError, match=r"holds no \*.safetensors weights"):
        fetch_backbone(settings, Layout(tmp_path))
    (source / "model.safetensors").write_bytes(b"weights")
    target = fetch_backbone(settings, Layout(tmp_path))
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.safetensors"]


def test_a_missing_backbone_folder_is_named(tmp_path: Path) -> None:
    settings = parse_settings({"backbone": {"name": "own", "source": "folder:nowhere"}})
    with pytest.raises(ModelError, match=r"there is no folder .*nowhere"):
        fetch_backbone(settings, Layout(tmp_path))


def test_data_without_a_source_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    settings = parse_settings({"data": {"name": "mine"}})
    with pytest.raises(DataError, match=r"data/raw/mine is missing and `data.source` names no place"):
        fetch_data(settings, Layout(tmp_path))

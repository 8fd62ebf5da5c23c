"""What is recorded of a project's sources and data, with a real Git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from catena.errors import DataError
from catena.layout import Layout
from catena.registry.provenance import (
    LARGEST_UNTRACKED,
    data_hashes,
    data_inputs,
    package_versions,
    source_state,
    user,
)
from catena.registry.store import shown_uri
from catena.registry.tracking import flatten
from catena.settings import parse_settings

SETTINGS = parse_settings({"data": {"name": "tiny"}})


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Tiny")
    git(folder, "config", "user.email", "tiny@example.com")
    (folder / "train.py").write_text("print(1)\n")
    (folder / "gone.py").write_text("pass\n")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    return folder


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    state = source_state(repository)
    assert state.commit == git(repository, "rev-parse", "HEAD").strip()
    assert not state.dirty
    assert state.patch_sha256 is None


def test_the_recorded_difference_applied_to_the_commit_gives_the_tree_again(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "train.py").write_text("print(2)\n")
    (repository / "gone.py").unlink()
    (repository / "über neu.py").write_text("x = 1\n")
    (repository / "weights.bin").write_bytes(bytes(range(256)))
    (repository / "data").mkdir()
    (repository / "data" / "ignored.csv").write_text("a,b\n")
    git(repository, "add", "train.py")
    before = git(repository, "status", "--porcelain")

    state = source_state(repository)

    assert git(repository, "status", "--porcelain") == before, "the index must stay as it was"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    (tmp_path / "patch").write_bytes(state.patch)
    git(clone, "apply", "--binary", str(tmp_path / "patch"))
    assert (clone / "train.py").read_text() == "print(2)\n"
    assert (clone / "über neu.py").read_text() == "x = 1\n"
    assert (clone / "weights.bin").read_bytes() == bytes(range(256))
    assert not (clone / "gone.py").exists()
    assert not (clone / "data").exists()


def test_a_changed_lock_file_alone_does_not_make_a_tree_dirty(repository: Path) -> None:
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert not source_state(repository).dirty


def test_a_large_untracked_file_is_named_instead_of_recorded(repository: Path) -> None:
    with (repository / "huge.csv").open("wb") as stream:
        stream.truncate(LARGEST_UNTRACKED + 1)
    state = source_state(repository)
    assert state.omitted == ("huge.csv",)
    assert state.dirty
    assert state.patch == b""


def test_a_project_below_the_top_of_its_repository_records_the_whole_difference(repository: Path) -> None:
    project = repository / "models" / "news"
    project.mkdir(parents=True)
    (project / "params.yaml").write_text("seed: 1\n")
    (project / "dvc.lock").write_text("schema: '2.0'\n")
    state = source_state(project)
    assert state.prefix == "models/news/"
    assert b"models/news/params.yaml" in state.patch
    assert b"dvc.lock" not in state.patch


def test_outside_git_there_is_no_commit_and_no_error(tmp_path: Path) -> None:
    state = source_state(tmp_path)
    assert state.commit is None
    assert not state.dirty


def test_the_hashes_of_data_are_those_of_dvc(tmp_path: Path) -> None:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "tiny.dvc").write_text("outs:\n- md5: aaa.dir\n  path: tiny\n")
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  prepare:\n    deps:\n    - {path: data/raw/tiny, md5: aaa.dir}\n"
        "    outs:\n    - {path: data/prepared, md5: bbb.dir}\n"
        "  tokenize:\n    deps:\n    - {path: models/backbones/tiny, md5: ccc.dir}\n"
        "    - {path: tasks/tokenize.py, md5: ddd}\n"
        "  train:\n    outs:\n    - {path: models/candidate, md5: eee.dir}\n"
        # of the version registered before
        "  register:\n    deps:\n    - {path: models/candidate, md5: old.dir}\n"
        "    outs:\n    - {path: reports/registry.json, md5: old}\n"
    )
    hashes = data_hashes(SETTINGS, Layout(tmp_path))
    assert hashes == {
        "raw": {"data/raw/tiny": "aaa.dir"},
        "prepare": {"data/prepared": "bbb.dir"},
        "tokenize.reads": {"models/backbones/tiny": "ccc.dir"},
        "train": {"models/candidate": "eee.dir"},
    }


@pytest.mark.parametrize(
    "content", ["", "stages:\n", "stages: {prepare: {deps: }}\n", "stages: {prepare: }\n"]
)
def test_a_lock_file_of_nothing_has_no_hashes(tmp_path: Path, content: str) -> None:
    (tmp_path / "dvc.lock").write_text(content)
    assert data_hashes(SETTINGS, Layout(tmp_path)) == {}


def test_a_damaged_lock_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(DataError, match=r"dvc\.lock is damaged"):
        data_hashes(SETTINGS, Layout(tmp_path))


def test_the_digest_of_a_part_is_the_md5_of_its_file(tmp_path: Path) -> None:
    import hashlib
    import json

    import pandas as pd

    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    table = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"], "label": ["1", "2"], "row": [1, 2]})
    table.to_parquet(prepared / "train.parquet")
    (inputs,) = data_inputs(SETTINGS, Layout(tmp_path))
    assert inputs["name"] == "tiny/train"
    assert inputs["context"] == "training"
    content = (prepared / "train.parquet").read_bytes()
    assert inputs["digest"] == hashlib.md5(content).hexdigest()  # noqa: S324
    assert json.loads(inputs["profile"])["num_rows"] == 2
    kinds = {c["name"]: c["type"] for c in json.loads(inputs["schema"])["mlflow_colspec"]}
    assert kinds == {"id": "string", "text": "string", "label": "string", "row": "long"}


def test_parameters_are_flattened_and_unset_ones_left_out() -> None:
    assert flatten({"a": {"b": 1, "c": None, "d": {"e": (1, 2)}}, "f": "x", "g": {}}) == {
        "a.b": 1,
        "a.d.e": (1, 2),
        "f": "x",
        "g": {},
    }


def test_the_versions_of_the_packages_that_compute_are_known() -> None:
    assert {"python", "torch", "transformers", "numpy"} <= package_versions().keys()


def test_no_setting_of_git_changes_the_recorded_difference(repository: Path) -> None:
    (repository / "train.py").write_text("print(2)\n")
    wanted = source_state(repository).patch
    for name, value in (("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("diff.context", "0")):
        git(repository, "config", name, value)
    assert source_state(repository).patch == wanted


def test_secrets_and_other_repositories_are_no_source(repository: Path) -> None:
    (repository / ".env").write_text("TOKEN=very-secret\n")
    (repository / "deploy").mkdir()
    (repository / "deploy" / "server.key").write_text("very-secret\n")
    (repository / "other").mkdir()
    git(repository / "other", "init", "-q")
    (repository / "other" / "a.py").write_text("pass\n")
    state = source_state(repository)
    assert sorted(state.omitted) == [".env", "deploy/server.key"]
    assert b"very-secret" not in state.patch


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4321")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert user().isdecimal()


def test_an_address_is_shown_without_its_password() -> None:
    assert shown_uri("http://me:s3cret@host:5000/a@b") == "http://host:5000/a@b"
    assert shown_uri("http://me:p@ss@host:5000") == "http://host:5000"
    assert shown_uri("sqlite:///mlflow.db") == "sqlite:///mlflow.db"

"""Errors of the store that are found before MLflow is even imported, and small pure functions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from catena.errors import ModelError, RegistryError
from catena.layout import Layout
from catena.registry.lineage import read_document
from catena.registry.promotion import champions
from catena.registry.registration import read_report
from catena.registry.reproduction import environment_changes, pair_metrics, verdict
from catena.registry.store import WAIT_VARIABLE, artifact_location, connect, sqlite_file, tracking_uri
from catena.registry.versions import model_folder, resolve


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(WAIT_VARIABLE, "0.2")
    return Layout(tmp_path)


def test_the_store_is_a_file_in_the_project_unless_the_environment_names_another(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri(layout) == f"sqlite:///{layout.root}/mlflow.db"
    assert artifact_location(layout, tracking_uri(layout)) == f"file://{layout.root}/mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert tracking_uri(layout) == "http://mlflow.example:5000"
    assert artifact_location(layout, tracking_uri(layout)) is None
    assert sqlite_file(tracking_uri(layout)) is None


def test_a_locked_database_gets_one_sentence_after_the_wait(layout: Layout) -> None:
    database = layout.root / "mlflow.db"
    with sqlite3.connect(database, isolation_level=None) as holder:
        holder.execute("CREATE TABLE runs (id)")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RegistryError, match=r"mlflow\.db is locked by another process \(waited 0\.2 s\)"):
            connect(layout)
        with pytest.raises(RegistryError, match="is locked"):
            connect(layout, write=False)
    holder.close()


def test_reading_does_not_wait_for_a_writer_that_has_not_committed(layout: Layout) -> None:
    from catena.registry.store import _probe

    database = layout.root / "mlflow.db"
    with sqlite3.connect(database, isolation_level=None) as holder:
        holder.execute("CREATE TABLE runs (id)")
        holder.execute("BEGIN IMMEDIATE")
        _probe(database, write=False)
        with pytest.raises(RegistryError, match="is locked"):
            _probe(database, write=True)
    holder.close()


def test_a_file_that_is_no_database_is_named(layout: Layout) -> None:
    (layout.root / "mlflow.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(RegistryError, match="is not a usable registry database"):
        connect(layout)


def test_reading_a_registry_that_does_not_exist_does_not_create_one(layout: Layout) -> None:
    with pytest.raises(RegistryError, match=r"no model registry at .*run the pipeline first"):
        model_folder("models:/tiny@champion", layout)
    assert not (layout.root / "mlflow.db").exists()


def test_a_wait_that_is_no_number_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (layout.root / "mlflow.db").touch()
    monkeypatch.setenv(WAIT_VARIABLE, "long")
    with pytest.raises(RegistryError, match="must be a number of seconds, not 'long'"):
        connect(layout)


@pytest.mark.parametrize("uri", ["models:/", "models:/tiny", "models:/tiny/latest", "tiny@champion"])
def test_a_uri_of_another_form_is_refused_with_the_right_one(layout: Layout, uri: str) -> None:
    with pytest.raises(RegistryError, match="write models:/NAME@champion or models:/NAME/3"):
        resolve(uri, layout)


def test_a_folder_is_found_inside_a_packaged_model(layout: Layout) -> None:
    packaged = layout.root / "packaged"
    inner = packaged / "data" / "candidate"
    inner.mkdir(parents=True)
    (inner / "catena.json").write_text("{}")
    (packaged / "MLmodel").write_text("flavors:\n  python_function: {data: data/candidate}\n")
    assert model_folder(packaged, layout) == inner
    assert model_folder(inner, layout) == inner


def test_a_folder_that_is_no_model_is_refused(layout: Layout) -> None:
    (layout.root / "other").mkdir()
    (layout.root / "other" / "MLmodel").write_text("flavors:\n  python_function: {loader_module: x}\n")
    with pytest.raises(ModelError, match="was not packaged by Catena"):
        model_folder(layout.root / "other", layout)
    for content in ("", "[]", "flavors:\n"):
        (layout.root / "other" / "MLmodel").write_text(content)
        with pytest.raises(ModelError, match="was not packaged by Catena"):
            model_folder(layout.root / "other", layout)
    (layout.root / "other" / "MLmodel").write_text("flavors: [")
    with pytest.raises(ModelError, match="MLmodel is damaged"):
        model_folder(layout.root / "other", layout)
    with pytest.raises(ModelError, match="There is no model folder"):
        model_folder(layout.root / "nowhere", layout)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": "tiny"}'])
def test_a_damaged_report_is_named(layout: Layout, content: str) -> None:
    layout.registry_report.parent.mkdir(parents=True)
    layout.registry_report.write_text(content)
    with pytest.raises(RegistryError, match=r"registry\.json is damaged"):
        read_report(layout)


def test_a_missing_report_says_which_stage_writes_it(layout: Layout) -> None:
    with pytest.raises(RegistryError, match="run the register stage first"):
        read_report(layout)


def test_a_model_without_lineage_is_named(layout: Layout) -> None:
    with pytest.raises(RegistryError, match="models:/tiny/1 carries no lineage"):
        read_document(layout.root, "models:/tiny/1")


def event(kind: str, version: str) -> dict[str, str]:
    return {"event": kind, "version": version}


def test_rolling_back_step_by_step_retraces_the_champions() -> None:
    events = [event("promoted", "1"), event("promoted", "2"), event("promoted", "5")]
    assert champions(events) == ["1", "2", "5"]
    events.append(event("rolled back", "2"))
    assert champions(events) == ["1", "2"]
    events.append(event("rolled back", "1"))
    assert champions(events) == ["1"]
    events.append(event("promoted", "6"))
    assert champions(events) == ["1", "6"]


def test_weights_and_metrics_decide_whether_a_rebuilt_model_is_the_same() -> None:
    metrics = {"accuracy": 0.9, "macro_f1": 0.8}
    same = pair_metrics(metrics, metrics)
    assert verdict(True, same, 0.01) == "identical"
    assert verdict(False, same, 0.01) == "equivalent"
    near = pair_metrics(metrics, {"accuracy": 0.905, "macro_f1": 0.8})
    assert verdict(False, near, 0.01) == "equivalent"
    assert verdict(True, near, 0.001) == "different"
    missing = pair_metrics(metrics, {"accuracy": 0.9})
    assert missing["macro_f1"] == (0.8, None)
    assert verdict(True, missing, 0.01) == "different"


def test_what_differs_between_two_machines_is_listed() -> None:
    then = {"packages": {"torch": "2.13.0", "numpy": "2.4.6"}, "processor": "A"}
    now = {"packages": {"torch": "2.14.0", "numpy": "2.4.6", "dvc": "3.67.1"}, "processor": "A"}
    assert environment_changes(then, now) == {"dvc": ("(absent)", "3.67.1"), "torch": ("2.13.0", "2.14.0")}

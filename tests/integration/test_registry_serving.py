"""A packaged model loads and serves in processes that know nothing of this project."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from catena.errors import RegistryError, StorageError
from catena.layout import Layout
from catena.predictor import Predictor
from catena.registry.packaging import log_model
from catena.registry.registration import register_candidate
from catena.registry.tracking import continue_run, open_run, read_run_record
from catena.registry.versions import Registry
from catena.settings import load_settings
from tests.tiny_model import build_tiny_model, write_params, write_tiny_predictions

pytestmark = pytest.mark.integration

TEXTS = ["wheat and barley from the port", "the bank said the dollar rate fell"]

LOADER = """
import json, sys
assert not any(name == "catena" or name.startswith("catena.") for name in sys.modules)
import mlflow
model = mlflow.pyfunc.load_model("models:/tiny@champion")
import catena
table = model.predict({"text": json.loads(sys.argv[1])})
print(json.dumps({"catena": catena.__file__, "rows": table.to_dict("records"),
                  "signature": [column.name for column in model.metadata.signature.outputs.inputs],
                  "example": model.input_example.to_dict("list")}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose champion is a tiny model."""
    root = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("CATENA_REGISTRY_WAIT", "1")
        write_params(root, gate={"floors": {"accuracy": 0.5}})
        layout = Layout(root)
        build_tiny_model(layout.candidate)
        write_tiny_predictions(root)
        register_candidate(load_settings(layout.params), layout)
        yield root


@pytest.fixture(scope="module")
def expected(project: Path) -> list[dict[str, Any]]:
    """What the one predictor says."""
    predicted = Predictor.load(Layout(project).candidate).predict(TEXTS)
    return predicted.drop(columns=["n_tokens", "truncated"]).to_dict("records")  # type: ignore[return-value]


def foreign_environment(project: Path) -> dict[str, str]:
    """Installed packages, but neither this checkout nor an editable install of it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


def close(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[key] == (wanted[key] if isinstance(wanted[key], str) else pytest.approx(wanted[key], abs=1e-6))
        for key in wanted
    )


def test_a_process_that_never_imported_catena_loads_the_champion_with_the_code_it_carries(
    project: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADER, json.dumps(TEXTS)],
        cwd=tmp_path,
        env=foreign_environment(project),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["catena"]).is_relative_to(project / "mlartifacts"), "not this checkout's copy"
    assert all(close(*pair) for pair in zip(told["rows"], expected, strict=True))
    assert told["signature"] == ["prediction", "confidence", "p:grain", "p:money", "p:ship"]
    assert len(told["example"]["text"]) == 3


def test_no_file_of_a_registered_model_is_a_pickle(project: Path) -> None:
    suffixes = {path.suffix for path in (project / "mlartifacts").rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def test_mlflow_serves_the_champion_in_each_of_its_request_formats(
    project: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    port, log = _free_port(), tmp_path / "serve.log"
    words = ["models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", *words],
            cwd=tmp_path,
            env=foreign_environment(project),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(process, f"http://127.0.0.1:{port}/ping", log)
        for payload in (
            {"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}},
            {"dataframe_records": [{"text": text} for text in TEXTS]},
            {"inputs": TEXTS},
            {"inputs": {"text": TEXTS}},
        ):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                json.dumps(payload).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                rows = json.loads(answer.read())["predictions"]
            assert all(close(*pair) for pair in zip(rows, expected, strict=True)), payload
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


# What goes wrong while a run is under way.


def test_a_run_is_kept_whole_across_a_training_that_was_killed(project: Path) -> None:
    layout = Layout(project)
    settings = load_settings(layout.params)
    fingerprint = "a" * 64
    with open_run(settings, layout, fingerprint, resume=False) as run:
        run.log_metrics({"loss": 3.0}, 1)
        run.log_metrics({"loss": 2.0, "odd": float("nan")}, 2)
        run.flush()
        first = run.run_id
        record = layout.run_record(fingerprint).read_text()
        client = run.client
    # As `kill -9` leaves it: the store and the record still say that the run is under way.
    client.update_run(first, status="RUNNING")
    layout.run_record(fingerprint).write_text(record)
    with open_run(settings, layout, fingerprint, resume=True) as run:
        assert run.run_id == first
        run.log_metrics({"loss": 2.0}, 2)
        run.log_metrics({"loss": 1.0}, 3)
    points = [(point.step, point.value) for point in client.get_metric_history(first, "loss")]
    assert points == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert client.get_run(first).info.status == "FINISHED"
    assert client.get_run(first).data.params["gate.floors.accuracy"] == "0.5"
    with open_run(settings, layout, fingerprint, resume=True) as run:
        assert run.run_id != first, "a finished run is not resumed"


def test_a_failed_training_is_told_from_a_finished_one(project: Path) -> None:
    layout = Layout(project)
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(load_settings(layout.params), layout, "b" * 64, resume=False) as run,
    ):
        raise KeyboardInterrupt
    assert run.client.get_run(run.run_id).info.status == "KILLED"
    assert read_run_record(layout, "b" * 64)["status"] == "KILLED"


def test_a_database_locked_in_the_middle_costs_no_metric_if_it_is_free_at_the_end(project: Path) -> None:
    layout = Layout(project)
    with continue_run(load_settings(layout.params), layout, "0" * 64) as run:
        run.log_metrics({"kept": 1.0}, 1)
        holder = sqlite3.connect(project / "mlflow.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("ROLLBACK")
        holder.close()
    assert run.client.get_run(run.run_id).data.metrics["kept"] == 1.0


def test_a_locked_registry_stops_registering_in_one_sentence(project: Path) -> None:
    layout = Layout(project)
    before = layout.registry_report.read_bytes()
    holder = sqlite3.connect(project / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RegistryError, match="is locked by another process"):
            register_candidate(load_settings(layout.params), layout)
    finally:
        holder.close()
    assert layout.registry_report.read_bytes() == before


def test_a_disk_that_fills_up_while_recording_is_told(project: Path) -> None:
    layout = Layout(project)

    def no_more_pages(connection: Any, *_: object) -> None:
        # SQLite never goes below the present size, so the file just cannot grow any more.
        connection.execute("PRAGMA max_page_count = 1")

    def room_again(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1000000")

    with continue_run(load_settings(layout.params), layout, "0" * 64) as run:
        event.listen(Pool, "checkout", no_more_pages)
        try:
            with pytest.raises(StorageError, match="The disk is full while writing the registry database"):
                run.log_params({f"parameter{number}": "x" * 5000 for number in range(100)})
        finally:
            event.remove(Pool, "checkout", no_more_pages)
            event.listen(Pool, "checkout", room_again)
    event.remove(Pool, "checkout", room_again)
    assert "parameter1" not in run.client.get_run(run.run_id).data.params


def test_an_unreachable_server_gets_one_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{_free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow server at http://127\.0\.0\.1:\d+ does not answer"):
        Registry.open(Layout(project), "tiny")


def test_a_model_that_does_not_arrive_whole_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    layout = Layout(project)
    shutil.copytree(layout.candidate, tmp_path / "candidate")
    models = project / "mlartifacts" / "models"
    before = sorted(models.iterdir())
    # A document's name that cannot be a file below `lineage/` fails in the middle of packaging.
    with (
        continue_run(load_settings(layout.params), layout, "0" * 64) as run,
        pytest.raises(OSError, match="File name too long"),
    ):
        log_model(run, tmp_path / "candidate", "tiny", documents={"x" * 300: b""})
    assert sorted(models.iterdir()) == before

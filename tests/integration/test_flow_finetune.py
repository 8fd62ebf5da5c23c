"""The flow run by hand: what it runs, what it refuses, and that it agrees with `dvc repro`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from catena.files import exclusive
from catena.layout import Layout
from tests.conftest import DeployedRun
from tests.tiny_project import run

pytestmark = pytest.mark.integration


def flow(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(project, "python", "flows/finetune.py", check=False, **variables)


def stages_run(printed: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", printed)


def edit(project: Path, old: str, new: str) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    assert old in text
    params.write_text(text.replace(old, new))


def test_a_chain_that_is_up_to_date_has_nothing_to_do(deployed_run: DeployedRun, tmp_path: Path) -> None:
    project = deployed_run.copy(tmp_path / "project")
    lock = (project / "dvc.lock").read_bytes()
    done = flow(project, **deployed_run.service.variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("didn't change, skipping") == 5
    assert stages_run(done.stderr) == []
    assert "This model" in done.stdout
    assert "Version 1 of tiny became champion" in done.stdout
    assert "up to date" in run(project, "dvc", "repro").stdout
    assert (project / "dvc.lock").read_bytes() == lock


def test_an_edit_reruns_the_stages_that_depend_on_it_alike_by_flow_and_by_dvc(
    deployed_run: DeployedRun, tmp_path: Path
) -> None:
    by_flow, by_dvc = deployed_run.copy(tmp_path / "flow"), deployed_run.copy(tmp_path / "dvc")
    for project in (by_flow, by_dvc):
        edit(project, "bootstrap_samples: 100", "bootstrap_samples: 120")
    done = flow(by_flow, **deployed_run.service.variables)
    assert done.returncode == 0, done.stderr
    again = run(by_dvc, "dvc", "repro")
    assert stages_run(done.stderr) == stages_run(again.stdout) == ["evaluate", "register"]
    assert (by_flow / "dvc.lock").read_text() == (by_dvc / "dvc.lock").read_text()
    assert "up to date" in run(by_flow, "dvc", "repro").stdout


def test_a_second_flow_in_the_folder_is_refused_in_one_sentence(tiny_project: Path) -> None:
    with exclusive(Layout(tiny_project).lock("flow"), "A flow"):
        done = flow(tiny_project)
    assert done.returncode == 2
    assert "A flow is already running in this folder" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_missing_is_said_before_anything_starts(tiny_project: Path) -> None:
    (tiny_project / "data/raw/tiny").rename(tiny_project / "elsewhere")
    done = flow(tiny_project)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "`dvc pull data/raw/tiny.dvc` first." in done.stderr
    (tiny_project / "elsewhere").rename(tiny_project / "data/raw/tiny")
    edit(tiny_project, "method:\n  name: full\n", "")
    done = flow(tiny_project)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add a line `method: {}`" in done.stderr


def test_an_unknown_parameter_is_one_sentence(tiny_project: Path) -> None:
    edit(tiny_project, "epochs: 1", "epoch: 1")
    done = flow(tiny_project)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean `training.epochs`?" in done.stderr


def test_a_server_that_does_not_answer_is_one_sentence(tiny_project: Path) -> None:
    done = flow(tiny_project, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    assert "The Prefect server at http://127.0.0.1:9/api does not answer" in done.stderr


def test_data_changed_without_dvc_stop_the_flow_without_retries_and_leave_results_alone(
    deployed_run: DeployedRun, tmp_path: Path
) -> None:
    project = deployed_run.copy(tmp_path / "project")
    results = [
        project / name for name in ("dvc.lock", "reports/registry.json", "models/candidate/catena.json")
    ]
    before = [path.read_bytes() for path in results]
    with (project / "data/raw/tiny/train.csv").open("a") as stream:
        stream.write("a new record about wheat,grain\n")
    done = flow(project, **deployed_run.service.variables)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Retry" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("prepare: ")
    assert "dvc add" in last
    assert [path.read_bytes() for path in results] == before

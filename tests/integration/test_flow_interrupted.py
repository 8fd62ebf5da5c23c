"""A training that is cancelled or killed: nothing stays behind, and the weights end up the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from catena.files import sha256_file
from tests.conftest import DeployedRun
from tests.prefect_service import FINAL, wait_until, worker
from tests.tiny_project import environment, run

pytestmark = pytest.mark.integration


def processes_in(project: Path) -> list[str]:
    """Command lines of the stages and DVC commands at work in `project`."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if process.cwd() == str(project) and ("tasks." in words or "dvc repro" in words):
                found.append(words)
        except psutil.Error:
            continue
    return found


def checkpoints(project: Path) -> list[Path]:
    return sorted(project.glob(".catena/checkpoints/*/*"))


@contextmanager
def started(project: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python COMMAND…` in a group of its own, running for the block and at an end after it."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=project,
        env=environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def in_the_middle(project: Path, seen: set[Path]) -> bool:
    """Whether the training has made a checkpoint that is not in `seen`."""
    return any(path not in seen and not path.name.startswith(".") for path in checkpoints(project))


def test_cancelled_and_killed_trainings_end_in_the_weights_of_an_undisturbed_one(
    deployed_run: DeployedRun, tmp_path: Path
) -> None:
    service = deployed_run.service
    disturbed, undisturbed = deployed_run.copy(tmp_path / "disturbed"), deployed_run.copy(tmp_path / "calm")
    for project in (disturbed, undisturbed):
        params = project / "params.yaml"
        text = params.read_text().replace("epochs: 1\n", "epochs: 30\n  checkpoint_seconds: 0.5\n")
        params.write_text(text)

    # Cancelled through Prefect, in the middle of the training.
    service.prefect(disturbed, "--no-prompt", "deploy", "--name", "on-demand")
    deployment = service.api("GET", "/deployments/name/finetune/on-demand")
    with worker(service, disturbed):
        created = service.api("POST", f"/deployments/{deployment['id']}/create_flow_run", name="cancelled")
        wait_until(lambda: in_the_middle(disturbed, set()), "the first checkpoint")
        service.prefect(disturbed, "flow-run", "cancel", created["id"])
        wait_until(lambda: service.flow_run(created["id"])["state_type"] in FINAL, "the run ends")
        assert service.flow_run(created["id"])["state_type"] == "CANCELLED"
        wait_until(lambda: not processes_in(disturbed), "the training is gone", 30)
    assert not (disturbed / "models/candidate").exists()

    # kill -9 of the flow itself, which runs no clean-up.
    seen = set(checkpoints(disturbed))
    with started(disturbed, "flows/finetune.py", **service.variables) as process:
        wait_until(lambda: in_the_middle(disturbed, seen), "a later checkpoint")
        process.kill()
        wait_until(lambda: not processes_in(disturbed), "the training is gone", 30)

    # kill -9 of DVC and the training together, as a machine that goes down.
    seen = set(checkpoints(disturbed))
    with started(disturbed, "-m", "dvc", "repro", "train") as process:
        wait_until(lambda: in_the_middle(disturbed, seen) or process.poll() is not None, "a later checkpoint")
        time.sleep(0.1)

    finished = run(disturbed, "dvc", "repro", "train").stdout
    assert "resuming at step" in finished or "didn't change" in finished
    run(undisturbed, "dvc", "repro", "train")
    weights = Path("models/candidate/model.safetensors")
    assert sha256_file(disturbed / weights) == sha256_file(undisturbed / weights)
    assert "up to date" in run(disturbed, "dvc", "repro", "train").stdout

"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.prefect_service import FINAL, Service, prefect_server, wait_until, worker
from tests.tiny_project import build_tiny_project

#: What a flow that ran to its end logs last.
LAST_LINE = "Finished in state Completed('The chain is up to date.')"

# Before anything imports torch: the tests' networks are tiny, and threads that wait for each other on shared
# cores cost many times what they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests one process must run, where several do (`make test`).

    Those of a module stay together, for what they share is built once for each process; so do all modules
    that use the deployed run.
    """
    deployed = {item.path for item in items if "deployed_run" in getattr(item, "fixturenames", ())}
    for item in items:
        group = "deployed" if item.path in deployed else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project, built once and never run in; copy it, or use `tiny_project`."""
    return build_tiny_project(tmp_path_factory.mktemp("template") / "tiny")


@pytest.fixture
def tiny_project(tiny_template: Path, tmp_path: Path) -> Path:
    """A tiny project of the test's own, with nothing run yet."""
    return Path(shutil.copytree(tiny_template, tmp_path / "project"))


@dataclass(frozen=True)
class DeployedRun:
    """One run of the chain that a worker made: in which project, by which server, under which id."""

    project: Path
    service: Service
    run_id: str

    def copy(self, folder: Path) -> Path:
        """A copy of the project for a test to change."""
        return Path(shutil.copytree(self.project, folder))


@pytest.fixture(scope="session")
def deployed_run(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedRun]:
    """The chain run to its end in a tiny project: deployed to a real server, run by a real worker.

    The server stays up for the tests that ask it, and for flows that are quicker with one.
    """
    project = Path(shutil.copytree(tiny_template, tmp_path_factory.mktemp("deployed") / "project"))
    with prefect_server(tmp_path_factory.mktemp("prefect")) as service:
        service.prefect(project, "work-pool", "create", "catena", "--type", "process")
        service.prefect(project, "--no-prompt", "deploy", "--all")
        with worker(service, project):
            deployment = service.api("GET", "/deployments/name/finetune/on-demand")
            run_id = service.api("POST", f"/deployments/{deployment['id']}/create_flow_run", name="deployed")[
                "id"
            ]
            wait_until(lambda: service.flow_run(run_id)["state_type"] in FINAL, "the flow run ends", 300)
            # The run's process sends its last lines after its last state; a worker stopped earlier would
            # take it along. Whether they came is for the log's own test to say.
            with suppress(AssertionError):
                wait_until(
                    lambda: any(LAST_LINE in line for line in service.logs(run_id)), "the last line", 60
                )
        yield DeployedRun(project, service, run_id)

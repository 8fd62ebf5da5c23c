"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.prefect_service import FINAL, Service, prefect_server, wait_until, worker
from tests.tiny_project import build_tiny_project

#: What a flow that ran to its end logs last.
LAST_LINE = "Finished in state Completed('The chain is up to date.')"

# Before anything imports torch: the tests' networks are tiny, and threads that wait for each other on shared
# cores cost many times what they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long one example takes depends on what else the machine does; a test that hangs has pytest-timeout.
settings.register_profile("catena", deadline=None)
settings.load_profile("catena")


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is not in use, nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests one process must run, where several do (`make test`).

    Those of a module stay together and in their order, for they tell one story or share what is built once
    for each process; so do all modules that use the deployed run.
    """
    from xdist.scheduler import LoadScopeScheduling

    sources = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")}
    deployed = {path.name for path, source in sources.items() if "deployed_run" in source}

    class ByModule(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "deployed" if Path(module).name in deployed else module

    return ByModule(config, log)


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

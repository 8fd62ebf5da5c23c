"""A real Prefect server and worker for tests, on a free loopback port, with a home of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flows import leash
from tests.tiny_project import environment, run

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass(frozen=True)
class Service:
    """A running server, and the variables that make a process use it."""

    url: str
    variables: dict[str, str]

    def api(self, method: str, path: str, **body: Any) -> Any:
        """One request to the API, with `body` as JSON.

        A server whose SQLite file is busy answers 5xx for a moment, and Prefect's own client asks again too.
        """
        for wait in (1, 2, 4, 8, 0):
            response = httpx.request(method, f"{self.url}{path}", json=body or None, timeout=60)
            if not response.is_server_error:
                break
            time.sleep(wait)
        response.raise_for_status()
        return response.json() if response.content else None

    def flow_run(self, run_id: str) -> Any:
        return self.api("GET", f"/flow_runs/{run_id}")

    def task_runs(self, run_id: str) -> Any:
        chosen = {"id": {"any_": [run_id]}}
        return self.api("POST", "/task_runs/filter", flow_runs=chosen, sort="EXPECTED_START_TIME_ASC")

    def logs(self, run_id: str) -> list[str]:
        """The messages of a flow run and its task runs, oldest first."""
        chosen = {"flow_run_id": {"any_": [run_id]}}
        found: list[str] = []
        while True:
            page = self.api(
                "POST", "/logs/filter", logs=chosen, sort="TIMESTAMP_ASC", limit=200, offset=len(found)
            )
            found += [entry["message"] for entry in page]
            if len(page) < 200:
                return found

    def artifacts(self, run_id: str) -> dict[str, Any]:
        """The artifacts of a flow run by their keys."""
        chosen = {"flow_run_id": {"any_": [run_id]}}
        return {entry["key"]: entry for entry in self.api("POST", "/artifacts/filter", artifacts=chosen)}

    def prefect(self, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`prefect ARGUMENTS…` in `project`."""
        return run(project, "python", "-m", "prefect", *arguments, **self.variables)


def wait_until(question: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")


@contextmanager
def prefect_server(home: Path) -> Iterator[Service]:
    """A server with an empty database, stopped after the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    variables = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
    }
    home.mkdir(parents=True, exist_ok=True)
    arguments = ("server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui")
    with background(home, variables, *arguments):
        wait_until(lambda: _healthy(url), "the server is healthy")
        yield Service(url, variables)


@contextmanager
def worker(service: Service, project: Path) -> Iterator[None]:
    """A process worker of the pool `catena`, stopped after the block."""
    arguments = ("worker", "start", "--pool", "catena", "--name", "tests")
    with background(project, service.variables, *arguments):
        yield


@contextmanager
def background(folder: Path, variables: dict[str, str], *arguments: str) -> Iterator[None]:
    """`prefect ARGUMENTS…` for the block, on a leash: it ends with the tests, even if they are killed."""
    with (folder / f"{arguments[0]}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, leash.__file__, sys.executable, "-m", "prefect", *arguments],
            cwd=folder,
            env=environment() | variables,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.communicate()  # closes the leash's standard input
        process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False

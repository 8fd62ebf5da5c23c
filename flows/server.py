"""A Prefect server for the length of one flow, where none is configured.

Prefect starts such a server by itself, but in the terminal's group of processes: Ctrl-C would end the
server before the flow has told it that it stopped, and a killed flow would leave the server behind.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_UI_URL,
    temporary_settings,
)

from catena.errors import CatenaError
from flows.leash import on_leash


class ServerError(CatenaError):
    """Prefect's server cannot be started or reached."""


@contextmanager
def server() -> Iterator[str]:
    """The address of the API for the block: the configured server's, or a temporary one's.

    Raises `ServerError` where the configured server does not answer or the temporary one does not start.
    """
    configured: str | None = PREFECT_API_URL.value()
    if configured:
        if not _answers(configured, seconds=10.0):
            raise ServerError(
                f"The Prefect server at {configured} does not answer; start it, or unset PREFECT_API_URL "
                "to run without one."
            )
        yield configured
        return
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"),
    ]
    variables = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    with on_leash(command, Path.cwd(), os.environ | variables) as process:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
        reader.start()
        seconds = float(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())
        if not _answers(url, seconds, lambda: process.poll() is None):
            reason = said[-1].strip() if said else f"no answer in {seconds:.0f} s"
            raise ServerError(f"Prefect's temporary server did not start: {reason}.")
        try:
            with temporary_settings({PREFECT_API_URL: url, PREFECT_UI_URL: ""}):
                yield url
        finally:
            # What Prefect has not sent yet it would try to send when the interpreter ends: too late.
            APILogWorker.drain_all(timeout=10.0)
            EventsWorker.drain_all(timeout=10.0)
            if process.stdin is not None:
                process.stdin.close()  # ends the server
            reader.join()


def _answers(url: str, seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Whether the API at `url` becomes healthy within `seconds`, while its process is `alive`."""
    deadline = time.monotonic() + seconds
    with httpx.Client(timeout=5.0) as client:
        while alive() and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/health").is_success:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

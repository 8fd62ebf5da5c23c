"""The training's `progress` lines as a Prefect progress artifact, and now and then a line in the log."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

KEY = "training-progress"
_LINE = re.compile(r"^progress step=(\d+)/(\d+)\b(.*)$")
_ARTIFACT_SECONDS = 2.0
_LOG_SECONDS = 5.0


class TrainingProgress:
    """Reads the lines of a training; use it as a context inside a task run."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._updated = self._logged = float("-inf")
        self._latest: tuple[float, str] = (0.0, "")
        self._shown: tuple[float, str] | None = None

    def __enter__(self) -> Self:
        made = create_progress_artifact(0.0, key=KEY, description="Optimiser steps done")
        self._artifact = made if isinstance(made, UUID) else None  # a coroutine only in asynchronous flows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self._show()

    def read(self, line: str) -> bool:
        """Take one line of the stage; whether it belongs in the log."""
        match = _LINE.match(line)
        if match is None:
            return True
        step, steps = int(match[1]), max(int(match[2]), 1)
        self._latest = (100.0 * min(step, steps) / steps, f"Step {step} of {steps}{_details(match[3])}")
        now = time.monotonic()
        if now - self._updated >= _ARTIFACT_SECONDS:
            self._updated = now
            self._show()
        if step < steps and now - self._logged < _LOG_SECONDS:
            return False
        self._logged = now
        return True

    def finish(self) -> None:
        """The training is complete, or was not needed."""
        self._latest = (100.0, self._latest[1] or "Nothing to do: the trained weights are up to date")

    def _show(self) -> None:
        if self._artifact is None or self._shown == self._latest:
            return
        percent, description = self._latest
        update_progress_artifact(self._artifact, percent, description=description or None)
        self._shown = self._latest


def _details(words: str) -> str:
    """` loss=0.31 learning_rate=2e-4` → `, loss 0.31, learning rate 2e-4`."""
    pairs = (word.partition("=") for word in words.split())
    return "".join(f", {name.replace('_', ' ')} {value}" for name, _, value in pairs if value)

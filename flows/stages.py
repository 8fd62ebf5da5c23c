"""Run one stage of `dvc.yaml` as DVC would, hand its lines on, and say how it ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catena.errors import CatenaError, SettingsError
from flows.leash import on_leash

STAGES = ("prepare", "tokenize", "train", "evaluate", "register")

_STAGE_STATUS = re.compile(r"^ERROR: failed to reproduce '.*': failed to run: .*, exited with (-?\d+)$")
_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
# What DVC says after each stage for people who type `dvc repro`; in a log it only repeats itself.
_HINTS = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push` to send",
)
# A warning about the lock of a process that was killed, which DVC removes by itself.
_STALE_LOCK = "had been killed. Auto removed it from the lock file."


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    `skipped`: nothing to do. `done`: it ran, or came from DVC's run cache. `refused`: the user has
    something to put right, said in `message`; trying again would not help. `failed`: anything else.
    """

    kind: Literal["skipped", "done", "refused", "failed"]
    message: str


def stage_environment() -> dict[str, str]:
    """The variables of a stage: this interpreter first in the path, lines unbuffered and in UTF-8."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "COLUMNS": "100"}


def changed_stages(root: Path, stages: Sequence[str] = STAGES) -> tuple[str, ...]:
    """Names of the stages that DVC would run or restore if it looked now, in their order.

    A stage after a changed one may turn out changed too: its inputs are still to be made.
    Raises `SettingsError`, with DVC's words, where DVC cannot read the project.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json", *stages],
        cwd=root,
        env=stage_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SettingsError(f"DVC cannot read this project: {_dvc_error(done.stderr.splitlines())}.")
    changed: dict[str, object] = json.loads(done.stdout.strip() or "{}")
    return tuple(stage for stage in stages if stage in changed)


def run_stage(root: Path, stage: str, on_line: Callable[[str], None]) -> Outcome:
    """Bring `stage` up to date with `dvc repro --single-item`; each line it prints goes to `on_line`.

    Whatever ends this call early (Ctrl-C, a cancelled flow, `kill -9`) ends the stage too, and leaves
    DVC unlocked.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    lines: list[str] = []
    with on_leash(command, root, stage_environment()) as process:
        for raw in process.stdout or ():
            line = raw.rstrip()
            if not line or line.lstrip().startswith(_HINTS) or _STALE_LOCK in line:
                continue
            lines.append(line)
            del lines[:-200]
            on_line(line)
        status = process.wait()
    return outcome(stage, status, lines)


def outcome(stage: str, status: int, lines: Sequence[str]) -> Outcome:
    """What the exit status and DVC's and the stage's own words say together."""
    if status == 0:
        unchanged = any(line == f"Stage '{stage}' didn't change, skipping" for line in lines)
        return Outcome("skipped", "nothing to do") if unchanged else Outcome("done", "done")
    stage_status = next((int(m[1]) for line in reversed(lines) if (m := _STAGE_STATUS.match(line))), None)
    if stage_status == CatenaError.exit_code:
        prefix = f"{stage}: "
        said = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        return Outcome("refused", said[-1] if said else f"The stage {stage} refused its input.")
    if stage_status is not None:
        how = f"status {stage_status}" if stage_status >= 0 else f"signal {-stage_status}"
        return Outcome("failed", f"The stage {stage} ended with {how}; its lines above say why.")
    error = _dvc_error(lines)
    if any(words in line for line in lines for words in _BUSY):
        return Outcome("refused", "DVC is already working in this folder; wait for it to end and run again.")
    if error.startswith(("unexpected error", "no error message")):
        return Outcome("failed", f"DVC ended with status {status} in the stage {stage}: {error}.")
    return Outcome("refused", f"DVC did not run the stage {stage}: {error}.")


def _dvc_error(lines: Sequence[str]) -> str:
    errors = [line.removeprefix("ERROR: ").rstrip(". ") for line in lines if line.startswith("ERROR: ")]
    return errors[-1] if errors else "no error message"

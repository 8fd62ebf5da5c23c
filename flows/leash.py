"""Run a command that ends when whoever started it ends, however that happens.

`python flows/leash.py COMMAND…` runs the command in the group of processes that the leash leads, and
reads its own standard input. The starter keeps the other end of that pipe open for as long as it wants
the command to live: closing it, or dying (even by `kill -9`, which runs no clean-up), ends the whole
group: first as Ctrl-C would, so that DVC unlocks its folder, then less politely. A Ctrl-C in the
terminal reaches the starter alone, which then decides.

Only the standard library is imported, so that it costs hundredths of a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

GRACE_SECONDS = 8.0


@contextmanager
def on_leash(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Start `command` in `folder`; it cannot outlive this process, nor the block.

    All that it prints, errors included, is to be read from the process's `stdout`.
    """
    process = subprocess.Popen(
        [sys.executable, "-S", str(Path(__file__).resolve()), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("pipes were asked for")
    try:
        yield process
    finally:
        process.stdin.close()
        for _ in process.stdout:  # nobody in the group may hang or break on a pipe that is not read
            pass
        process.stdout.close()
        process.wait()


def main(command: Sequence[str]) -> int:
    """Run `command`; return its exit status, 128 + signal where one ended it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # The group's signals are meant for the command. The leash must live to send the next one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_starter, args=(child,), daemon=True).start()
    status = child.wait()
    _end_group(signal.SIGTERM)  # what the command left behind, such as a stage whose DVC was killed
    return status if status >= 0 else 128 - status


def _end_with_starter(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not sys.stdin.read, over which the interpreter's end trips
        pass
    for number in (signal.SIGINT, signal.SIGTERM):
        _end_group(number)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if child.poll() is not None:
                return
            time.sleep(0.05)
    _end_group(signal.SIGKILL)  # the leash too: nothing is left to wait for


def _end_group(number: signal.Signals) -> None:
    if os.getpgrp() == os.getpid():  # only ever the group made for this leash
        os.killpg(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The whole chain in a fresh clone: quality, time, memory, and what orchestration costs.

    python -m benchmarks.chain                                     # params.yaml as committed
    python -m benchmarks.chain --preset presets/20newsgroups.yaml
    python -m benchmarks.chain --preset presets/sst2.yaml --data FOLDER   # files laid into data/raw/sst2
    python -m benchmarks.chain --costs                             # also what the chain costs when idle

Clones the repository's HEAD into a temporary folder, fetches, runs the flow with no server at
hand, and reads the reports. Writes `benchmarks/results/chain-<name>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe, spread

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("prepare", "tokenize", "train", "evaluate", "register")
FLOW = [sys.executable, "-m", "flows.finetune"]
DONE = re.compile(r"\b(" + "|".join(STAGES) + r"): done in ([\d.]+) s")


class Memory(threading.Thread):
    """Greatest memory of a process and all below it, shared pages counted once (PSS), in bytes."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(process)
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            total = 0
            try:
                family = [self.root, *self.root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in family:
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue
            self.peak = max(self.peak, total)


def execute(command: list[str], folder: Path, **variables: str) -> dict[str, Any]:
    """Run a command; its seconds, peak memory, and when each of its lines came."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MLFLOW_", "DVC_"))
    } | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **variables}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    memory = Memory(process.pid)
    memory.start()
    assert process.stdout is not None
    lines = [(time.perf_counter() - started, line.rstrip("\n")) for line in process.stdout]
    code = process.wait()
    memory.over.set()
    seconds = time.perf_counter() - started
    if code:
        raise SystemExit("\n".join(line for _, line in lines[-40:]) + f"\n{command} ended with {code}")
    return {"seconds": seconds, "peak_bytes": memory.peak, "lines": lines}


def fresh(target: Path, preset: Path | None, data: Path | None) -> None:
    """A clone of HEAD with its data and backbone in place."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(target)], check=True)
    downloads = ROOT / ".catena" / "downloads"
    if downloads.is_dir():
        shutil.copytree(downloads, target / ".catena" / "downloads")
    if preset is not None:
        shutil.copy2(preset, target / "params.yaml")
    if data is not None:
        name = re.search(r"^data:\n\s+name: (\S+)", (target / "params.yaml").read_text(), re.M)
        assert name is not None
        shutil.copytree(data, target / "data" / "raw" / name.group(1))
    execute([sys.executable, "-m", "catena.cli", "fetch"], target)


def gaps(lines: list[tuple[float, str]], work: dict[str, float], total: float) -> dict[str, float]:
    """Where the seconds outside of the stages' work go, from when each line came; train's start apart."""
    begun = {name: when for when, line in lines for name in STAGES if f"Running stage '{name}'" in line}
    ended = {found.group(1): when for when, line in lines if (found := DONE.search(line))}
    named = dict.fromkeys(("until the first stage", "Python starts and imports", "after a stage"), 0.0)
    named["until the first stage"] = begun["prepare"]
    for name, following in zip(STAGES, (*STAGES[1:], None), strict=True):
        start = "start of train" if name == "train" else "Python starts and imports"
        named[start] = named.get(start, 0.0) + ended[name] - work[name] - begun[name]
        named["after a stage"] += (begun[following] if following else total) - ended[name]
    return {
        "until the first stage (Prefect's server and client, dvc status)": round(
            named["until the first stage"], 1
        ),
        "Python starts and imports (four stages)": round(named["Python starts and imports"], 1),
        "Python start and imports of train": round(named["start of train"], 1),
        "after a stage (DVC hashes and caches, Prefect states and artifacts)": round(
            named["after a stage"], 1
        ),
    }


def stage_times(lines: list[tuple[float, str]], total: float) -> tuple[dict[str, float], float]:
    """Seconds of work in each stage, as the stages print them; and those outside of all stages."""
    work = {found.group(1): float(found.group(2)) for _, line in lines if (found := DONE.search(line))}
    return work, total - sum(work.values())


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A Prefect server of its own on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1)  # noqa: S310 - loopback
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def costs(folder: Path, run: dict[str, Any], runs: int) -> dict[str, Any]:
    """What the chain costs with nothing to do, and what it adds to the bare training loop."""
    idle = {"dvc repro": [sys.executable, "-m", "dvc", "repro"], "flow, no server": FLOW}
    result: dict[str, Any] = {
        name: spread([execute(command, folder)["seconds"] for _ in range(runs)])
        for name, command in idle.items()
    }
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as url:
        execute(FLOW, folder, PREFECT_API_URL=url)
        result["flow, server running"] = spread(
            [execute(FLOW, folder, PREFECT_API_URL=url)["seconds"] for _ in range(runs)]
        )
    script = [sys.executable, "-m", "benchmarks.bare_loop"]
    # In turn with nothing else, like the flow itself: the same training without any of Catena around it.
    bare = [execute(script, folder) for _ in range(2)]
    loop = json.loads(bare[-1]["lines"][-1][1])
    script_seconds = spread([one["seconds"] for one in bare], 1)
    named = dict(run["gaps"])
    train = run["stages"]["train"] + named.pop("Python start and imports of train")
    named = {
        "train stage beyond the bare script (engine, checkpoints, tracking)": round(
            train - script_seconds["median"], 1
        ),
        "register (packaging, gate, tracking)": run["stages"]["register"],
        **named,
    }
    result["bare script"] = script_seconds
    result["bare loop"] = {
        "with validation": round(loop["seconds"], 1),
        "validation": round(loop["validation"], 1),
    }
    result["overhead"] = named | {"total": round(sum(named.values()), 1)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--costs", action="store_true")
    arguments = parser.parse_args()
    done: list[dict[str, Any]] = []
    idle: dict[str, Any] = {}
    for number in range(arguments.runs):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "catena"
            fresh(folder, arguments.preset and arguments.preset.resolve(), arguments.data)
            run = execute(FLOW, folder)
            run["stages"], outside = stage_times(run["lines"], run["seconds"])
            run["outside"] = round(outside, 1)
            run["gaps"] = gaps(run["lines"], run["stages"], run["seconds"])
            run["metrics"] = json.loads((folder / "reports/evaluation/metrics.json").read_text())
            print("\n".join(line for _, line in run.pop("lines")[-30:]), flush=True)
            done.append(run)
            if arguments.costs and number == arguments.runs - 1:
                idle = costs(folder, run, 3)
    name = arguments.preset.stem if arguments.preset else "default"
    metrics = done[-1]["metrics"]
    keys = [key for key in metrics["intervals"] if key in metrics]
    output = {
        "machine": describe(),
        "seconds": spread([run["seconds"] for run in done], 1),
        "peak_gib": spread([run["peak_bytes"] / 2**30 for run in done], 2),
        "stages": [run["stages"] for run in done],
        "outside_stages_seconds": [run["outside"] for run in done],
        "outside_stages": [run["gaps"] for run in done],
        "metrics": {key: metrics[key] for key in keys},
        "intervals": {key: metrics["intervals"][key] for key in keys},
        "tables": metrics.get("tables", []),
        "baselines": {
            rival: {key: values[key] for key in keys if key in values}
            for rival, values in metrics["baselines"].items()
        },
        "costs": idle,
    }
    target = ROOT / "benchmarks" / "results" / f"chain-{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(output, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(output, indent=2))


if __name__ == "__main__":
    main()

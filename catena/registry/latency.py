"""Median latency of two models for one record, measured in turn in a process of its own.

`python -m catena.registry.latency REQUEST.json`: the parent needs no torch for it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from catena.errors import ModelError

#: Predictions of each model that are timed, and those before them that are not, where they are quick.
ROUNDS, WARM_UP = 40, 4
#: Fewest of both, however long they take.
FEWEST_ROUNDS, FEWEST_WARM_UP = 5, 1
#: Seconds after which no further round of both models begins, for each of the two phases.
BUDGET, WARM_UP_BUDGET = 60.0, 10.0


def latencies(challenger: Path, champion: Path, records: Sequence[Mapping[str, str]]) -> tuple[float, float]:
    """Median seconds of `Predictor.predict` for one record, challenger and champion.

    A record holds a text for each input. Both models see the same ones, in turn, so that a busy machine
    slows both alike; of models that write for seconds, fewer than `ROUNDS` are timed. Raises `ModelError`
    when a model does not load.
    """
    with tempfile.TemporaryDirectory() as scratch:
        request = Path(scratch, "request.json")
        content = {
            "folders": [str(challenger), str(champion)],
            "records": [dict(record) for record in records][:ROUNDS],
        }
        request.write_text(json.dumps(content), encoding="utf-8")
        run_child("catena.registry.latency", str(request))
        medians = json.loads(request.with_suffix(".result").read_text(encoding="utf-8"))
    return float(medians[0]), float(medians[1])


def run_child(module: str, *arguments: str) -> None:
    """Run a module of this library in a process of its own, which may import torch."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode == ModelError.exit_code:
        raise ModelError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr}")


def _measure(folders: Sequence[Path], records: Sequence[Mapping[str, str]]) -> list[float]:
    import pandas as pd

    from catena.chain_predictor import load_predictor

    # of a chain, the tails that can be asked with these inputs
    models = [load_predictor(folder).answering(records[0]) for folder in folders]
    seconds: list[list[float]] = [[] for _ in models]
    number = 0
    for fewest, most, budget in (
        (FEWEST_WARM_UP, WARM_UP, WARM_UP_BUDGET),
        (FEWEST_ROUNDS, ROUNDS, BUDGET),
    ):
        seconds = [[] for _ in models]  # those of the warm-up do not count
        while another_round(len(seconds[0]), sum(map(sum, seconds)), fewest, most, budget):
            record = pd.DataFrame([records[number % len(records)]])
            number += 1
            for model, taken in zip(models, seconds, strict=True):
                started = time.perf_counter()
                model.predict(record)
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def another_round(done: int, spent: float, fewest: int, most: int, budget: float) -> bool:
    """Whether to go on after `done` rounds that took `spent` seconds."""
    return done < fewest or (done < most and spent < budget)


def main(request: Path) -> None:
    """Read the request, write the medians beside it."""
    content = json.loads(request.read_text(encoding="utf-8"))
    try:
        medians = _measure([Path(folder) for folder in content["folders"]], content["records"])
    except ModelError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    request.with_suffix(".result").write_text(json.dumps(medians), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

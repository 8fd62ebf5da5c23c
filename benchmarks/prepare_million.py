"""How fast, and in how much memory, the prepare stage goes through a million records.

    python -m benchmarks.prepare_million [--records 1000000] [--runs 3]

The records are synthetic reviews with what real ones have: 3% exact repeats, 1% contradictions, 4% near
duplicates, 0.5% empty texts, 0.2% broken rows, uneven classes, accents and HTML entities. Each run is a
process of its own; its memory is the highest resident set size that the kernel saw. Processor time is
given beside the time that passed, because the latter grows when the machine has other work to do.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, spread

_CLASSES = ("delivery", "quality", "price", "service", "returns", "packaging")
_ODDS = (40, 25, 15, 10, 7, 3)
_PARAMS = """\
data: {name: million, train: train.csv}
preparation: {unescape_html: true}
"""


def vocabulary(rng: random.Random, size: int = 20_000) -> list[str]:
    """Made-up words of one to three syllables."""
    onsets = [
        "b",
        "c",
        "d",
        "f",
        "g",
        "h",
        "l",
        "m",
        "n",
        "p",
        "r",
        "s",
        "t",
        "v",
        "st",
        "tr",
        "pl",
        "ch",
        "",
    ]
    vowels = ["a", "e", "i", "o", "u", "ea", "ou", "é", "ü"]
    endings = ["", "n", "r", "s", "t", "l", "nd", "rk"]
    words = {
        "".join(
            rng.choice(onsets) + rng.choice(vowels) + rng.choice(endings) for _ in range(rng.randint(1, 3))
        )
        for _ in range(2 * size)
    }
    return sorted(words)[:size]


def write_records(path: Path, records: int, seed: int = 7) -> None:
    """Write `records` rows, about 250 characters each, to a CSV file."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    rng.shuffle(words)
    odds = [1.0 / (rank + 10) for rank in range(len(words))]  # Zipf's law
    for rank in range(1, len(odds)):
        odds[rank] += odds[rank - 1]
    recent: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(records):
            kind = rng.random()
            if kind < 0.08 and len(recent) > 100:
                text, label = rng.choice(recent)
                if kind < 0.01:
                    label = rng.choice([name for name in _CLASSES if name != label])
                elif kind > 0.04:
                    parts = text.split(" ")
                    parts[rng.randrange(len(parts))] = rng.choice(words)
                    text = " ".join(parts)
            else:
                label = rng.choices(_CLASSES, _ODDS)[0]
                count = min(max(int(rng.lognormvariate(3.1, 0.5)), 4), 200)
                text = " ".join(rng.choices(words, cum_weights=odds, k=count))
                if kind > 0.97:
                    text = text.replace(" ", " &amp; ", 1) + '! "so they say"'
                if kind > 0.995:
                    text = ""
                recent.append((text, label))
                if len(recent) > 20_000:
                    recent[rng.randrange(len(recent))] = recent.pop()
            writer.writerow([text, label, "stray"] if rng.random() < 0.002 else [text, label])


def measure(project: Path) -> tuple[float, float, float]:
    """Run the stage in `project`; return its seconds, its processor seconds and its peak memory in GB."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "tasks.prepare"], cwd=project, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(process.returncode)
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, _gigabytes(usage)


def _gigabytes(usage: resource.struct_rusage) -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description="Records per second and peak memory of the prepare stage.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    seconds, busy, memory = [], [], []
    with tempfile.TemporaryDirectory(prefix="prepare-million-") as name:
        project = Path(name)
        raw = project / "data" / "raw" / "million"
        raw.mkdir(parents=True)
        (project / "params.yaml").write_text(_PARAMS, encoding="utf-8")
        print(f"writing {arguments.records:,} records", flush=True)
        write_records(raw / "train.csv", arguments.records)
        size = (raw / "train.csv").stat().st_size
        for _ in range(arguments.runs):
            took, worked, peak = measure(project)
            seconds.append(took)
            busy.append(worked)
            memory.append(peak)
            rate = arguments.records / took
            print(f"{rate:,.0f} records/s, {worked:.0f} s of processor time, {peak:.2f} GB", flush=True)
        report = json.loads((project / "reports" / "data_quality.json").read_text(encoding="utf-8"))
    result = {
        "records": arguments.records,
        "megabytes": round(size / 1e6, 1),
        "seconds": spread(seconds, 1),
        "processor_seconds": spread(busy, 1),
        "records_per_second": spread([arguments.records / took for took in seconds], 0),
        "records_per_processor_second": spread([arguments.records / worked for worked in busy], 0),
        "peak_memory_gb": spread(memory, 2),
        "found": {
            "rejected": report["rejected"]["by_reason"],
            "near_duplicate_pairs": report["near_duplicates"]["pairs"],
        },
        "machine": describe(),
    }
    target = Path(__file__).parent / "results" / "prepare_million.json"
    if arguments.records == parser.get_default("records"):
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

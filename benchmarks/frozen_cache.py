"""What it saves to keep the outputs of frozen layers: the same trainings with and without.

    python -m benchmarks.frozen_cache --data FOLDER         # with SST-2's three files
    python -m benchmarks.frozen_cache --data FOLDER --steps 20 --layers 1     # a quick look

`presets/sst2-top-layers.yaml` with no, one and two moving layers, each with and without `method.cache`, one
after the other in this process. Seconds of the first epoch (with keeping what frozen layers say) and of the
later ones, each with its validation; size on disk; metrics and loss of both at the end. Trainings that
`benchmarks/results/frozen_cache.json` holds already are not repeated (`--again` forgets them).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.chain import fresh
from benchmarks.machine import describe
from catena.layout import Layout
from catena.problems import get_problem
from catena.settings import load_settings, parse_settings
from catena.training.finetune import TrainingData, finetune

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "frozen_cache.json"
PRESET = ROOT / "presets" / "sst2-top-layers.yaml"


def measure(layout: Layout, layers: int, cache: bool, steps: int | None, folder: Path) -> dict[str, Any]:
    """Train once in `folder`, from an empty cache."""
    content = load_settings(layout.params).model_dump(exclude_unset=True)
    content["method"] |= {"layers": layers, "cache": cache}
    content["training"]["max_steps"] = steps
    settings = parse_settings(content)
    data = TrainingData.load(layout.tokenized, get_problem(settings.problem))
    times: list[float] = []

    def row(values: dict[str, float]) -> None:
        if any(name.startswith("validation_") for name in values):
            times.append(time.perf_counter())

    started: list[float] = []
    result = finetune(
        settings,
        data,
        backbone_folder=layout.backbone(settings.backbone.name),
        checkpoints=folder / "checkpoints",
        target=folder / "model",
        card={},
        on_row=row,
        on_start=lambda device, plan: started.append(time.perf_counter()),
        cache=folder / "cache",
    )
    epochs = [end - begin for begin, end in zip([started[0], *times], times, strict=False)]
    later = epochs[1:]
    losses = [values["loss"] for values in result.curve if "loss" in values]
    return {
        "first_epoch_seconds": round(epochs[0], 2),
        "later_epoch_seconds": round(sum(later) / len(later), 2) if later else None,
        "seconds": round(sum(epochs), 2),
        "disk_bytes": sum(path.stat().st_size for path in folder.glob("cache/*.arrow")),
        "trained_weights": result.trainable,
        "steps": result.steps,
        "best_step": result.best_step,
        "last_loss": losses[-1],
        "validation": result.validation,
        "device": str(result.device),
    }


def table(runs: dict[str, Any]) -> Table:
    """Both ways side by side."""
    shown = Table("moving layers", "cache", "epoch 1", "epochs 2…", "all", "on disk", "accuracy", "log loss")
    for name, run in runs.items():
        layers, _, cache = name.partition(" ")
        later = run["later_epoch_seconds"]
        shown.add_row(
            layers,
            cache,
            f"{run['first_epoch_seconds']:.1f} s",
            "–" if later is None else f"{later:.1f} s",
            f"{run['seconds']:.0f} s",
            f"{run['disk_bytes'] / 1e6:.1f} MB" if run["disk_bytes"] else "–",
            f"{run['validation']['accuracy']:.4f}",
            f"{run['validation']['log_loss']:.4f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--layers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="end after so many steps, and do not write the results")
    parser.add_argument("--again", action="store_true", help="repeat what has been measured")
    chosen = parser.parse_args()
    known = RESULTS.exists() and chosen.steps is None and not chosen.again
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if known else {"runs": {}}
    runs: dict[str, Any] = result["runs"]
    wanted = [(layers, cache) for layers in chosen.layers for cache in (False, True)]
    missing = [
        (layers, cache) for layers, cache in wanted if f"{layers} {'yes' if cache else 'no'}" not in runs
    ]
    if missing:
        with tempfile.TemporaryDirectory(prefix="catena-frozen-") as name:
            project = Path(name) / "project"
            fresh(project, PRESET, chosen.data.resolve())
            for stage in ("prepare", "tokenize"):
                subprocess.run([sys.executable, "-m", f"tasks.{stage}"], cwd=project, check=True)
            for layers, cache in missing:
                folder = Path(name) / f"{layers}-{cache}"
                run = measure(Layout(project), layers, cache, chosen.steps, folder)
                runs[f"{layers} {'yes' if cache else 'no'}"] = run
                if chosen.steps is None:
                    about = {"machine": describe() | {"threads": torch.get_num_threads()}}
                    text = json.dumps(about | {"runs": runs}, indent=2)
                    RESULTS.write_text(text + "\n", encoding="utf-8")
    Console(width=110).print(table(runs))


if __name__ == "__main__":
    main()

"""Parameter-efficient methods against full fine-tuning, on SST-2 and the same budget of steps.

    python -m benchmarks.peft_methods --data FOLDER      # train.tsv, dev.tsv and test.tsv

Every method trains all-MiniLM-L6-v2 (mean pooling) for the same epochs with the settings of
`presets/sst2.yaml`, once for each learning rate of its own small grid (`WAYS`), each time in its own
process. The rate with the best validation accuracy is the method's; only its model then reads the test
part, once. Measured are: weights that train, validation and test accuracy (the latter with a 95%
interval), seconds of training with validation, the process's greatest memory, and the size of what has to
be stored beside the backbone.

Writes `benchmarks/results/peft-methods.json` after every run and leaves out what that holds already; then the
table as Markdown and the figure as SVG beside it. The backbone is the one in `models/backbones`
(`catena fetch`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.machine import describe
from catena.files import write_json
from catena.layout import Layout
from catena.settings import Settings, parse_settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "peft-methods.json"
#: What is compared: settings of the method, and the learning rates that it is tried with.
WAYS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "full": ({"name": "full"}, (5e-5, 1e-4, 2e-4)),
    "head only": ({"name": "top_layers", "layers": 0}, (1e-3, 3e-3, 1e-2)),
    "LoRA": ({"name": "lora"}, (5e-4, 1e-3, 2e-3)),
    "LoRA, all linear layers": ({"name": "lora", "peft": {"targets": "all_linear"}}, (5e-4, 1e-3, 2e-3)),
    "LoRA, rank-stabilised": ({"name": "lora", "peft": {"rank_stabilized": True}}, (3e-4, 5e-4, 1e-3)),
    "DoRA": ({"name": "lora", "peft": {"dora": True}}, (5e-4, 1e-3, 2e-3)),
    "AdaLoRA": ({"name": "adalora"}, (2e-3, 5e-3, 1e-2)),
    "IA³": ({"name": "ia3"}, (3e-3, 1e-2, 3e-2)),
    "bottleneck adapters": ({"name": "bottleneck"}, (5e-4, 1e-3, 2e-3)),
    "prefix tuning": ({"name": "prefix_tuning"}, (1e-3, 3e-3, 1e-2)),
    "prompt tuning": ({"name": "prompt_tuning"}, (3e-3, 1e-2, 3e-2)),
    "BitFit": ({"name": "bitfit"}, (1e-3, 3e-3, 1e-2)),
}


def settings_for(way: str, rate: float, options: argparse.Namespace) -> Settings:
    """`presets/sst2.yaml` with the method, its learning rate and the common budget."""
    values = YAML(typ="safe").load((ROOT / "presets" / "sst2.yaml").read_text(encoding="utf-8"))
    method, _ = WAYS[way]
    adapts = method["name"] not in ("full", "top_layers")
    values["method"] = {**method, **({"store": "adapter"} if adapts else {})}
    values["training"] |= {"learning_rate": rate, "epochs": options.epochs, "max_steps": options.max_steps}
    return parse_settings(values)


def prepare(options: argparse.Namespace, layout: Layout) -> None:
    """Records and tokens, once for all."""
    from tasks.prepare import prepare as prepare_stage
    from tasks.tokenize import tokenize as tokenize_stage

    settings = settings_for("full", 1e-4, options)
    backbone = layout.backbone(settings.backbone.name)
    if not backbone.exists():
        source = options.backbones / settings.backbone.name
        if not source.is_dir():
            sys.exit(f"There is no {source}; run `catena fetch` first.")
        backbone.parent.mkdir(parents=True, exist_ok=True)
        backbone.symlink_to(source.resolve())
    if not (layout.tokenized / "statistics.json").is_file():
        shutil.copytree(options.data, layout.raw("sst2"), dirs_exist_ok=True)
        (layout.root / "params.yaml").write_text("seed: 42\n", encoding="utf-8")
        prepare_stage(settings, layout)
        tokenize_stage(settings, layout)


def train(way: str, rate: float, options: argparse.Namespace, layout: Layout) -> dict[str, Any]:
    """One training, in this process."""
    from catena.problems import get_problem
    from catena.training.finetune import TrainingData, finetune
    from tasks.train import _card, _data_card

    settings = settings_for(way, rate, options)
    data = TrainingData.load(layout.tokenized, get_problem(settings.problem), settings.training.max_length)
    folder = model_folder(way, rate, layout)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    result = finetune(
        settings,
        data,
        backbone_folder=layout.backbone(settings.backbone.name),
        checkpoints=folder.with_suffix(".checkpoints"),
        target=folder,
        card={
            "problem": settings.problem.model_dump(),
            **_data_card(settings, data),
            **_card(settings, f"{way} {rate:g}"),
        },
        on_row=lambda row: None,
        on_start=lambda device, plan: print(f"{way}, {rate:g}: {plan.steps} steps on {device}", flush=True),
    )
    seconds = time.perf_counter() - started
    stored = next(
        folder / name for name in ("adapter.safetensors", "model.safetensors") if (folder / name).is_file()
    )
    return {
        "trained": result.trainable,
        "weights": result.weights,
        "steps": result.steps,
        "validation_accuracy": round(result.validation["accuracy"], 6),
        "seconds": round(seconds, 1),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "stored_bytes": stored.stat().st_size,
    }


def test(way: str, rate: float, layout: Layout) -> dict[str, Any]:
    """Accuracy on the test part, with a bootstrap interval."""
    import numpy as np
    import pandas as pd

    from catena.predictor import Predictor

    records = pd.read_parquet(layout.prepared / "test.parquet")
    said = Predictor.load(model_folder(way, rate, layout)).predict(records, clean=False)
    right = (said["prediction"].to_numpy() == records["label"].to_numpy()).astype(float)
    draws = np.random.default_rng(0).choice(right, (2000, len(right))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "records": len(right),
        "accuracy": round(float(right.mean()), 6),
        "low": round(float(low), 6),
        "high": round(float(high), 6),
    }


def model_folder(way: str, rate: float, layout: Layout) -> Path:
    """Where the model of one run lies."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in way)
    return layout.root / "models" / "tried" / f"{name}-{rate:g}".replace(".", "_")


def best_rate(runs: dict[str, Any], way: str) -> float | None:
    """The learning rate with the best validation accuracy, the lower one of equals, once all are there."""
    found = {rate: runs.get(f"{way} @ {rate:g}") for rate in WAYS[way][1]}
    if not all(found.values()):
        return None
    return max(found, key=lambda rate: (found[rate]["validation_accuracy"], -rate))  # type: ignore[index]


def rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What the table says of each method that has been tested."""
    return [
        {"method": way, **results["runs"][f"{way} @ {tested['learning_rate']:g}"], **tested}
        for way in WAYS
        if (tested := results["tests"].get(way)) is not None
    ]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| method | learning rate | trained | validation accuracy | test accuracy | seconds | memory "
        "| stored |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows(results):
        lines.append(
            f"| {row['method']} | {row['learning_rate']:g} | {row['trained']:,} "
            f"({row['trained'] / row['weights']:.2%}) | {row['validation_accuracy']:.4f} "
            f"| {row['accuracy']:.4f} ({row['low']:.4f}–{row['high']:.4f}) | {row['seconds']:.0f} "
            f"| {row['memory_mib']:,} MiB | {row['stored_bytes'] / 1e6:.2f} MB |"
        )
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """Test accuracy against the share of weights that train."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for row, shape in zip(rows(results), "osD^v<>PX*hp", strict=False):
        share = 100 * row["trained"] / row["weights"]
        span = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        axes.errorbar(share, row["accuracy"], span, fmt=shape, capsize=2, elinewidth=0.8, label=row["method"])
    axes.set(xscale="log", xlabel="weights that train (%)", ylabel="test accuracy")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Train what is missing, test what is complete, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--backbones", type=Path, default=ROOT / "models" / "backbones")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "catena-peft-methods")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--max-steps", type=int, default=None)
    parser.add_argument("--only", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="METHOD")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "RATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    layout = Layout(options.work.resolve())
    if options.one:
        way, rate = options.one[0], float(options.one[1])
        print(json.dumps(train(way, rate, options, layout)))
        return
    prepare(options, layout)
    os.environ["CATENA_BACKBONES"] = str(layout.backbone("x").parent)
    budget = {"epochs": options.epochs, "max_steps": options.max_steps}
    results: dict[str, Any] = {"budget": budget, "runs": {}, "tests": {}, "machine": describe()}
    if options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))
        if results["budget"] != budget:
            sys.exit(
                f"{options.output} holds runs of another budget ({results['budget']}); name another --output."
            )
    for way in options.only:
        for rate in WAYS[way][1]:
            tried, folder = f"{way} @ {rate:g}", model_folder(way, rate, layout)
            needed = way not in results["tests"] and not folder.is_dir()
            if tried in results["runs"] and not needed:
                continue
            command = [
                sys.executable,
                "-m",
                "benchmarks.peft_methods",
                *sys.argv[1:],
                "--one",
                way,
                f"{rate:g}",
            ]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            results["runs"][tried] = json.loads(done.stdout.splitlines()[-1])
            write_json(options.output, results)
            print(f"{tried}: {results['runs'][tried]}", flush=True)
        rate_chosen = best_rate(results["runs"], way)
        if rate_chosen is not None and way not in results["tests"]:
            results["tests"][way] = {"learning_rate": rate_chosen, **test(way, rate_chosen, layout)}
            write_json(options.output, results)
    text = table(results)
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(results, options.output.with_suffix(".svg"))
    print(text)


if __name__ == "__main__":
    main()

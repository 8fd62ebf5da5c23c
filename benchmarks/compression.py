"""Smaller and faster models on SST-2: size, accuracy, latency and throughput of every way.

    python -m benchmarks.compression --data FOLDER            # train.tsv, dev.tsv, test.tsv of SST-2
    python -m benchmarks.compression --data FOLDER --tiny     # a few steps, to try the script
    python -m benchmarks.compression --table                  # only print what there is

Goes on where it was: what `benchmarks/results/compression.json` holds is not run again, and trained models
are kept in `.catena/benchmarks/compression`. Writes the table (`.md`) and the figure (`.svg`) beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks import public_sets
from benchmarks.machine import describe, spread
from catena.data.fetch import fetch_backbone
from catena.layout import Layout
from catena.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
PRESET = ROOT / "presets" / "sst2.yaml"
LATENCIES = 100
#: Keys: what stands in the table. Values: changes of the preset's groups for a training.
STUDENT: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-4}
LSTM: dict[str, Any] = {
    "backbone": {"name": "lstm", "type": "recurrent", "hidden_size": 128, "embedding_size": 128},
    "tokenization": {"tokenizer": "wordpiece", "vocabulary_size": 8000, "lowercase": True, "max_length": 64},
    "training": {"epochs": 6, "learning_rate": 2e-3, "dropout": 0.3},
}


def trainings(teacher: str) -> dict[str, dict[str, Any]]:
    """The networks that are trained, by name, after the original."""
    taught = {"distillation": {"teacher": teacher, "temperature": 2.0, "weight": 0.7}}
    three, two = (
        {"backbone": {"keep_layers": layers}, "training": STUDENT} for layers in ([1, 3, 5], [1, 6])
    )
    own = {"start": teacher, "compression": {"prune_layers": 3}}
    return {
        "3 layers, from the original, distilled": {"method": taught | own, "training": {"epochs": 2}},
        "3 layers, from the backbone, distilled": three | {"method": taught},
        "3 layers, from the backbone, labels alone": three,
        "2 layers, from the backbone, distilled": two | {"method": taught},
        "LSTM, distilled": LSTM | {"method": taught},
        "LSTM, labels alone": LSTM,
    }


class Bench:
    """One seed's models in a folder of their own, and the results of all."""

    def __init__(self, folder: Path, results: Path, data: Path, tiny: bool) -> None:
        self.folder, self.results, self.data, self.tiny = folder, results, data, tiny
        self.done: dict[str, Any] = {"machine": describe(), "runs": {}}
        if results.is_file():
            self.done = json.loads(results.read_text(encoding="utf-8"))

    def keep(self, name: str, seed: int, measure: Callable[[], dict[str, float]]) -> None:
        """Measure, unless that was done; stored at once."""
        runs = self.done["runs"].setdefault(name, {})
        if str(seed) in runs:
            return
        runs[str(seed)] = measure()
        self.results.parent.mkdir(parents=True, exist_ok=True)
        partial = self.results.with_suffix(".partial")
        partial.write_text(json.dumps(self.done, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.results)
        print(name, seed, runs[str(seed)], flush=True)

    # -- training ----------------------------------------------------------------------------

    def train(self, name: str, seed: int, changes: dict[str, Any]) -> Path:
        """The model folder of a training, trained now if it is not there."""
        slug = "".join(letter if letter.isalnum() else "-" for letter in name)
        target = self.folder / "models" / f"{slug}-{seed}"
        if (target / "catena.json").is_file():
            return target
        kind = "lstm" if "tokenization" in changes else "minilm"
        project = self.folder / kind
        self._project(project, seed, changes)
        stages = ["train"] if (project / "data" / "tokenized").is_dir() else ["prepare", "tokenize", "train"]
        seconds = 0.0
        for stage in stages:
            started = time.perf_counter()
            self._run(project, stage)
            seconds = time.perf_counter() - started
        shutil.copytree(project / "models" / "candidate", target.with_suffix(".partial"), dirs_exist_ok=True)
        (target.parent / f"{target.name}.seconds").write_text(f"{seconds:.1f}", encoding="utf-8")
        target.with_suffix(".partial").replace(target)
        return target

    def _project(self, project: Path, seed: int, changes: dict[str, Any]) -> None:
        yaml = YAML()
        settings = yaml.load(PRESET.read_text(encoding="utf-8"))
        for group, values in changes.items():
            if group == "backbone" and "type" in values:
                settings[group] = values
            else:
                settings.setdefault(group, {}).update(values)
        settings["seed"] = seed
        if self.tiny:
            settings["training"]["max_steps"] = 3
        raw = project / "data" / "raw" / "sst2"
        if not raw.is_dir():
            raw.mkdir(parents=True)
            for name in ("train.tsv", "dev.tsv", "test.tsv"):
                lines = (self.data / name).read_text(encoding="utf-8").splitlines()
                chosen = lines[:120] if self.tiny else lines
                (raw / name).write_text("\n".join(chosen) + "\n", encoding="utf-8")
        with (project / "params.yaml").open("w", encoding="utf-8") as stream:
            yaml.dump(settings, stream)
        backbone = settings["backbone"]["name"]
        place = project / "models" / "backbones" / backbone
        if not place.is_dir():
            ready = ROOT / "models" / "backbones" / backbone
            if ready.is_dir():
                shutil.copytree(ready, place)
            else:
                fetch_backbone(load_settings(project / "params.yaml"), Layout(project))

    @staticmethod
    def _run(project: Path, stage: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        subprocess.run(
            [sys.executable, "-m", f"tasks.{stage}"],
            cwd=project,
            env=environment | {"PYTHONPATH": str(ROOT)},
            check=True,
        )

    # -- everything of one seed --------------------------------------------------------------

    def run(self, seed: int) -> None:
        original = self.train("original", seed, {"method": {"name": "full"}})
        validation = self.folder / "minilm" / "data" / "prepared" / "validation.parquet"
        test = pd.read_parquet(self.folder / "minilm" / "data" / "prepared" / "test.parquet")
        for name, precision in (("original, float32", "float32"), ("original, bfloat16", "bfloat16")):
            self.keep(name, seed, lambda precision=precision: predicted(original, test, precision))
        cuts: dict[str, dict[str, Any]] = {
            "int8": {"quantize": "int8"},
            "a third of the heads cut out": {"prune_heads": 1 / 3},
            "1 of 6 layers cut out": {"prune_layers": 1},
            "3 of 6 layers cut out": {"prune_layers": 3},
        }
        for name, settings in cuts.items():
            self.keep(name, seed, lambda s=settings: self._cut(original, validation, test, s))
        for name, changes in trainings(str(original)).items():
            self.keep(name, seed, lambda n=name, c=changes: self._trained(n, seed, c, test))
        student = self.train(
            "3 layers, from the backbone, distilled", seed,
            trainings(str(original))["3 layers, from the backbone, distilled"],
        )  # fmt: skip
        self.keep(
            "3 layers, from the backbone, distilled, int8", seed,
            lambda: self._cut(student, validation, test, cuts["int8"]),
        )  # fmt: skip
        for name, folder, quantize in (
            ("ONNX, float32", original, False),
            ("ONNX, int8", original, True),
            ("3 layers, from the backbone, distilled, ONNX int8", student, True),
        ):
            self.keep(name, seed, lambda f=folder, q=quantize: self._exported(f, validation, test, q))

    def _cut(
        self, source: Path, validation: Path, test: pd.DataFrame, settings: dict[str, Any]
    ) -> dict[str, float]:
        from catena.compression.folder import compress_folder
        from catena.settings import CompressionSettings

        target = self.folder / "scratch"
        shutil.rmtree(target, ignore_errors=True)
        compress_folder(source, target, CompressionSettings(**settings), validation)
        return predicted(target, test, "auto" if "quantize" in settings else "float32")

    def _trained(self, name: str, seed: int, changes: dict[str, Any], test: pd.DataFrame) -> dict[str, float]:
        folder = self.train(name, seed, changes)
        seconds = float((folder.parent / f"{folder.name}.seconds").read_text(encoding="utf-8"))
        return predicted(folder, test, "float32") | {"train_seconds": seconds}

    def _exported(
        self, source: Path, validation: Path, test: pd.DataFrame, quantize: bool
    ) -> dict[str, float]:
        from catena.compression.onnx import export_onnx

        target = self.folder / "scratch-onnx"
        shutil.rmtree(target, ignore_errors=True)
        done = export_onnx(source, target, validation, quantize=quantize, agreement=0.0 if self.tiny else 0.9)
        return exported(target, test) | {"largest_difference": done.difference}


def figures(answer: Callable[[list[str]], Sequence[str]], test: pd.DataFrame, size: int) -> dict[str, float]:
    """Accuracy, records a second (all at once) and median milliseconds (one at a time)."""
    texts = test["text"].tolist()
    answer(texts[:64])  # kernels are made ready
    started = time.perf_counter()
    said = answer(texts)
    seconds = time.perf_counter() - started
    taken = []
    for text in texts[: min(LATENCIES, len(texts) // 10)]:
        begun = time.perf_counter()
        answer([text])
        taken.append(time.perf_counter() - begun)
    return {
        "megabytes": size / 1e6,
        "accuracy": float((np.asarray(said) == test["label"].to_numpy()).mean()),
        "milliseconds": 1000 * statistics.median(taken),
        "records_a_second": len(texts) / seconds,
    }


def predicted(folder: Path, test: pd.DataFrame, precision: str) -> dict[str, float]:
    """The figures of a model folder."""
    from catena.backbones.smaller import count_weights
    from catena.predictor import Predictor

    predictor = Predictor.load(folder, device="cpu", precision=precision)

    def answer(texts: list[str]) -> Sequence[str]:
        labels: list[str] = predictor.predict(pd.DataFrame({"text": texts}), clean=False)[
            "prediction"
        ].tolist()
        return labels

    size = (folder / "model.safetensors").stat().st_size
    return figures(answer, test, size) | {"weights": float(count_weights(predictor.model))}


def exported(folder: Path, test: pd.DataFrame) -> dict[str, float]:
    """The figures of an exported network, with nothing but onnxruntime and tokenizers."""
    import onnxruntime
    import torch
    from tokenizers import Tokenizer

    described = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(described["max_length"])
    tokenizer.enable_padding(pad_id=described["pad_token_id"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    names = described["label_names"]

    def answer(texts: list[str]) -> Sequence[str]:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        said = [""] * len(texts)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            tokens = tokenizer.encode_batch([texts[row] for row in rows])
            given = {
                "input_ids": np.array([one.ids for one in tokens]),
                "attention_mask": np.array([one.attention_mask for one in tokens]),
            }
            (logits,) = session.run(None, given)
            for row, best in zip(rows, logits.argmax(-1), strict=True):
                said[row] = names[best]
        return said

    return figures(answer, test, (folder / "model.onnx").stat().st_size)


def table(done: dict[str, Any]) -> str:
    """Markdown: medians, with the least and the greatest of all seeds."""

    def cell(values: Sequence[float], digits: int) -> str:
        found = spread(values, digits)
        if found["runs"] == 1 or found["min"] == found["max"]:
            return f"{found['median']:.{digits}f}"
        return f"{found['median']:.{digits}f} ({found['min']:.{digits}f}–{found['max']:.{digits}f})"

    lines = [
        "| model | weights, MB | accuracy | one record, ms | records/s |",
        "|---|---|---|---|---|",
    ]
    for name, runs in done["runs"].items():
        values = list(runs.values())
        cells = [
            cell([one[key] for one in values], digits)
            for key, digits in (
                ("megabytes", 1), ("accuracy", 4), ("milliseconds", 1), ("records_a_second", 0),
            )
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(done: dict[str, Any], target: Path) -> None:
    """Accuracy by latency, one point a model, sized by its weights on disk."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, (name, runs) in enumerate(done["runs"].items()):
        x, y, size = (
            statistics.median(one[key] for one in runs.values())
            for key in ("milliseconds", "accuracy", "megabytes")
        )
        axes.scatter(x, y, s=20 + 4 * size, alpha=0.6, color=plt.get_cmap("tab20")(number % 20), label=name)
    axes.set_xlabel("one record, ms (median)")
    axes.set_ylabel("accuracy on SST-2's test part")
    axes.grid(alpha=0.3)
    legend = axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for handle in legend.legend_handles:
        handle.set_sizes([25])
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=public_sets.FOLDER / "sst2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    place = ROOT / ".catena" / "benchmarks" / ("compression-tiny" if arguments.tiny else "compression")
    results = place / "compression.json" if arguments.tiny else ROOT / "benchmarks/results/compression.json"
    bench = Bench(place, results, arguments.data, arguments.tiny)
    if not arguments.table:
        if not (arguments.data / "train.tsv").is_file():
            raise SystemExit(
                f"There is no {arguments.data / 'train.tsv'}; name SST-2's folder with `--data`."
            )
        for seed in arguments.seeds:
            bench.run(seed)
    text = table(bench.done)
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(bench.done, results.with_suffix(".svg"))
    print(text)


if __name__ == "__main__":
    main()

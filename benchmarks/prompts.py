"""Prompts without training: what examples, the choice of them, and calibration do for a causal model.

    python -m benchmarks.prompts --data DATA            # folders sst2 and phrasebank in DATA
    python -m benchmarks.prompts --data DATA --table    # only what has been measured so far

SST-2 (two labels) and Financial PhraseBank (three; it has no split of its own, so records are drawn) with
SmolLM2-135M-Instruct: zero-shot, and 1, 4 and 8 examples drawn at random, balanced by label, or the most
similar ones by BM25; each without calibration, with contextual calibration (Zhao et al. 2021, arXiv
2102.09690), and as pointwise mutual information with the domain (Holtzman et al. 2021, arXiv 2104.08315). The
seed draws the examples (of similar ones the `--pool` training records in which they are sought) and nothing
else; all are measured on the same test records, drawn once. What the papers found, to compare with:
calibration raises the mean and lowers the spread over examples, most where they are few; similar examples
beat random ones (Liu et al. 2022, arXiv 2101.06804).

Each figure goes to `benchmarks/results/prompts.json` as soon as it is measured, and is not measured again.
The three ways to correct share one pass. The figure is `prompts.svg` beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import public_sets
from benchmarks.machine import describe
from catena.files import write_json
from catena.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATES = {"sst2": "templates/sentiment.yaml", "phrasebank": "templates/financial-sentiment.yaml"}
LABELS = {"sst2": ("negative", "positive"), "phrasebank": ("negative", "neutral", "positive")}
CORRECTIONS = ("none", "contextual", "pmi")
SHOTS = (1, 4, 8)
CHOICES = ("random", "balanced", "similar")
Record = tuple[str, int]


def read(name: str, data: Path) -> tuple[list[Record], list[Record]]:
    """Texts and labels' numbers: what examples come from, and what is measured."""
    if name == "sst2":
        parts = public_sets.sst2(data)
        train, test = parts["train"], parts["test"]
    else:
        table = public_sets.phrasebank(data).sample(frac=1.0, random_state=0)
        half = len(table) // 2
        train, test = table[:half], table[half:]
    return _numbered(name, train), _numbered(name, test)


def _numbered(name: str, table: pd.DataFrame) -> list[Record]:
    return [
        (str(text).strip(), LABELS[name].index(str(label).strip()))
        for text, label in zip(table["text"], table["label"], strict=True)
    ]


def runs(seeds: int, choices: Sequence[str]) -> list[dict[str, Any]]:
    """Everything that is measured; without examples the seed has no say."""
    found: list[dict[str, Any]] = [{"shots": 0, "choice": "none", "seed": 0}]
    for seed, shots, choice in itertools.product(range(seeds), SHOTS, choices):
        found.append({"shots": shots, "choice": choice, "seed": seed})
    return found


class Measured:
    """The network, read once, and the records as tokens."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        from catena.backbones import get_backbone
        from catena.methods import HeadRequest

        backbone = get_backbone("pretrained")
        self.folder = options.backbone
        self.tokenizer = backbone.tokenizer(self.folder)
        self.network = backbone.build(
            self.folder, HeadRequest("language-model"), dropout=None, attention="sdpa"
        )
        self.name = name
        train, test = read(name, options.data)
        self.train = train
        self.pool = options.pool
        drawn = np.random.default_rng(1).permutation(len(test))[: options.records]
        self.test = self._features([test[row] for row in drawn.tolist()])

    def _features(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        texts = [text for text, _ in records]
        ids = self.tokenizer(texts, truncation=True, max_length=128)["input_ids"]
        return [
            {"input_ids": np.asarray(one), "labels": label}
            for one, (_, label) in zip(ids, records, strict=True)
        ]

    def measure(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """Accuracy and macro F1 of one way to ask, corrected in each way; one pass over the records."""
        import torch
        from sklearn.metrics import accuracy_score, f1_score

        from catena.methods import Surroundings, get_method
        from catena.methods.prompt_scores import calibrated, label_scores
        from catena.problems import HeadSpec

        given = {"choice": run["choice"]} if run["shots"] else {}
        settings = self._settings({"shots": run["shots"], "normalization": "pmi", **given})
        method = get_method(settings.method)
        head = HeadSpec("sequence-classification", LABELS[self.name])
        method.check("classification", head)
        drawn = np.random.default_rng(100 + run["seed"]).permutation(len(self.train))[: self.pool]
        train = self._features([self.train[row] for row in drawn.tolist()])
        started = time.perf_counter()
        around = Surroundings("classification", head, self.tokenizer, train, self.folder, run["seed"])
        model: Any = method.prepare(self.network, around)
        asker = model.asker
        owners, domain = asker.verbalized.owners, asker.memory.domain
        said: dict[str, list[int]] = {name: [] for name in CORRECTIONS}
        similar = run["choice"] == "similar"
        with torch.inference_mode():
            content_free = asker.content_free()
            # examples that are the same for all leave the same preference
            once = None if similar else asker.word_scores(content_free, [asker.memory.examples] * 3)[None]
            for at in range(0, len(self.test), 32):
                records = [{"text": one["input_ids"].tolist()} for one in self.test[at : at + 32]]
                shown = asker.shown(records)
                if once is None:
                    words, empty = asker.with_content_free(records, shown)
                else:
                    words, empty = asker.word_scores(records, shown), once
                plain = label_scores(words, [1] * len(owners), owners, "none", [])
                neutral = label_scores(empty.flatten(0, 1), [1] * len(owners), owners, "none", [])
                scores = {
                    "none": plain,
                    "contextual": calibrated(plain, neutral.view(*empty.shape[:2], -1)),
                    "pmi": label_scores(words, [1] * len(owners), owners, "pmi", domain),
                }
                for name, values in scores.items():
                    said[name] += values.argmax(1).tolist()
        seconds = round(time.perf_counter() - started, 1)
        truth = [one["labels"] for one in self.test]
        classes = len(LABELS[self.name])
        return [
            {
                **run,
                "correction": name,
                "accuracy": round(float(accuracy_score(truth, said[name])), 4),
                "macro_f1": round(float(f1_score(truth, said[name], average="macro", zero_division=0.0)), 4),
                "said": np.bincount(said[name], minlength=classes).tolist(),
                "truth": np.bincount(truth, minlength=classes).tolist(),
                "seconds_of_all": seconds,
            }
            for name in CORRECTIONS
        ]

    def _settings(self, prompt: dict[str, Any]) -> Any:
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            params = Path(scratch, "params.yaml")
            Path(scratch, "templates").symlink_to(ROOT / "templates")
            method = {"name": "prompt", "prompt": {"template": TEMPLATES[self.name], **prompt}}
            params.write_text(json.dumps({"method": method}), encoding="utf-8")
            return load_settings(params)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over seeds of each way to ask."""
    found = []
    keys = dict.fromkeys((row["shots"], row["choice"]) for row in rows)
    for shots, choice in sorted(keys, key=lambda key: (key[0], [*CHOICES, "none"].index(key[1]))):
        line: dict[str, Any] = {"shots": shots, "choice": choice}
        for name in CORRECTIONS:
            values = [
                row["accuracy"]
                for row in rows
                if (row["shots"], row["choice"], row["correction"]) == (shots, choice, name)
            ]
            if values:
                line[name] = {
                    "mean": round(float(np.mean(values)), 4),
                    "deviation": round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None,
                    "runs": len(values),
                }
        found.append(line)
    return found


def table(name: str, lines: Sequence[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    shown = [
        f"{name}, accuracy (mean ± deviation over seeds)",
        "",
        "| examples | chosen | " + " | ".join(CORRECTIONS) + " |",
        "|---" * (2 + len(CORRECTIONS)) + "|",
    ]
    for line in lines:
        cells = []
        for correction in CORRECTIONS:
            value = line.get(correction)
            spread = "" if value is None or value["deviation"] is None else f" ± {value['deviation']:.3f}"
            cells.append("–" if value is None else f"{value['mean']:.3f}{spread}")
        shown.append(f"| {line['shots']} | {line['choice']} | " + " | ".join(cells) + " |")
    return "\n".join(shown)


def draw(summaries: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Accuracy by the number of examples; one panel a way of choosing, one line a correction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2 * len(summaries)), layout="constrained")
    panels = figure.subplots(len(summaries), len(CHOICES), sharey="row", squeeze=False)
    for row, (name, lines) in enumerate(summaries.items()):
        for axes, choice in zip(panels[row], CHOICES, strict=True):
            for correction, style in zip(CORRECTIONS, ("o-", "s--", "^:"), strict=True):
                points = [
                    (line["shots"], line[correction])
                    for line in lines
                    if line["choice"] in (choice, "none") and correction in line
                ]
                if points:
                    axes.errorbar(
                        [shots for shots, _ in points],
                        [value["mean"] for _, value in points],
                        [value["deviation"] or 0.0 for _, value in points],
                        fmt=style,
                        capsize=3,
                        label=correction,
                    )
            axes.set(title=f"{name}, {choice}", xlabel="examples", xticks=[0, *SHOTS])
            axes.grid(alpha=0.3)
        panels[row][0].set(ylabel="accuracy")
    panels[0][0].legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure what is not there yet, then print tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=public_sets.FOLDER)
    folder = ROOT / "models" / "backbones" / "SmolLM2-135M-Instruct"
    parser.add_argument("--backbone", type=Path, default=folder, help="fetched by `catena fetch`")
    parser.add_argument("--names", nargs="+", choices=list(TEMPLATES), default=list(TEMPLATES))
    parser.add_argument("--records", type=int, default=300, help="test records")
    parser.add_argument("--pool", type=int, default=500, help="training records that a seed draws")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--choices",
        nargs="+",
        choices=CHOICES,
        default=list(CHOICES),
        help="similar ones take several times as long",
    )
    parser.add_argument("--limit", type=int, help="measure at most so many, then stop")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / "prompts.json"
    known: dict[str, Any] = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    size = {"records": options.records, "pool": options.pool, "backbone": options.backbone.name}
    if known and {name: known[name] for name in size} != size:
        parser.error(f"{target} holds results of other sizes; move it away or give --output")
    known |= {**size, "machine": describe()}
    measured: dict[str, list[dict[str, Any]]] = known.setdefault("runs", {})
    left = options.limit
    for name in () if options.table else options.names:
        rows = measured.setdefault(name, [])
        done = {(row["shots"], row["choice"], row["seed"]) for row in rows}
        wanted = [run for run in runs(options.seeds, options.choices) if tuple(run.values()) not in done]
        bench = Measured(name, options) if wanted else None
        for number, run in enumerate(wanted):
            if bench is None or left == 0:
                break
            left = None if left is None else left - 1
            rows += bench.measure(run)
            write_json(target, known)
            found = {row["correction"]: row["accuracy"] for row in rows[-len(CORRECTIONS) :]}
            shown = json.dumps({**run, **found, "seconds": rows[-1]["seconds_of_all"]})
            print(f"progress {name} {number + 1}/{len(wanted)} {shown}", flush=True)
    known["summary"] = {name: summary(rows) for name, rows in measured.items() if rows}
    write_json(target, known)
    for name, lines in known["summary"].items():
        print(table(name, lines) + "\n")
    draw(known["summary"], target.with_suffix(".svg"))


if __name__ == "__main__":
    main()

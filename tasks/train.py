"""Train: token ids → fine-tuned weights in a complete model folder, and the training curve."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from catena.errors import ModelError
from catena.files import complete_file, sha256_folder
from catena.layout import Layout
from catena.problems import get_problem
from catena.registry.predecessors import Predecessor, predecessors
from catena.registry.tracking import TrackedRun, open_run
from catena.settings import Settings
from catena.training.batches import Plan
from catena.training.chain import train_chain
from catena.training.devices import Device
from catena.training.engine import Row
from catena.training.finetune import Result, TrainingData, fingerprint
from catena.training.self_training import resumable, self_train
from catena.training.self_training import summary as self_training_summary
from catena.training.teaching import Teaching, learn_from
from tasks.stage import run_stage
from tasks.tails import said_of, tail_layouts


def train(settings: Settings, layout: Layout) -> dict[str, object]:
    """Write `models/candidate` and `reports/training`; open the MLflow run."""
    problem = get_problem(settings.problem)
    data = TrainingData.load(layout.tokenized, problem, settings.training.max_length)

    def fit(others: Mapping[str, Predecessor], **how: Any) -> Result:
        start = others.get("start")
        return self_train(
            settings,
            data,
            cache=layout.frozen_outputs,
            say=partial(print, flush=True),
            start=None if start is None else start.folder,
            teaching=_teaching(settings, layout, data, others.get("teacher")),
            **how,
        )

    own = {"problem": settings.problem.model_dump(), **_data_card(settings, data)}
    return _train(settings, layout, fit, own)


def train_tails(settings: Settings, layout: Layout) -> dict[str, object]:
    """The same for a chain, from the tokenized data of all its tails."""
    data = {}
    for name, tail in tail_layouts(settings, layout).items():
        problem = get_problem(settings.tail(name).problem)
        with said_of(name):
            data[name] = TrainingData.load(tail.tokenized, problem, settings.training.max_length)
    own = {
        name: {
            "problem": get_problem(settings.tail(name).problem).settings.model_dump(),
            **_data_card(settings.tail(name), one),
        }
        for name, one in data.items()
    }

    def fit(others: Mapping[str, Predecessor], **how: Any) -> Result:
        return train_chain(settings, data, **how)

    return _train(settings, layout, fit, {"tails": own})


def _train(
    settings: Settings, layout: Layout, fit: Callable[..., Result], card: dict[str, Any]
) -> dict[str, object]:
    backbone = layout.backbone(settings.backbone.name)
    if not backbone.is_dir():
        raise ModelError(f"There is no backbone in {backbone}; run `catena fetch` first.")
    others = predecessors(settings, layout)
    identities = {role: other.identity for role, other in others.items()}
    name = fingerprint(settings, sha256_folder(layout.tokenized), sha256_folder(backbone), identities)
    checkpoints = layout.checkpoints(name)
    resuming = resumable(checkpoints)
    if resuming is not None:
        print(f"resuming at {resuming}", flush=True)
    with open_run(settings, layout, name, resume=resuming is not None) as run:
        progress = Progress(run)
        result = fit(
            others,
            backbone_folder=backbone,
            checkpoints=checkpoints,
            target=layout.candidate,
            card={**card, **_card(settings, name)} | _origins(others),
            on_row=progress.row,
            on_start=progress.start,
        )
        run.log_metrics({f"best_validation_{key}": value for key, value in result.validation.items()}, None)
        run.log_params({"weights.trained": result.trainable, "weights.all": result.weights})
        run.set_tags({"catena.device": str(result.device), "catena.best_step": str(result.best_step)})
        _write_curve(layout, result.curve)
        run.log_artifact(layout.training_curve)
    return {
        "device": result.device,
        "steps": f"{result.steps:,}, best after {result.best_step:,}",
        "weights": f"{result.trainable:,} of {result.weights:,} trained "
        f"({result.trainable / result.weights:.2%})",
        **result.notes,
        **_unread(settings),
        **self_training_summary(result.self_training),
        **{f"validation {key}": f"{value:.4f}" for key, value in result.validation.items()},
        "model": layout.candidate.relative_to(layout.root),
    }


def _unread(settings: Settings) -> dict[str, str]:
    """Settings without effect, which are not refused: whoever compares methods keeps those of all."""
    names = [f"method.{name}" for name in settings.method.unread]
    return (
        {"without effect": f"{', '.join(names)} (`method.name` is {settings.method.name})"} if names else {}
    )


def _data_card(settings: Settings, data: TrainingData) -> dict[str, Any]:
    """What a model folder says of the records that it learned from."""
    return {
        "label_names": list(data.label_names),
        "tokenization": settings.tokenization.model_dump(),
        "cleaning": data.statistics["cleaning"],
        "columns": settings.data.columns,
    }


def _card(settings: Settings, name: str) -> dict[str, Any]:
    """What it says of the network besides its files."""
    return {
        "backbone": settings.backbone.model_dump(),
        "method": settings.method.model_dump(),
        "fingerprint": name,
    }


def _origins(others: Mapping[str, Predecessor]) -> dict[str, Any]:
    """What the card remembers of models that the training began with or learned from."""
    return {"predecessors": {role: other.described for role, other in others.items()}} if others else {}


def _teaching(
    settings: Settings, layout: Layout, data: TrainingData, teacher: Predecessor | None
) -> Teaching | None:
    """What the teacher says. Its texts come from `data/prepared`, found by identifiers that are their
    hashes, so that they are what `data/tokenized` was made from."""
    if teacher is None:
        return None
    return learn_from(
        teacher.folder,
        teacher.identity,
        teacher.card,
        get_problem(settings.problem),
        data.label_names,
        layout.tokenized / "train.arrow",
        layout.prepared / "train.parquet",
        layout.private / "teaching",
        settings.method.distillation,
    )


class Progress:
    """Tells terminal and tracker how the training goes."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self.steps = 0
        self.printed = 0.0

    def start(self, device: Device, plan: Plan) -> None:
        self.steps = plan.before + plan.steps
        what = f"training on {device}: {plan.steps:,} steps" if plan.steps else f"measuring on {device}"
        print(what, flush=True)

    def row(self, row: Row) -> None:
        step = int(row["step"])
        values = {key: value for key, value in row.items() if key != "step"}
        self.run.log_metrics(values, step)
        now = time.monotonic()
        validation = any(key.startswith("validation_") for key in row)
        if validation or now - self.printed >= 1.0 or step == self.steps:
            shown = " ".join(f"{key}={value:.4g}" for key, value in values.items())
            print(f"progress step={step}/{self.steps} {shown}", flush=True)
            self.printed = now


def _write_curve(layout: Layout, curve: list[Row]) -> None:
    columns = ["step", "epoch", "loss", "learning_rate"]
    columns += sorted({key for row in curve for key in row} - set(columns))
    rows: dict[int, dict[str, Any]] = {}
    for row in curve:
        rows.setdefault(int(row["step"]), {}).update(row)
    with complete_file(layout.training_curve) as unfinished, unfinished.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))
    # the same as one value a row, which a plot can show without knowing how a problem's scores are called
    with complete_file(layout.training_values) as unfinished, unfinished.open("w", newline="") as stream:
        plain = csv.writer(stream)
        plain.writerow(("step", "name", "value"))
        for name in columns[2:]:
            plain.writerows((step, name, row[name]) for step, row in sorted(rows.items()) if name in row)


if __name__ == "__main__":
    run_stage("train", train, train_tails)

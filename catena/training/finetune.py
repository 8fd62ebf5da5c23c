"""Fine-tuning as a whole: problem, backbone and method joined, trained, and written as a model folder."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from catena import __version__
from catena.backbones import Blueprint, get_backbone
from catena.errors import SettingsError
from catena.files import complete_folder
from catena.methods import Surroundings, get_method
from catena.model_folder import write_card
from catena.problems import Problem, get_problem
from catena.settings import Settings, TrainingSettings
from catena.training.batches import Plan, plan_training
from catena.training.devices import Device, choose_device
from catena.training.engine import Engine, Row
from catena.training.frozen_outputs import Keeper, Part
from catena.training.pseudo_labels import UnlabelledTable
from catena.training.tokens import TokenTable
from catena.training.writing import validation_writer


@dataclass(frozen=True)
class TrainingData:
    """What the tokenize stage made: two parts, what is known about them, and records without labels."""

    folder: Path
    training: TokenTable
    validation: TokenTable
    statistics: dict[str, Any]
    unlabelled: UnlabelledTable | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self.statistics["label_names"])

    @classmethod
    def load(cls, folder: Path, problem: Problem, max_length: int | None = None) -> TrainingData:
        """Open a tokenized folder; its records stay on disk. Training ones are cut to `max_length`."""
        training = TokenTable(folder / "train.arrow", max_length, problem.token_features)
        validation = TokenTable(folder / "validation.arrow")
        statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
        unlabelled = UnlabelledTable.load(folder, max_length, problem.token_features)
        return cls(folder, training, validation, statistics, unlabelled)


@dataclass(frozen=True)
class Result:
    """What a training did."""

    curve: list[Row]
    best_step: int
    steps: int
    device: Device
    trainable: int
    weights: int
    validation: dict[str, float] = field(default_factory=dict)
    #: What the rounds of `catena.training.self_training` learned from, where there were any.
    self_training: dict[str, Any] | None = None


def plan_for(data: TrainingData, settings: TrainingSettings, seed: int, packs: bool = False) -> Plan:
    """The batches of the whole training. Raises `SettingsError` where rows are to be shared and cannot."""
    if settings.packing and not packs:
        raise SettingsError("`training.packing` is not there for this problem; leave it off.")
    return plan_training(
        data.training.lengths,
        batch_tokens=settings.batch_tokens,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        gradient_accumulation=settings.gradient_accumulation,
        max_steps=settings.max_steps,
        seed=seed,
        packed=int(data.statistics["max_length"]) if settings.packing else None,
    )


def fingerprint(settings: Settings, data_sha256: str, backbone_sha256: str) -> str:
    """Sixteen hexadecimal digits that name a training: all that its weights depend on.

    `checkpoint_seconds` and `cache_gigabytes` are left out, because they move no weight.
    """
    training = settings.training.model_dump(exclude={"checkpoint_seconds"})
    content = {
        "seed": settings.seed,
        "problem": settings.problem.model_dump(),
        "backbone": settings.backbone.model_dump(exclude={"source"}),
        "method": settings.method.model_dump(exclude={"cache_gigabytes"}),
        "training": training,
        "data": data_sha256,
        "weights": backbone_sha256,
        "version": __version__,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def finetune(
    settings: Settings,
    data: TrainingData,
    *,
    backbone_folder: Path,
    checkpoints: Path,
    target: Path,
    card: dict[str, Any],
    on_row: Callable[[Row], None],
    on_start: Callable[[Device, Plan], None],
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Fine-tune and write the model folder `target`.

    Resumes from `checkpoints` when a training was interrupted there; the weights are then those
    of an undisturbed run, bit for bit, on the same machine. `card` is completed and stored as
    `catena.json`. Checkpoints are removed once `target` is complete. What is kept of frozen layers lies in
    `cache`, by default beside the checkpoints; `say` is told how that goes.
    """
    training = settings.training
    device = choose_device(training.device, training.precision, training.attention)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling what PyTorch has not written yet costs 5% of the time and changes nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    set_seed(settings.seed)
    problem = get_problem(settings.problem)
    method = get_method(settings.method)
    head = problem.head(data.label_names)
    method.check(problem.name, head)
    backbone = get_backbone(settings.backbone.type)
    tokenizer = backbone.tokenizer(data.folder / "tokenizer") if problem.tokenizes else None
    network = backbone.build(
        backbone_folder,
        method.head(head),
        dropout=training.dropout,
        attention=device.attention,
        pooling=settings.backbone.pooling,
        blueprint=Blueprint.of(settings.backbone, tokenizer),
    )
    around = Surroundings(problem.name, head, tokenizer, data.training, backbone_folder, settings.seed)
    model = method.prepare(network, around)
    plan = plan_for(data, training, settings.seed, problem.packs)
    on_start(device, plan)
    pad_token_id = 0 if tokenizer is None else int(tokenizer.pad_token_id)
    model.to(device.torch_device)
    parts: list[Part] = [data.training, data.validation]
    shortcut = None
    if method.caches:
        keeper = Keeper(
            model, problem, device, pad_token_id, cache or checkpoints.parent / "frozen",
            settings.method.cache_gigabytes, say,
        )  # fmt: skip
        shortcut, parts = keeper.keep(method, data.folder, data.training, data.validation, plan)
    engine = Engine(
        model,
        problem,
        method,
        training,
        plan,
        parts[0],
        parts[1],
        folder=checkpoints,
        device=device,
        pad_token_id=pad_token_id,
        seed=settings.seed,
        class_weights=class_weights(training, data, problem),
        on_row=on_row,
        write=None if tokenizer is None else validation_writer(problem, tokenizer, data.validation, device),
        shortcut=shortcut,
    )
    engine.fit()
    final = method.finish(engine.model)
    with complete_folder(target) as partial:
        method.save(final.to("cpu"), partial)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        write_card(partial, card)
    engine.forget()
    validation = next(
        (
            {name.removeprefix("validation_"): value for name, value in row.items() if "validation_" in name}
            for row in engine.curve
            if row["step"] == engine.best_step and f"validation_{engine.metric}" in row
        ),
        {},
    )
    gc.collect()
    return Result(
        curve=engine.curve,
        best_step=engine.best_step,
        steps=engine.state.global_step,
        device=device,
        trainable=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        weights=sum(weight.numel() for weight in model.parameters()),
        validation=validation,
    )


def class_weights(settings: TrainingSettings, data: TrainingData, problem: Problem) -> torch.Tensor | None:
    """One weight for each class, or nothing where all are equal.

    Raises `SettingsError` where given weights name other classes than the data, or the problem has
    no use for them.
    """
    if settings.class_weights == "none":
        return None
    if not problem.weighs_classes:
        raise SettingsError(
            f"`training.class_weights` says nothing to the problem {problem.name}; set it to none."
        )
    names = data.label_names
    if isinstance(settings.class_weights, dict):
        given = settings.class_weights
        if unknown := sorted(set(given) - set(names)):
            raise SettingsError(
                f"`training.class_weights` names {unknown[0]!r}, which is no class of the data "
                f"({', '.join(names[:10])})."
            )
        return torch.tensor([given.get(name, 1.0) for name in names])
    return torch.tensor(problem.balanced_weights(data.training.labels, len(names)))

"""Fine-tuning as a whole: problem, backbone and method joined, trained, and written as a model folder."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from catena import __version__
from catena.backbones import get_backbone
from catena.backbones.smaller import count_weights
from catena.compression.sample import Sample
from catena.compression.steps import check_plain, cut, remembered, round_off
from catena.errors import SettingsError
from catena.files import complete_folder
from catena.known_names import check_class_weights
from catena.methods import Method, Surroundings, get_method
from catena.methods.trial import check_shared_rows
from catena.model_folder import read_card, write_card
from catena.problems import Problem, get_problem
from catena.settings import CompressionSettings, Settings, TrainingSettings
from catena.training.batches import NOTHING_TO_TRAIN, Plan, plan_training
from catena.training.devices import Device, training_device
from catena.training.engine import Engine, Row
from catena.training.frozen_outputs import Keeper, Part
from catena.training.pseudo_labels import UnlabelledTable
from catena.training.starting import first_network
from catena.training.teaching import Teaching
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
    notes: dict[str, object] = field(default_factory=dict)
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


def fingerprint(
    settings: Settings, data_sha256: str, backbone_sha256: str, models: Mapping[str, str] | None = None
) -> str:
    """Sixteen hexadecimal digits that name a training: all that its weights depend on.

    `checkpoint_seconds` and `cache_gigabytes` are left out, because they move no weight. Of other `models`
    that a training begins with or learns from, their content counts, not where they are found.
    """
    unseen: Any = {"start": True, "cache_gigabytes": True, "distillation": {"teacher"}}
    method = settings.method.model_dump(exclude=unseen)
    training = settings.training.model_dump(exclude={"checkpoint_seconds"})
    content = {
        "seed": settings.seed,
        "problem": settings.problem.model_dump(),
        "backbone": settings.backbone.model_dump(exclude={"source"}),
        "method": method,
        "models": dict(models or {}),
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
    start: Path | None = None,
    teaching: Teaching | None = None,
) -> Result:
    """Fine-tune and write the model folder `target`.

    Resumes from `checkpoints` when a training was interrupted there; the weights are then those
    of an undisturbed run, bit for bit, on the same machine. `card` is completed and stored as
    `catena.json`. Checkpoints are removed once `target` is complete. `start` is the model to begin with
    instead of the backbone, `teaching` what a teacher says of the training records. What is kept of frozen
    layers lies in `cache`, by default beside the checkpoints; `say` is told how that goes.

    Made smaller is a network that has learned: that of `start` before this training, or else the one just
    trained. Eight-bit weights come last.
    """
    training, compression = settings.training, settings.method.compression
    device = training_device(training)
    set_seed(settings.seed)
    problem = get_problem(settings.problem)
    method = get_method(settings.method)
    head = problem.head(data.label_names)
    method.check(problem.name, head)
    if compression.prunes or compression.quantize != "none":
        check_plain(method)
    backbone = get_backbone(settings.backbone.type)
    tokenizer = backbone.tokenizer(data.folder / "tokenizer") if problem.tokenizes else None
    network = first_network(
        settings,
        problem,
        method,
        data.label_names,
        tokenizer,
        backbone=backbone_folder,
        start=start,
        tokens=data.folder,
        attention=device.attention,
    )
    pad_token_id = 0 if tokenizer is None else int(tokenizer.pad_token_id)
    smaller: list[str] = []
    prune = partial(_prune, compression, problem, data.validation, pad_token_id, device)
    if start is not None:
        smaller += prune(network)
        network.train()
    around = Surroundings(
        problem.name,
        head,
        tokenizer,
        data.training.collected,
        backbone_folder,
        settings.seed,
        "@".join(filter(None, (settings.backbone.source, settings.backbone.revision))),
        max_length=settings.tokenization.max_length,
    )
    model = method.prepare(network, around)
    if training.packing:
        check_shared_rows(model)
    # before what was inserted becomes part of other weights
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    weights = sum(weight.numel() for weight in model.parameters())
    plan = plan_for(data, training, settings.seed, problem.packs) if method.trains else NOTHING_TO_TRAIN
    on_start(device, plan)
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
        parts[0] if teaching is None else teaching.table(parts[0]),
        parts[1],
        folder=checkpoints,
        device=device,
        pad_token_id=pad_token_id,
        seed=settings.seed,
        class_weights=class_weights(training, data, problem),
        on_row=on_row,
        write=None if tokenizer is None else validation_writer(problem, tokenizer, data.validation, device),
        shortcut=shortcut,
        teaching=teaching,
    )
    if method.trains:
        engine.fit()
    else:
        engine.evaluate()
    if method.extras:
        method.calibrate(engine.model, engine.said())
    notes = method.notes(engine.model)
    final = method.finish(engine.model)
    if start is None:
        smaller += prune(final)
    weights = count_weights(final) if smaller else weights
    smaller += round_off(final.to("cpu"), compression)
    measured = engine.measure(final) if smaller else {}
    if smaller or start is not None:
        before = None if start is None else read_card(start).get("compression")
        card = {**card, "compression": remembered(final, smaller, before)}
    write_model(target, method, final, tokenizer, card)
    engine.forget()
    gc.collect()
    return Result(
        curve=engine.curve,
        best_step=engine.best_step,
        steps=engine.state.global_step,
        device=device,
        trainable=trainable if method.trains else 0,
        weights=weights,
        validation=measured or engine.best,
        notes=notes | {f"smaller {number}": note for number, note in enumerate(smaller, 1)},
    )


def write_model(
    target: Path,
    method: Method,
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    card: dict[str, Any],
) -> None:
    """Write the model folder `target`: what the method stores of the network, the tokenizer, the card."""
    with complete_folder(target) as unfinished:
        method.save(network.to("cpu"), unfinished)
        if tokenizer is not None:
            tokenizer.save_pretrained(unfinished)
        write_card(unfinished, card)


def _prune(
    settings: CompressionSettings,
    problem: Problem,
    validation: TokenTable,
    pad_token_id: int,
    device: Device,
    network: PreTrainedModel,
) -> list[str]:
    """Prune `network` in place where that is wanted; one sentence for each kind of part that went."""
    if not settings.prunes:
        return []
    sample = Sample.of(problem, validation, validation.lengths, pad_token_id, settings.records, device.kind)
    return cut(network.to(device.kind), settings, sample)


def class_weights(settings: TrainingSettings, data: TrainingData, problem: Problem) -> torch.Tensor | None:
    """One weight for each class, or nothing where all are equal.

    Raises `SettingsError` where given weights name other classes than the data, or the problem has
    no use for them.
    """
    if settings.class_weights == "none":
        return None
    check_class_weights(settings, problem)
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

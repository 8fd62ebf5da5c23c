"""Training a chain as a whole: backbone, links and tails joined, trained, and written as one model folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, set_seed

from catena.backbones import Blueprint, get_backbone
from catena.errors import ModelError, SettingsError
from catena.methods import HeadRequest, Surroundings
from catena.methods.chain import Chain
from catena.methods.chain_network import MARK, ChainNetwork
from catena.problems import get_problem
from catena.settings import ChainSettings, Settings
from catena.training.batches import Plan
from catena.training.chain_engine import ChainEngine, TrainedTail
from catena.training.chain_plan import JoinedTable, plan_chain
from catena.training.chain_pretraining import pretrained_body
from catena.training.chain_tails import check_tails
from catena.training.devices import Device, training_device
from catena.training.engine import Row
from catena.training.finetune import Result, TrainingData, class_weights, write_model

_IMAGES = "image-classification"


def train_chain(
    settings: Settings,
    data: Mapping[str, TrainingData],
    *,
    backbone_folder: Path,
    checkpoints: Path,
    target: Path,
    card: dict[str, Any],
    on_row: Callable[[Row], None],
    on_start: Callable[[Device, Plan], None],
) -> Result:
    """Train a chain on the tokenized data of its tails and write the model folder `target`.

    Resumes from `checkpoints` as `finetune` does. Where the backbone is a chain itself, it goes on with its
    links and tails; `method.chain.earlier` says what of it moves.
    """
    check_tails(settings)
    training, chosen = settings.training, settings.method.chain
    device = training_device(training)
    problems = {name: get_problem(settings.tail(name).problem) for name in data}
    heads = {name: problems[name].head(one.label_names) for name, one in data.items()}
    backbone = get_backbone(settings.backbone.type)
    first = next(iter(data.values()))
    tokenizer = (
        backbone.tokenizer(first.folder / "tokenizer") if next(iter(problems.values())).tokenizes else None
    )
    body = _body(settings, backbone_folder, device, tokenizer, images=tokenizer is None)
    if chosen.pretraining.steps:
        if getattr(body.config, MARK, None):
            _check_pretraining(chosen)
        pretrained_body(settings, body, data, backbone_folder, checkpoints, device, tokenizer)
    # whether the pretraining ran just now or was there already makes no difference to what follows
    set_seed(settings.seed)
    network = ChainNetwork(body, heads, chosen, pooling=settings.backbone.pooling, dropout=training.dropout)
    network.take_over(backbone_folder)
    method = Chain(settings.method)
    around = Surroundings("chain", HeadRequest("chain"), tokenizer, None, backbone_folder, settings.seed)
    model = method.prepare(cast(PreTrainedModel, network), around)
    tails = _trained_tails(settings, data, problems, network, device)
    table = JoinedTable({name: data[name].training for name in tails})
    plan = plan_chain(table, training, chosen, settings.seed, network.earlier)
    on_start(device, plan)
    engine = ChainEngine(
        model,
        tails,
        method,
        training,
        plan,
        table,
        folder=checkpoints,
        device=device,
        pad_token_id=0 if tokenizer is None else int(tokenizer.pad_token_id),
        seed=settings.seed,
        class_weights=None,
        on_row=on_row,
    )
    engine.fit()
    write_model(target, method, engine.model, tokenizer, card)
    engine.forget()
    return Result(
        curve=engine.curve,
        best_step=engine.best_step,
        steps=engine.state.global_step,
        device=device,
        trainable=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        weights=sum(weight.numel() for weight in network.parameters()),
        validation=engine.best,
    )


def _check_pretraining(chosen: ChainSettings) -> None:
    """Raise where pretraining a chain's backbone would not fit what has been learned with it."""
    if chosen.earlier == "keep":
        raise SettingsError(
            "`method.chain.pretraining` would change the backbone under tails that are to be kept; set its "
            "`steps` to 0, or `earlier` to replay."
        )
    if chosen.links:
        raise SettingsError(
            "`method.chain.pretraining` trains the backbone without links, and that of this chain has "
            "learned with some; set its `steps` to 0."
        )


def _body(settings: Settings, folder: Path, device: Device, tokenizer: Any, *, images: bool) -> Any:
    """The backbone without a head of its own."""
    if settings.backbone.type == "pretrained" and settings.backbone.bidirectional:
        raise SettingsError("A chain reads its backbone as it is; leave out `backbone.bidirectional`.")
    backbone = get_backbone(settings.backbone.type)
    set_seed(settings.seed)
    if images:
        # a head with idle weights, since networks for images are built with one
        head = HeadRequest(_IMAGES, ("", ""))
        blueprint = Blueprint.of(settings.backbone, tokenizer)
        return backbone.build(
            folder, head, dropout=settings.training.dropout, attention=device.attention, blueprint=blueprint
        )
    return backbone.encoder(folder, attention=device.attention)


def _trained_tails(
    settings: Settings,
    data: Mapping[str, TrainingData],
    problems: Mapping[str, Any],
    network: ChainNetwork,
    device: Device,
) -> dict[str, TrainedTail]:
    """The tails whose weights move."""
    keeps = network.earlier and settings.method.chain.earlier == "keep"
    names = [name for name in data if not (keeps and name in network.earlier)]
    if not names:
        raise SettingsError(
            "The backbone is a chain with all of these tails, and `method.chain.earlier` is keep, so nothing "
            "would be trained; add a tail, or set it to replay."
        )
    tails = {}
    for name in names:
        weights = None
        if problems[name].weighs_classes:
            weights = class_weights(settings.training, data[name], problems[name])
        if weights is not None:
            weights = weights.to(device.torch_device)
        tails[name] = TrainedTail(name, problems[name], data[name].validation, weights)
    return tails


def load_body(card: Mapping[str, Any], folder: Path, attention: str) -> Any:
    """The backbone of a finished chain."""
    backbone = get_backbone(card["backbone"]["type"])
    problems = [tail["problem"]["name"] for tail in card["tails"].values()]
    if not problems:
        raise ModelError(f"{folder} holds a chain without tails.")
    if problems[0] == "images":
        return backbone.load(folder, HeadRequest(_IMAGES, ("", "")), attention=attention)
    return backbone.encoder(folder, attention=attention)

"""The network that a training begins with: built on the backbone, or another model's as it was stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from catena.backbones import Blueprint, build_network, get_backbone
from catena.compression.steps import check_plain
from catena.errors import ModelError, SettingsError
from catena.files import sha256_file
from catena.methods import Method, get_method
from catena.model_folder import read_card
from catena.problems import Problem
from catena.settings import MethodSettings, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER = "tokenizer.json"


def first_network(
    settings: Settings,
    problem: Problem,
    method: Method,
    label_names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    backbone: Path,
    start: Path | None,
    tokens: Path,
    attention: str,
) -> PreTrainedModel:
    """The network as training finds it.

    Raises `SettingsError` where the model in `start` solves something else, or reads other tokens than
    those in the folder `tokens`.
    """
    head = method.head(problem.head(label_names))
    if start is not None:
        check_plain(method)
        card = read_card(start)
        check_start(card, settings, problem, label_names, tokens)
        network = get_backbone(settings.backbone.type).load(start, head, attention=attention)
        _set_dropout(network, settings.training.dropout)
        return network.train()
    return build_network(
        settings.backbone,
        backbone,
        head,
        dropout=settings.training.dropout,
        attention=attention,
        blueprint=Blueprint.of(settings.backbone, tokenizer),
    )


def check_start(
    card: Mapping[str, Any], settings: Settings, problem: Problem, label_names: Sequence[str], tokens: Path
) -> None:
    """Raise `SettingsError` or `ModelError` where a training cannot begin with the model of this card."""
    check_plain(get_method(MethodSettings.model_validate(card["method"])))
    if card["problem"]["name"] != problem.name:
        raise SettingsError(
            f"`method.start` solves the problem {card['problem']['name']}, not {problem.name}; choose "
            "another model."
        )
    reading = ("bidirectional", "segments") if problem.head(label_names).pairs else ("bidirectional",)
    for name in reading if settings.backbone.type == "pretrained" else ():
        asked, learned = (
            json.dumps(one or False) for one in (getattr(settings.backbone, name), card["backbone"].get(name))
        )
        if asked != learned:
            raise SettingsError(
                f"`method.start` was trained with `backbone.{name}: {learned}`; set it to that, for the "
                "network reads as it learned to."
            )
    if list(card["label_names"]) != list(label_names):
        raise SettingsError(
            f"`method.start` has learned the classes {_listed(card['label_names'])}, and the data have "
            f"{_listed(label_names)}; choose another model."
        )
    if card["backbone"]["type"] != settings.backbone.type:
        raise SettingsError(
            f"`method.start` is built on a backbone of the type {card['backbone']['type']}, and "
            f"`backbone.type` is {settings.backbone.type}; make them the same."
        )
    if settings.backbone.keep_layers is not None:
        raise SettingsError(
            "`backbone.keep_layers` says which of the backbone's layers are kept, and `method.start` brings "
            "layers of its own; set `method.compression.prune_layers` instead."
        )
    if problem.tokenizes:
        stored = card["files"].get(_TOKENIZER, {}).get("sha256")
        here = tokens / "tokenizer" / _TOKENIZER
        if not here.is_file() or sha256_file(here) != stored:
            raise SettingsError(
                "`method.start` reads other tokens than `tokenization` and `backbone` make here; set both as "
                "they were when it was trained."
            )
    trains = settings.method.name != "unchanged"
    if card.get("compression", {}).get("int8") and (trains or settings.method.compression.prunes):
        raise ModelError(
            "`method.start` has its weights in eight bits, which can neither be trained nor cut; begin with "
            "the model before they were rounded."
        )


def _set_dropout(network: nn.Module, rate: float | None) -> None:
    """Dropout as `training.dropout` says; nothing leaves that of the model begun with."""
    if rate is None:
        return
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(list(names)[:6])
    return shown + (" …" if len(names) > 6 else "")

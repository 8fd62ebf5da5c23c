"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from transformers import get_scheduler

from catena.settings import TrainingSettings


def build_optimizer(
    model: nn.Module,
    settings: TrainingSettings,
    factors: Mapping[str, float] | None = None,
    undecayed: Collection[str] = (),
) -> torch.optim.Optimizer:
    """The optimiser over all weights with `requires_grad`; biases and norms are not decayed.

    Neither is what is named in `undecayed`. `factors` on the learning rate, by the names of
    weights, are 1 where nothing else is said.
    """
    rate = settings.learning_rate
    sorted_weights: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            # matrices decay, biases and norms (vectors) do not
            decay = settings.weight_decay if weight.ndim > 1 and name not in undecayed else 0.0
            factor = (factors or {}).get(name, 1.0)
            sorted_weights.setdefault((factor, decay), []).append(weight)
    groups = [
        {"params": weights, "weight_decay": decay, "lr": rate * factor}
        for (factor, decay), weights in sorted_weights.items()
    ]
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=_can_fuse(model))
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=rate)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=settings.momentum)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate)
        case "nadam":
            return torch.optim.NAdam(groups, lr=rate, decoupled_weight_decay=True)
        case "radam":
            return torch.optim.RAdam(groups, lr=rate, decoupled_weight_decay=True)


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int, higher_is_better: bool
) -> LRScheduler | ReduceLROnPlateau:
    """The course of the learning rate over `steps` optimiser steps.

    `reduce_on_plateau` halves the rate after an evaluation without improvement and is stepped by
    the evaluations; the others are stepped by the optimiser.
    """
    if settings.schedule == "reduce_on_plateau":
        return ReduceLROnPlateau(optimizer, mode="max" if higher_is_better else "min", factor=0.5, patience=0)
    warmup = round(settings.warmup_ratio * steps)
    name = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    schedule: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    return schedule


def _can_fuse(model: nn.Module) -> bool:
    return next(model.parameters()).device.type in ("cpu", "cuda")

"""The training of `params.yaml` as a bare PyTorch script: the same batches, steps, mean and validation.

No Trainer, no callbacks, no checkpoints, no tracking; what orchestration costs is measured against it.
Run in a project whose data are tokenized; prints one JSON line with the seconds of the loop, of the
validation in it, and the number of steps. It ends with the weights in a temporary folder.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import nullcontext

import numpy as np
import torch
from transformers import set_seed

from catena.backbones import Blueprint, get_backbone
from catena.layout import Layout
from catena.methods import Surroundings, get_method
from catena.problems import Problem, get_problem
from catena.settings import TrainingSettings, load_settings
from catena.training.averaging import WeightAverage
from catena.training.batches import PAD_TO, plan_inference
from catena.training.devices import Device, choose_device
from catena.training.finetune import TrainingData, class_weights, plan_for
from catena.training.optimizers import build_optimizer, build_schedule
from catena.training.timetable import evaluation_steps


@torch.inference_mode()
def validate(
    model: torch.nn.Module,
    problem: Problem,
    data: TrainingData,
    settings: TrainingSettings,
    device: Device,
    pad_token_id: int,
) -> dict[str, float]:
    """The validation metrics, over batches as the engine makes them."""
    model.eval()
    found: list[np.ndarray] = []
    order: list[int] = []
    for rows in plan_inference(
        data.validation.lengths, batch_tokens=settings.batch_tokens * 2, batch_size=settings.batch_size * 4
    ):
        batch = problem.collate([data.validation[row] for row in rows], pad_token_id, PAD_TO)
        batch.pop("labels")
        with device.autocast:
            found.append(model(**batch).logits.float().numpy())
        order += rows
    model.train()
    return problem.validation_metrics(np.concatenate(found), np.asarray(data.validation.labels)[order])


def main() -> None:
    layout = Layout.find()
    settings = load_settings(layout.params)
    problem = get_problem(settings.problem)
    data = TrainingData.load(layout.tokenized, problem, settings.training.max_length)
    device = choose_device(settings.training.device, settings.training.precision, settings.training.attention)
    set_seed(settings.seed)
    backbone = get_backbone(settings.backbone.type)
    tokenizer = backbone.tokenizer(data.folder / "tokenizer")
    model = get_method(settings.method).prepare(
        backbone.build(
            layout.backbone(settings.backbone.name),
            problem.head(data.label_names),
            dropout=settings.training.dropout,
            attention=device.attention,
            pooling=settings.backbone.pooling,
            blueprint=Blueprint.of(settings.backbone, tokenizer),
        ),
        Surroundings(problem.name, problem.head(data.label_names), tokenizer),
    )
    model.to(device.torch_device).train()
    plan = plan_for(data, settings.training, settings.seed)
    optimizer = build_optimizer(model, settings.training)
    schedule = build_schedule(optimizer, settings.training, plan.steps, True)
    weights = class_weights(settings.training, data, problem)
    accumulation = settings.training.gradient_accumulation
    decay = settings.training.weight_averaging
    average = WeightAverage(model, decay) if decay else None
    measured_at = evaluation_steps(plan, settings.training.evaluations_per_epoch)
    pad_token_id = int(tokenizer.pad_token_id)
    validation = 0.0
    started = time.perf_counter()
    for first in range(0, len(plan), accumulation):
        batches = plan.batches[first : first + accumulation]
        records = sum(map(len, batches))
        for rows in batches:
            batch = problem.collate([data.training[row] for row in rows], pad_token_id, PAD_TO)
            labels = batch.pop("labels")
            with device.autocast:
                logits = model(**batch).logits
            loss = problem.loss(logits, labels, weights, settings.training.label_smoothing)
            (loss * (len(rows) / records)).backward()
        if settings.training.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.training.gradient_clipping)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        step = first // accumulation + 1
        if average is not None:
            average.update(step)
        if step in measured_at:
            begun = time.perf_counter()
            with average.in_place() if average is not None else nullcontext():
                validate(model, problem, data, settings.training, device, pad_token_id)
            validation += time.perf_counter() - begun
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
    print(json.dumps({"seconds": seconds, "validation": validation, "steps": plan.steps}), flush=True)
    os._exit(0)  # as the stages end


if __name__ == "__main__":
    main()

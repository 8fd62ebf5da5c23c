"""The training of `params.yaml` as a bare PyTorch loop: the same batches and steps, and nothing else.

No Trainer, no callbacks, no checkpoints, no tracking; what the engine costs is measured against it.
Run in a project whose data are tokenized; prints one JSON line with seconds and steps.
"""

from __future__ import annotations

import json
import time

import torch
from transformers import set_seed

from catena.backbones import get_backbone
from catena.layout import Layout
from catena.methods import get_method
from catena.problems import get_problem
from catena.settings import load_settings
from catena.training.batches import PAD_TO
from catena.training.devices import choose_device
from catena.training.finetune import TrainingData, class_weights, plan_for
from catena.training.optimizers import build_optimizer, build_schedule


def main() -> None:
    layout = Layout.find()
    settings = load_settings(layout.params)
    data = TrainingData.load(layout.tokenized, settings.training.max_length)
    device = choose_device(settings.training.device, settings.training.precision, settings.training.attention)
    set_seed(settings.seed)
    problem = get_problem(settings.problem.name)
    backbone = get_backbone(settings.backbone.type)
    tokenizer = backbone.tokenizer(data.folder / "tokenizer")
    model = get_method(settings.method.name).prepare(
        backbone.build(
            layout.backbone(settings.backbone.name),
            problem.head(data.label_names),
            dropout=settings.training.dropout,
            attention=device.attention,
            pooling=settings.backbone.pooling,
        ),
        settings.method,
    )
    model.to(device.torch_device).train()
    plan = plan_for(data, settings.training, settings.seed)
    optimizer = build_optimizer(model, settings.training)
    schedule = build_schedule(optimizer, settings.training, plan.steps, True)
    weights = class_weights(settings.training, data)
    accumulation = settings.training.gradient_accumulation
    started = time.perf_counter()
    for first in range(0, len(plan), accumulation):
        batches = plan.batches[first : first + accumulation]
        records = sum(map(len, batches))
        for rows in batches:
            batch = problem.collate([data.training[row] for row in rows], int(tokenizer.pad_token_id), PAD_TO)
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
    print(json.dumps({"seconds": time.perf_counter() - started, "steps": plan.steps}))


if __name__ == "__main__":
    main()

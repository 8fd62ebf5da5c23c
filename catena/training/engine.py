"""The training loop: transformers' Trainer over a planned order of batches, resumable at any step."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from catena.errors import ModelError
from catena.files import complete_folder
from catena.known_names import validation_metric
from catena.methods import Method, Validation
from catena.methods.shortcut import Shortcut
from catena.problems import Measured, Problem
from catena.settings import TrainingSettings
from catena.training.averaging import WeightAverage
from catena.training.batches import PAD_TO, Plan, RowOutputs, plan_inference
from catena.training.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    moving_weights,
    restore_random_states,
    save_checkpoint,
    trained_weights,
)
from catena.training.devices import Device
from catena.training.frozen_outputs import STATES, Part, stacked_states
from catena.training.inputs import network_inputs
from catena.training.optimizers import build_optimizer, build_schedule
from catena.training.teaching import FEATURE, TaughtTable, Teaching
from catena.training.timetable import Timetable
from catena.training.weighting import WEIGHT, weighted_mean

Row = dict[str, float]
#: Called with each row of the training curve as it is measured.
OnRow = Callable[[Row], None]


class Engine(Trainer):  # type: ignore[misc]
    """transformers' Trainer, with four things replaced.

    - The data order is one `Plan` for the whole training, seen by the Trainer as one epoch. The
      order after resuming is then the same list, skipped to its place.
    - Checkpoints are complete and without pickle (`catena.training.checkpoints`).
    - Validation runs over batches sorted by length and yields the problem's own metrics; where texts are
      to be written for it, `write` does so and measures them.
    - The best weights so far are kept in `<folder>/best` and are what training ends with.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        problem: Problem,
        method: Method,
        settings: TrainingSettings,
        plan: Plan,
        training: Part | TaughtTable,
        validation: Part,
        *,
        folder: Path,
        device: Device,
        pad_token_id: int,
        seed: int,
        class_weights: torch.Tensor | None,
        on_row: OnRow,
        write: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        shortcut: Shortcut | None = None,
        teaching: Teaching | None = None,
    ) -> None:
        self.metric = validation_metric(settings, problem)
        self.problem = problem
        self.method = method
        self.settings = settings
        self.plan = plan
        self.validation = validation
        self.folder = folder
        self.device_choice = device
        self.pad_token_id = pad_token_id
        self.class_weights = class_weights.to(device.torch_device) if class_weights is not None else None
        self.on_row = on_row
        self.write = write
        self.shortcut = shortcut
        self.moving = moving_weights(model)  # at any time: a method may freeze some of it for a while
        self.teaching = teaching
        self.curve: list[Row] = []
        self.best_step = 0
        self.best_score = -math.inf
        self.evaluations_without_gain = 0
        self.last_checkpoint = time.monotonic()
        self.resumed_loss: tuple[float, int] | None = None
        model.to(device.torch_device)
        decay = settings.weight_averaging
        self.average = WeightAverage(model, decay) if decay else None
        optimizer = None
        if method.trains:
            rates, undecayed = method.learning_rates(model), method.undecayed(model)
            optimizer = build_optimizer(model, settings, rates, undecayed)
        higher = problem.validation_metric_names[self.metric]
        self.sign = 1.0 if higher else -1.0
        # the engine decides when to log, evaluate and save; the Trainer only carries it out
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,
            max_steps=plan.steps,
            gradient_accumulation_steps=settings.gradient_accumulation,
            max_grad_norm=settings.gradient_clipping or 0.0,
            use_cpu=device.kind == "cpu",
            fp16=device.precision == "float16",
            seed=seed,
            logging_strategy="no",
            eval_strategy="no",
            save_strategy="no",
            logging_nan_inf_filter=False,
            metric_for_best_model=self.metric,
            remove_unused_columns=False,
            disable_tqdm=True,
            report_to=[],
        )
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=training,
            data_collator=self.collate,
            optimizers=(
                optimizer,
                build_schedule(optimizer, settings, plan.steps, higher) if optimizer else None,
            ),
            callbacks=[Timetable(self)],
        )
        self.loss_is_scaled_for_ga = True

    # -- data ------------------------------------------------------------------------------

    def collate(self, features: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.problem.collate(features, self.pad_token_id, PAD_TO)
        if self.shortcut is not None:
            batch[STATES] = stacked_states(features, batch)
        return batch

    def collate_training(self, features: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        if self.plan.packed is None:
            batch = self.collate(features)
            if WEIGHT in features[0]:
                batch[WEIGHT] = torch.tensor([float(feature[WEIGHT]) for feature in features])
            if self.teaching is not None:
                self.teaching.join(batch, features)
            return batch
        return self.problem.pack(features, self.pad_token_id, self.plan.packed)

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset, batch_sampler=self.plan.batches, collate_fn=self.collate_training
        )
        if self.args.world_size == 1:
            return loader
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], float]:
        """The batches of one optimiser step, and how much their loss is the mean of."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(self._weight(batch["labels"]) for batch in batches)

    def _weight(self, labels: torch.Tensor) -> float:
        """What the mean loss of a batch counts among others: how much it is the mean of."""
        if self.class_weights is not None and labels.ndim == 1:
            return float(self.class_weights[labels.to(self.class_weights.device)].sum())
        return self.problem.weight(labels)

    # -- one step --------------------------------------------------------------------------

    def autocast(self) -> AbstractContextManager[Any]:
        # float16 needs a loss scaler and is left to accelerate
        return nullcontext() if self.args.fp16 else self.device_choice.autocast

    def begun(self, given: dict[str, Any]) -> AbstractContextManager[Any]:
        """In its block a forward pass begins with what is kept of the batch; that leaves `given`."""
        return nullcontext() if self.shortcut is None else self.shortcut.starting(given.pop(STATES))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Mean loss over all that the optimiser step weighs, this batch's share of it."""
        taught, weights = inputs.pop(FEATURE, None), inputs.pop(WEIGHT, None)
        inputs = self.problem.augment(inputs)
        labels = inputs["labels"]
        self.method.rest(self.model)
        given = network_inputs(model, inputs, self.problem.generates)
        if self.method.reads_labels:
            given["labels"] = labels
        with self.autocast(), self.begun(given):
            outputs = model(**given)
        loss = self.method.loss(outputs, labels, partial(self._problem_loss, labels, weights))
        if self.teaching is not None and taught is not None:
            loss = self.teaching.blend(loss, outputs.logits, taught)
        if num_items_in_batch is None:
            return loss
        return loss * (self._weight(labels) / (num_items_in_batch or 1))

    def _problem_loss(
        self, labels: torch.Tensor, weights: torch.Tensor | None, logits: torch.Tensor
    ) -> torch.Tensor:
        if weights is not None:
            alike = partial(self._problem_loss, weights=None)
            return weighted_mean(alike, labels, weights, logits, self.class_weights)
        return self.problem.loss(logits, labels, self.class_weights, self.settings.label_smoothing)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the count walks over all weights at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:
            return
        step = self.state.global_step
        if not math.isfinite(logs["loss"]):
            raise ModelError(
                f"Training diverged: the loss is {logs['loss']} at step {step}; "
                "lower `training.learning_rate` or raise `training.warmup_ratio`."
            )
        self._row({"loss": logs["loss"], "learning_rate": logs["learning_rate"]})

    def _row(self, values: Row) -> None:
        step = self.state.global_step
        row = {"step": step, "epoch": round(self.plan.epoch(step), 4), **values}
        self.curve.append(row)
        self.on_row(row)

    # -- validation --------------------------------------------------------------------------

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Metrics on the validation part; keeps the weights when they are the best so far."""
        with self.average.in_place() if self.average else nullcontext():
            metrics = self._measure()
            self._row({f"validation_{name}": value for name, value in metrics.items()})
            self._judge(metrics[self.metric])
        return {f"eval_{name}": value for name, value in metrics.items()}

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """The metrics of another network, such as what became of this one, without a place in the curve.

        It reads the records itself: what was kept of frozen layers is not its own.
        """
        self.shortcut = None
        self.model = model.to(self.device_choice.torch_device)
        return self._measure()

    def _measure(self) -> dict[str, float]:
        def kept(outputs: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.problem.measure(outputs.logits, batch)

        metrics = self.problem.validation_metrics(self._validated(kept), self.validation.labels)
        return metrics if self.write is None else metrics | self.write(self.model)

    def said(self) -> Validation:
        """What the network in its present state says of the validation part."""

        def kept(outputs: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.cat([outputs.logits, outputs.extras], dim=1)

        values = np.asarray(self._validated(kept))
        own = values.shape[1] - len(self.method.extras)
        return Validation(values[:, :own], values[:, own:], self.validation.labels)

    @torch.inference_mode()
    def _validated(self, kept: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]) -> Measured:
        """What is `kept` of the network's outputs for the validation part."""
        self.model.eval()
        table = self.validation
        batches = plan_inference(
            table.lengths,
            batch_tokens=self.settings.batch_tokens * 2,
            batch_size=self.settings.batch_size * 4,
        )
        gathered = RowOutputs(table.lengths)
        for rows in batches:
            batch = self._prepare_inputs(self.collate([table[row] for row in rows]))
            given = network_inputs(self.model, batch, self.problem.generates)
            with self.autocast(), self.begun(given):
                gathered.add(rows, kept(self.model(**given), batch))
        return gathered.outputs()

    def _judge(self, value: float) -> None:
        score = self.sign * value
        if score > self.best_score:
            self.best_score, self.best_step = score, self.state.global_step
            self.evaluations_without_gain = 0
            with complete_folder(self.folder / "best") as partial:
                save_file(trained_weights(self.model, self.moving), partial / "model.safetensors")
            return
        self.evaluations_without_gain += 1
        patience = self.settings.early_stopping
        if patience is not None and self.evaluations_without_gain >= patience:
            self.control.should_training_stop = True

    # -- checkpoints -----------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.control.should_training_stop:
            return  # resuming from here would train past the end
        save_checkpoint(
            self.folder,
            self.state.global_step,
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.lr_scheduler,
            scaler=self.accelerator.scaler,
            average=self.average,
            method=self.method,
            state={
                "curve": self.curve,
                "best_step": self.best_step,
                "best_score": self.best_score,
                "evaluations_without_gain": self.evaluations_without_gain,
                "loss_since_log": float(self._tr_loss),
                "last_logged": self._globalstep_last_logged,
            },
            texts={"trainer_state.json": json.dumps(dataclasses.asdict(self.state))},
            moving=self.moving,
        )
        self.last_checkpoint = time.monotonic()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Left to `_load_optimizer_and_scheduler`, which puts everything back at once."""

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Likewise."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = load_checkpoint(
            Path(checkpoint),
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.lr_scheduler,
            scaler=self.accelerator.scaler,
            average=self.average,
            method=self.method,
        )
        self.curve = state["curve"]
        self.best_step, self.best_score = state["best_step"], state["best_score"]
        self.evaluations_without_gain = state["evaluations_without_gain"]
        self.resumed_loss = state["loss_since_log"], state["last_logged"]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_random_states(Path(checkpoint))

    # -- the whole -------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end, from the newest checkpoint if there is one; keep the best weights."""
        checkpoint = latest_checkpoint(self.folder)
        self.method.begin(self.model, self.plan.steps, self.plan.epoch_ends)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # with averaging the weights in place are never those that were measured
        if self.best_step and (self.average or self.best_step != self.state.global_step):
            load_weights(self.model, self.folder / "best" / "model.safetensors")

    @property
    def best(self) -> dict[str, float]:
        """The metrics of the best weights on the validation part; none before any were measured."""
        measured = (row for row in self.curve if row["step"] == self.best_step)
        row = next((row for row in measured if f"validation_{self.metric}" in row), {})
        return {
            name.removeprefix("validation_"): value for name, value in row.items() if "validation_" in name
        }

    def forget(self) -> None:
        """Remove the checkpoints of a finished training."""
        shutil.rmtree(self.folder, ignore_errors=True)

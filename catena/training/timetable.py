"""When a training logs, measures and saves, and when it is the method's turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from catena.training.batches import Plan

if TYPE_CHECKING:
    from catena.training.engine import Engine

#: Rows of the training curve between which the loss is averaged, at most.
_CURVE_ROWS = 500


class Timetable(TrainerCallback):  # type: ignore[misc]
    """When to log, evaluate and save, and when it is the method's turn."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        plan, settings = engine.plan, engine.settings
        self.log_every = max(1, plan.steps // _CURVE_ROWS)
        self.evaluate_at = evaluation_steps(plan, settings.evaluations_per_epoch)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.engine.resumed_loss is not None:
            loss, last = self.engine.resumed_loss
            self.engine._tr_loss += loss
            self.engine._globalstep_last_logged = last
        self.engine.last_checkpoint = time.monotonic()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.engine.method.before_step(self.engine.model, state.global_step, state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.engine.method.after_step(self.engine.model, state.global_step, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        step = state.global_step
        if self.engine.average is not None:
            self.engine.average.update(step)
        control.should_log = step % self.log_every == 0 or step == state.max_steps
        control.should_evaluate = step in self.evaluate_at
        waited = time.monotonic() - self.engine.last_checkpoint
        control.should_save = waited >= self.engine.settings.checkpoint_seconds

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # the plan's end is no occasion of its own: its last step has been dealt with
        control.should_log = control.should_evaluate = control.should_save = False


def evaluation_steps(plan: Plan, per_epoch: int) -> frozenset[int]:
    """Optimiser steps after which the validation part is measured; the last step always is one."""
    steps: set[int] = {plan.steps}
    before = 0
    for end in plan.epoch_ends:
        steps.update(before + round((end - before) * part / per_epoch) for part in range(1, per_epoch + 1))
        before = end
    return frozenset(step for step in steps if step > 0)

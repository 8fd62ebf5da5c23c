"""Gradual unfreezing: the head moves first, then one layer after the other joins in from the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.base import Method, Surroundings
from catena.methods.depth import decayed, levels, moving_units, rest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Gradual(Method):
    """The head moves first, then one layer after the other from the top; the embeddings join last.

    After Howard and Ruder 2018 (ULMFiT, arXiv 1801.06146), who add a layer after each epoch. The optimiser
    knows all weights from the start, but one without a gradient is not moved, nor decayed, and its moments
    begin when it joins. What is still frozen runs without dropout.
    """

    name = "gradual"

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        model.requires_grad_(True)
        self.levels = levels(model)
        most = len(self.levels) - 1
        if (at := self.settings.gradual.at) is not None and len(at) > most:
            raise SettingsError(
                f"`method.gradual.at` says when {len(at)} levels join, but below the highest this "
                f"network has only {most}."
            )
        return model

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        return decayed(model, self.settings.layer_decay)

    def begin(self, model: PreTrainedModel, steps: int, epoch_ends: Sequence[int]) -> None:
        settings = self.settings.gradual
        if settings.at is None:
            self.starts = [0, *(end for end in epoch_ends if end < steps)][: len(self.levels)]
        else:
            in_epochs = settings.unit == "epochs"
            self.starts = [
                0, *(step_after(when, epoch_ends) if in_epochs else round(when) for when in settings.at)
            ]  # fmt: skip
            if self.starts[-1] >= steps:
                raise SettingsError(
                    f"`method.gradual.at` lets the last level join after {settings.at[-1]:g} "
                    f"{settings.unit}, but training ends after {len(epoch_ends)} epochs "
                    f"({steps:,} steps); give earlier times, or fewer."
                )
        self._moving = -1

    def before_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        moving = sum(start <= step for start in self.starts)
        if moving == self._moving:
            return
        self._moving = moving
        there = {name for names in self.levels[:moving] for name in names}
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in there)
        self._units: list[nn.Module] | None = moving_units(model)

    def rest(self, model: PreTrainedModel) -> None:
        rest(model, self._units)


def step_after(epochs: float, epoch_ends: Sequence[int]) -> int:
    """The optimiser step after so many epochs; the training's end, or later, where there are fewer."""
    whole = int(epochs)
    if whole >= len(epoch_ends):
        return epoch_ends[-1]
    before = epoch_ends[whole - 1] if whole else 0
    return before + round((epochs - whole) * (epoch_ends[whole] - before))

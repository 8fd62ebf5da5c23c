"""A running mean of the weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class WeightAverage:
    """Exponential moving average of the trained weights and running statistics (Polyak and Juditsky 1992).

    After step t the mean moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights, so that the
    first steps, far from the goal, are soon forgotten.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        moving: dict[str, torch.Tensor] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        # what batch normalisation has seen belongs to the weights that it was seen with
        moving |= {name: seen for name, seen in model.named_buffers() if "running_" in name}
        self.names, self.weights = list(moving), list(moving.values())
        self.means = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after optimiser step `step` (from 1) into the mean."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.means, list(self.weights), 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The means stand in the model for the block, the weights after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, torch.Tensor]:
        """The means by the weights' names."""
        return dict(zip(self.names, self.means, strict=True))

    @torch.no_grad()
    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        for name, mean in self.state().items():
            mean.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, mean in zip(self.weights, self.means, strict=True):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)

"""Linear layers that keep their weights in the precision that they are multiplied in."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class RoundedLinear(nn.Linear):
    """A linear layer of a network that only answers: autocast finds its weights rounded already.

    Autocast rounds the weights at each call, which is 0.4 of the time of a language model that writes token
    by token (`benchmarks/rounded_weights.py`). Here the rounded weights are kept beside the exact ones, which
    whatever asks for float32 still finds; results are the same to the last bit. Half the weights' memory
    comes on top.
    """

    _kept: tuple[torch.Tensor, torch.Tensor | None] | None = None
    _made_of: tuple[int, ...] = ()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(…, in_features)` → `(…, out_features)`."""
        kind = self.weight.device.type
        if not torch.is_autocast_enabled(kind) or torch.is_grad_enabled():
            return super().forward(input)
        dtype, state = torch.get_autocast_dtype(kind), self._state()
        if self._kept is None or self._kept[0].dtype != dtype or self._made_of != state:
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self._kept, self._made_of = (self.weight.detach().to(dtype), bias), state
        return functional.linear(input, *self._kept)

    def _state(self) -> tuple[int, ...]:
        """What changes with the weights, also in place, which inference tensors alone do not count."""
        own = [one for one in (self.weight, self.bias) if one is not None]
        return tuple(count for one in own for count in (id(one), 0 if one.is_inference() else one._version))

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._kept = None
        return super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def keep_rounded(network: nn.Module) -> None:
    """Make the plain linear layers of `network`, which will learn no more, remember their rounded weights."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = RoundedLinear

"""Linear layers that keep their weights in the precision that they are multiplied in."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class RoundedLinear(nn.Linear):
    """A linear layer of a network that only answers: autocast finds its weights rounded already.

    Autocast rounds the weights at each call, which for a single text takes a quarter of the time of a small
    network and more of a large one that writes token by token. Here the rounded weights are kept beside the
    exact ones, which whatever asks for float32 still finds; results are the same to the last bit. Half the
    weights' memory comes on top.
    """

    _kept: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(…, in_features)` → `(…, out_features)`."""
        kind = self.weight.device.type
        if not torch.is_autocast_enabled(kind) or torch.is_grad_enabled():
            return super().forward(input)
        dtype = torch.get_autocast_dtype(kind)
        if self._kept is None or self._kept[0].dtype != dtype:
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self._kept = (self.weight.detach().to(dtype), bias)
        return functional.linear(input, *self._kept)

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._kept = None
        return super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._kept = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def keep_rounded(network: nn.Module) -> None:
    """Make the plain linear layers of `network`, which will learn no more, remember their rounded weights."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = RoundedLinear

"""Layers whose weights are eight-bit integers, one scale a row; plain tensors when they are stored."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_LARGEST = 127
#: Whether inputs are rounded to seven bits. Without the instructions for it, a processor adds products of
#: eight bits in pairs of sixteen, where large ones would be cut off.
_COARSER = not torch.cpu._is_vnni_supported()


def quantized_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows `(rows, columns)` as int8 of the same shape and float32 scales `(rows,)`; their product is near.

    Symmetric, to the greatest magnitude of each row.
    """
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=1).clamp(min=1e-12) / _LARGEST
    rounded = torch.round(weight / scale.unsqueeze(1)).clamp(-_LARGEST, _LARGEST)
    return rounded.to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer of int8 weights.

    On a CPU inputs are quantised too, to eight bits (seven where the processor is an older one) between the
    least and the greatest of the batch (dynamic quantisation), and PyTorch's integer kernels multiply;
    elsewhere weights are brought back to the inputs' type first.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self._packed: Any = None

    @classmethod
    def of(cls, layer: nn.Linear) -> Int8Linear:
        """The layer with its weights rounded."""
        made = cls(layer.in_features, layer.out_features, layer.bias is not None)
        made.weight, made.scale = quantized_rows(layer.weight)
        if layer.bias is not None:
            made.bias = layer.bias.detach().float().clone()
        return made

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """`(…, in_features)` → `(…, out_features)`."""
        if inputs.device.type != "cpu":
            weight = self.weight.to(inputs.dtype) * self.scale.to(inputs.dtype).unsqueeze(1)
            bias = None if self.bias is None else self.bias.to(inputs.dtype)
            return functional.linear(inputs, weight, bias)
        if self._packed is None:
            self._packed = _packed(self.weight, self.scale, self.bias)
        result: torch.Tensor = torch.ops.quantized.linear_dynamic(inputs.float(), self._packed, _COARSER)
        return result

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._packed = None
        return super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}


class Int8Embedding(nn.Module):
    """An embedding of int8 rows; what it gives is float32."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.register_buffer("weight", torch.zeros(num_embeddings, embedding_dim, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(num_embeddings))

    @classmethod
    def of(cls, layer: nn.Embedding) -> Int8Embedding:
        """The embedding with its rows rounded."""
        made = cls(layer.num_embeddings, layer.embedding_dim)
        made.weight, made.scale = quantized_rows(layer.weight)
        return made

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`(…)` → `(…, embedding_dim)`."""
        return self.weight[ids].float() * self.scale[ids].unsqueeze(-1)


def _packed(weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """The weights in the order in which the processor's kernel reads them."""
    engines = torch.backends.quantized.supported_engines
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # the type of tensor is on its way out, the kernels are not
        warnings.simplefilter("ignore")
        try:
            if "fbgemm" in engines:  # measured to be the fastest on x86
                torch.backends.quantized.engine = "fbgemm"
            tensor = torch._make_per_channel_quantized_tensor(
                weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0
            )
            return torch.ops.quantized.linear_prepack(tensor, bias)
        finally:
            torch.backends.quantized.engine = before

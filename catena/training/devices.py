"""Where to compute, in which precision, and with which attention kernel."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from catena.errors import SettingsError
from catena.settings import TrainingSettings

Precision = Literal["float32", "bfloat16", "float16"]
_TYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Device:
    """One machine's way of computing."""

    kind: str
    name: str
    precision: Precision
    attention: Literal["eager", "sdpa"]
    reason: str

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.kind)

    @property
    def autocast(self) -> torch.autocast:
        """Context in which matrix products run in `precision`."""
        return torch.autocast(self.kind, dtype=_TYPES[self.precision], enabled=self.precision != "float32")

    def __str__(self) -> str:
        return f"{self.name}, {self.precision} ({self.reason}), {self.attention} attention"


def choose_device(device: str = "auto", precision: str = "auto", attention: str = "auto") -> Device:
    """Decide what is `auto` by what the machine is good at.

    CUDA takes bfloat16 where the chip has it, else float16. A CPU takes bfloat16 only where it
    multiplies it in hardware (AMX or AVX512-BF16); elsewhere it is emulated and slower than
    float32. On CPUs eager attention is faster than the fused kernel, whose backward is slow.
    Raises `SettingsError` where the device asked for is not there.
    """
    kind = device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingsError("`training.device` is cuda, but PyTorch sees no CUDA device; use auto or cpu.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("`training.device` is mps, but PyTorch sees none; use auto or cpu.")
    best, reason = _best_precision(kind)
    chosen = best if precision == "auto" else precision
    if chosen == "float16" and kind != "cuda":
        raise SettingsError(
            f"`training.precision` float16 needs CUDA; on {kind} use auto, bfloat16 or float32."
        )
    if precision != "auto":
        reason = "as set"
    kernel = attention if attention != "auto" else ("eager" if kind == "cpu" else "sdpa")
    return Device(kind, _name(kind), chosen, kernel, reason)  # type: ignore[arg-type]


def training_device(settings: TrainingSettings) -> Device:
    """Where `training` in `params.yaml` wants to train; from now on results are the same each time."""
    device = choose_device(settings.device, settings.precision, settings.attention)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling what PyTorch has not written yet costs 5% of the time and changes nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def _best_precision(kind: str) -> tuple[Precision, str]:
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "the GPU multiplies it"
        return "float16", "the GPU has no bfloat16"
    if kind == "cpu":
        flags = _cpu_flags()
        if "amx_bf16" in flags:
            return "bfloat16", "the CPU has AMX"
        if "avx512_bf16" in flags:
            return "bfloat16", "the CPU has AVX512-BF16"
        return "float32", "the CPU has no bfloat16 arithmetic"
    return "float32", "the safe choice"


def _cpu_flags() -> frozenset[str]:
    """The processor's feature flags as the Linux kernel names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def _name(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or kind}, {torch.get_num_threads()} threads"

"""What machine a benchmark ran on, and how its figures spread."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def describe() -> dict[str, object]:
    """Processor, cores, memory, Python and the libraries that matter."""
    from importlib.metadata import version

    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "bfloat16": next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), "none"),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "prefect", "mlflow", "dvc")},
    }


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float | int]:
    """Median, least and greatest of several runs."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
    }

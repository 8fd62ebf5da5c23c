"""The table and the figure of `benchmarks.label_efficiency`, from its raw results by `method/labels/seed`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def table(results: Mapping[str, Any], methods: Sequence[str], sizes: Sequence[str], what: str) -> str:
    """Mean of a figure and its spread over the seeds, a row for each method, as Markdown."""
    lines = [f"| method | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name in methods:
        cells = []
        for size in sizes:
            found = [one[what] for key, one in results.items() if key.rpartition("/")[0] == f"{name}/{size}"]
            spread = f" ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.3f}{spread}" if found else "–")
        if set(cells) != {"–"}:
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(
    results: Mapping[str, Any], methods: Sequence[str], sizes: Sequence[str], path: Path, title: str
) -> None:
    """Accuracy over the number of labels, with the standard deviation over the seeds."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4.2), layout="constrained")
    axes = drawn.subplots()
    styles = itertools.cycle(("o-", "s-", "^-", "d:", "v-", "P-", "X-", "h-", "*:"))
    for name, style in zip(methods, styles, strict=False):
        points = []
        for at, size in enumerate(sizes):
            found = [
                one["accuracy"] for key, one in results.items() if key.rpartition("/")[0] == f"{name}/{size}"
            ]
            if found:
                points.append((at, np.mean(found), np.std(found, ddof=1) if len(found) > 1 else 0.0))
        if points:
            places, means, spreads = zip(*points, strict=True)
            axes.errorbar(places, means, yerr=spreads, fmt=style, capsize=2, label=name)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set(xlabel="labels a class", ylabel="accuracy on the test records", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, format="svg", metadata={"Date": None})

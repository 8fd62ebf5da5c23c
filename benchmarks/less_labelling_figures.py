"""The table and the figures of `benchmarks.less_labelling`, from its raw results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Runs = Mapping[str, Mapping[str, Any]]
_STYLES = ("o-", "s--", "^-.", "v:", "d-")


def few(runs: Runs, metric: str = "accuracy") -> dict[tuple[str, int, str], list[float]]:
    """The scores of all draws by data, k and method, in the order of the draws."""
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for name in sorted(runs):
        kind, *rest = name.split("/")
        if kind == "few":
            data, k, method, _ = rest
            found[data, int(k[1:]), method].append(float(runs[name][metric]))
    return dict(found)


def active(runs: Runs) -> dict[tuple[str, str], tuple[list[int], np.ndarray]]:
    """By data and strategy: numbers of labels, and the accuracy of each draw `(draws, points)`."""
    curves: dict[tuple[str, str], list[list[Mapping[str, Any]]]] = defaultdict(list)
    for name in sorted(runs):
        kind, *rest = name.split("/")
        if kind == "active":
            curves[rest[0], rest[1]].append(runs[name]["curve"])
    return {
        key: (
            [int(point["labels"]) for point in some[0]],
            np.array([[point["accuracy"] for point in curve] for curve in some]),
        )
        for key, some in curves.items()
    }


def table(runs: Runs) -> str:
    """Markdown: mean and standard deviation over the draws, and the differences that they are about."""
    lines: list[str] = []
    found = few(runs)
    if found:
        lines += [
            "| data | labels a class | learner | accuracy | macro F1 | less plain (mean; least to most) "
            "| pseudo-labels right |",
            "|---|---|---|---|---|---|---|",
        ]
        f1 = few(runs, "macro_f1")
        for (data, k, method), values in sorted(found.items(), key=lambda item: item[0][:2]):
            plain = found.get((data, k, "plain"), [])
            less = "" if method == "plain" else _difference(values, plain)
            right = _precision(runs, data, k) if method == "self_training" else ""
            cells = (data, str(k), method, _spread(values), _spread(f1[data, k, method]), less, right)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    curves = active(runs)
    if curves:
        lines += [
            "| data | strategy | accuracy at 60 labels | at 100 | at 200 | less random at 200 (mean; "
            "least to most) | labels until random's accuracy at 200 |",
            "|---|---|---|---|---|---|---|",
        ]
        for (data, strategy), (labels, scores) in sorted(curves.items()):
            base = curves[data, "random"][1]
            points = [_spread(scores[:, labels.index(n)].tolist()) for n in (60, 100, 200) if n in labels]
            less = "" if strategy == "random" else _difference(scores[:, -1].tolist(), base[:, -1].tolist())
            reached = np.flatnonzero(scores.mean(axis=0) >= base[:, -1].mean())
            when = str(labels[int(reached[0])]) if len(reached) else f"more than {labels[-1]}"
            cells = (data, strategy, *points, *[""] * (3 - len(points)), less, when)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    tuned: dict[tuple[int, str], list[float]] = defaultdict(list)
    for name in sorted(runs):
        if name.startswith("active_finetuned/"):
            _, _, strategy, labels_, _ = name.split("/")
            tuned[int(labels_.removeprefix("labels")), strategy].append(float(runs[name]["accuracy"]))
    if tuned:
        lines += [
            "| SST-2, fine-tuned on what was chosen | labels | accuracy | less random (mean; range) |",
            "|---|---|---|---|",
        ]
        for (count, strategy), values in sorted(tuned.items()):
            less = "" if strategy == "random" else _difference(values, tuned.get((count, "random"), []))
            lines.append(f"| {strategy} | {count} | {_spread(values)} | {less} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {deviation:.3f}"


def _difference(values: list[float], others: list[float]) -> str:
    """Draw against draw: they share their labels, so that pairs say more than means."""
    if len(values) != len(others) or not values:
        return ""
    less = np.array(values) - np.array(others)
    return f"{less.mean():+.3f}; {less.min():+.3f} to {less.max():+.3f}"


def _precision(runs: Runs, data: str, k: int) -> str:
    """Over all draws, in the round that was kept; rounds without pseudo-labels are told apart."""
    known = right = without = 0
    for name, run in runs.items():
        if name.startswith(f"few/{data}/k{k}/self_training/"):
            told = run["self_training"]
            best = told["rounds"][told["best_round"]]
            without += told["best_round"] == 0
            known += best.get("known", 0)
            right += best.get("right", 0)
    share = f"{right / known:.1%} of {known:,}" if known else "none used"
    return share + (f"; {without} draws kept none" if without else "")


def draw(runs: Runs, stem: Path) -> None:
    """Accuracy by labels a class, and by labels chosen, as SVG."""
    from matplotlib.figure import Figure

    found, curves = few(runs), active(runs)
    for kind, data_sets in (
        ("few", sorted({key[0] for key in found})),
        ("active", sorted({key[0] for key in curves})),
    ):
        if not data_sets:
            continue
        figure = Figure(figsize=(4.6 * len(data_sets), 3.6), layout="constrained")
        for axes, data in zip(figure.subplots(1, len(data_sets), squeeze=False)[0], data_sets, strict=True):
            names = (
                sorted({key[2] for key in found if key[0] == data})
                if kind == "few"
                else sorted(key[1] for key in curves if key[0] == data)
            )
            for name, style in zip(names, _STYLES, strict=False):
                if kind == "few":
                    points = sorted(key[1] for key in found if key[0] == data and key[2] == name)
                    values = [np.array(found[data, k, name]) for k in points]
                else:
                    points, scores = curves[data, name]
                    values = list(scores.T)
                means = np.array([one.mean() for one in values])
                spread = np.array([one.std(ddof=1) if len(one) > 1 else 0.0 for one in values])
                (line,) = axes.plot(points, means, style, label=name.replace("_", "-"), markersize=4)
                axes.fill_between(
                    points, means - spread, means + spread, color=line.get_color(), alpha=0.12, linewidth=0
                )
            axes.set(
                title=data, xlabel="labels a class" if kind == "few" else "labels", ylabel="test accuracy"
            )
            if kind == "few":
                axes.set_xscale("log", base=2)
                axes.set_xticks(points, [str(k) for k in points])
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(f"{stem}-{kind}.svg", format="svg", metadata={"Date": None})

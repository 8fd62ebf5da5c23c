"""The report's charts as inline SVG that follows the page's colours, light or dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from catena.data.scripts import shortened

# matplotlib draws in these colours; each is then replaced by the page's own.
_INK, _LINE, _ACCENT, _MUTED, _BAD = "#010203", "#020304", "#030405", "#040506", "#050607"
_PAGE_COLOURS = {
    _INK: "currentColor",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _MUTED: "var(--muted)",
    _BAD: "var(--bad)",
}
#: The lines of one chart of the training curve; what comes after them is left out.
_CURVES = ((_MUTED, "-"), (_ACCENT, "-"), (_MUTED, "--"), (_ACCENT, "--"))
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "catena",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_INCH_WIDTH = 5.4


def rivals_chart(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> str:
    """Score and interval of each rival, the model (first row) in the accent colour."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(1.0 + 0.42 * len(rows))
        places = np.arange(len(rows))[::-1]
        for place, row in zip(places, rows, strict=True):
            colour = _ACCENT if row is rows[0] else _MUTED
            low, high = row["intervals"].get(metric, (row[metric], row[metric]))
            axes.plot([low, high], [place, place], color=colour, linewidth=3, solid_capstyle="round")
            axes.plot([row[metric]], [place], "o", color=colour, markersize=8)
            axes.annotate(
                f"{row[metric]:.3f}", (row[metric], place), (0, 8), textcoords="offset points", ha="center"
            )
        axes.set_yticks(places, [row["title"] for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.3)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(title)
        return _svg(figure, f"rivals-{metric}", f"{title} of the model and its baselines, with intervals")


def classes_chart(per_class: Sequence[Mapping[str, Any]]) -> str:
    """F1 of each class with its interval, the best first."""
    rows = sorted(per_class, key=lambda row: (row["f1"], row["label"]))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(0.9 + 0.3 * len(rows))
        places = np.arange(len(rows))
        values = [row["f1"] for row in rows]
        axes.barh(places, values, color=_ACCENT, height=0.62, alpha=0.75)
        for place, row in zip(places, rows, strict=True):
            axes.plot(row["f1_interval"], [place, place], color=_INK, linewidth=1.4)
        axes.set_yticks(places, [_short(row["label"]) for row in rows])
        axes.set_xlim(0, 1.0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("F1")
        return _svg(figure, "classes", "F1 of each class with its interval")


def confusion_chart(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Confusion matrix: shade by share of the actual class, numbers where they fit."""
    matrix = np.asarray(counts, dtype=np.float64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    with matplotlib.rc_context({**_STYLE, "axes.grid": False}):
        size = min(_INCH_WIDTH, 1.7 + 0.46 * classes)
        figure, axes = _new(size)
        for actual, predicted in zip(*np.nonzero(matrix), strict=True):
            right = actual == predicted
            axes.add_patch(
                Rectangle(
                    (predicted - 0.5, actual - 0.5),
                    1,
                    1,
                    facecolor=_ACCENT if right else _BAD,
                    alpha=float(0.12 + 0.5 * shares[actual, predicted]),
                    linewidth=0,
                )
            )
            if classes <= 16:
                axes.text(
                    predicted,
                    actual,
                    f"{matrix[actual, predicted]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=9,
                )
        axes.set_xlim(-0.5, classes - 0.5)
        axes.set_ylim(classes - 0.5, -0.5)
        if classes <= 40:
            small = 9 if classes <= 16 else 6
            upright: Any = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
            axes.set_xticks(range(classes), [_short(name) for name in labels], fontsize=small, **upright)
            axes.set_yticks(range(classes), [_short(name) for name in labels], fontsize=small)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        return _svg(figure, "confusion", "Confusion matrix: actual class in rows, predicted in columns")


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against confidence; on the diagonal a confidence means what it says."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(3.9)
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle="--")
        total = sum(one["records"] for one in bins)
        sizes = [30 + 370 * one["records"] / total for one in bins]
        confidences = [one["confidence"] for one in bins]
        accuracies = [one["accuracy"] for one in bins]
        axes.plot(confidences, accuracies, color=_ACCENT, linewidth=1.5)
        axes.scatter(confidences, accuracies, s=sizes, color=_ACCENT, alpha=0.75, linewidths=0)
        axes.set_xlim(-0.03, 1.05)
        axes.set_ylim(-0.03, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        return _svg(figure, "reliability", "Reliability diagram: share of right answers by confidence")


def curve_groups(curve: pd.DataFrame) -> list[tuple[str, str, dict[str, str]]]:
    """What shares a chart, since it shares a scale: a name, the axis's title, columns and their names.

    Losses are one group, all metrics within 0 and 1 another; of the others each is one by itself.
    """
    losses = {"loss": "training", "validation_log_loss": "validation", "validation_loss": "validation"}
    known = [str(name) for name in curve.columns if curve[name].notna().any()]
    scores = sorted(name for name in known if name.startswith("validation_") and name not in losses)
    shares = [name for name in scores if curve[name].dropna().between(0, 1).all()]
    groups = [
        ("loss", "loss" if "validation_loss" in curve else "loss (nats)", losses),
        ("scores", "validation score", {name: _score_name(name) for name in shares}),
        *(
            (name.removeprefix("validation_"), _score_name(name), {name: "validation"})
            for name in scores
            if name not in shares
        ),
    ]
    found = [
        (name, title, {column: text for column, text in columns.items() if column in known})
        for name, title, columns in groups
    ]
    return [group for group in found if group[2]]


def curve_charts(curve: pd.DataFrame) -> list[str]:
    """Loss, and the validation scores, over the steps of the training: a chart for each scale."""
    charts = []
    with matplotlib.rc_context(_STYLE):
        for name, title, columns in curve_groups(curve):
            figure, axes = _new(2.9)
            for (column, text), (colour, dashes) in zip(columns.items(), _CURVES, strict=False):
                points = curve[["step", column]].dropna()
                marker = "o" if len(points) <= 40 else ""
                axes.plot(
                    points["step"],
                    points[column],
                    dashes,
                    color=colour,
                    marker=marker,
                    markersize=5,
                    label=text,
                )
            for step, number in round_starts(curve):
                axes.axvline(step, color=_LINE, linewidth=1.2)
                axes.annotate(
                    f"round {number}",
                    (step, 1.0),
                    (3, -2),
                    ("data", "axes fraction"),
                    textcoords="offset points",
                    va="top",
                    fontsize=8,
                    color=_MUTED,
                )
            axes.set_xlabel("step")
            axes.set_ylabel(title)
            axes.legend(loc="best")
            charts.append(_svg(figure, f"curve-{name}", f"Training curve: {title} by step"))
    return charts


def round_starts(curve: pd.DataFrame) -> list[tuple[float, int]]:
    """The last step before each further round of self-training, and the round's number."""
    if "round" not in curve:
        return []
    last = curve.groupby("round")["step"].max().sort_index()
    return [(float(step), int(number)) for step, number in zip(last.iloc[:-1], last.index[1:], strict=True)]


def _score_name(column: str) -> str:
    return column.removeprefix("validation_").replace("_", " ").replace("f1", "F1").replace("r2", "R²")


def _new(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_INCH_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _short(name: str, most: int = 22) -> str:
    # A dollar sign would start a formula.
    return shortened(name, most).replace("$", r"\$")


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for an HTML page: no sizes, no dates, ids of its own, page colours."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # It is the page that draws the letters, in a font that has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', text)
    label = html.escape(description, quote=True)
    opening = f'<svg class="chart" {view_box.group() if view_box else ""} role="img" aria-label="{label}">'
    text = re.sub(r"<svg[^>]*>", lambda _: f"{opening}<title>{label}</title>", text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    # The page has the font and says once how lines are joined.
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]*;?\s*", "", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    for drawn, shown in _PAGE_COLOURS.items():
        text = text.replace(drawn, shown)
    return text.strip()

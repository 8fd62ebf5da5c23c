"""What `reports/` says, in the few words and numbers that a flow shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_report(path: Path) -> dict[str, Any]:
    """A JSON report."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def rivals(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The model and then its baselines, each with its metrics and their `intervals`."""
    titles = dict(metrics["baseline_titles"])
    named = {titles.get(name, name): scores for name, scores in metrics["baselines"].items()}
    return {"This model": metrics, **named}


def with_interval(scores: Mapping[str, Any], metric: str) -> str:
    """A metric with its confidence interval: `0.9742 (0.9671–0.9808)`."""
    value = scores.get(metric)
    if value is None:
        return ""
    low, high = scores.get("intervals", {}).get(metric) or (None, None)
    return f"{value:.4f}" if low is None else f"{value:.4f} ({low:.4f}–{high:.4f})"


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row for each metric that has an interval, one column for each rival."""
    everyone = rivals(metrics)
    return [
        {"metric": metric.replace("_", " ")}
        | {name: with_interval(scores, metric) for name, scores in everyone.items()}
        for metric in metrics["intervals"]
    ]


def gate_sentence(report: Mapping[str, Any]) -> str:
    """What the gate decided, and why."""
    name = f"Version {report['version']} of {report['model']}"
    decision = "became champion" if report["decision"] == "promoted" else "did not become champion"
    return f"{name} {decision}. {' '.join(report['reasons'])}"

"""The closing table of a flow that was run by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from catena.layout import Layout
from flows.reports import gate_sentence, read_report, rivals, with_interval


def print_summary(layout: Layout, seconds: float) -> None:
    """Print how good the model is beside its baselines, what the gate said and where to go from here."""
    metrics = read_report(layout.metrics)
    gate = read_report(layout.registry_report)
    console = Console() if sys.stdout.isatty() else Console(width=110)
    for table in _tables(metrics):
        console.print()
        console.print(table)
    console.print(gate_sentence(gate), highlight=False, markup=False)
    report = layout.report.relative_to(layout.root)
    console.print(f"The report is in {report}. Done in {seconds:.0f} s. To go on:", highlight=False)
    for command in _next_commands(layout, gate):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """The model beside its baselines; of a chain, a table for each tail."""
    confidence = f"{100 * metrics['plan']['confidence']:g}%"
    headline = dict(metrics["headline"])
    tails = metrics.get("tails", {"": metrics["records"]})
    for tail, records in tails.items():
        prefix = f"{tail}: " if tail else ""
        own = {
            metric: title.removeprefix(prefix)
            for metric, title in headline.items()
            if title.startswith(prefix)
        }
        title = f"{prefix}{records:,} test records, with {confidence} confidence intervals"
        table = Table("", *own.values(), title=title, title_justify="left")
        for name, scores in rivals(metrics).items():
            if any(metric in scores for metric in own):
                table.add_row(name, *(with_interval(scores, metric) for metric in own))
        yield table


def _next_commands(layout: Layout, gate: Mapping[str, object]) -> tuple[str, str, str]:
    """Three commands that work now, as they must be typed where no environment is activated."""
    programs = Path(sys.executable).parent
    inside = programs.is_relative_to(layout.root) and "VIRTUAL_ENV" not in os.environ
    prefix = f"{programs.relative_to(layout.root)}/" if inside else ""
    version = f"models:/{gate['model']}/{gate['version']}"
    chosen = "" if gate["decision"] == "promoted" else f"--model {version} "
    store = os.environ.get("MLFLOW_TRACKING_URI")
    pages = f"{prefix}mlflow ui --backend-store-uri sqlite:///mlflow.db"
    return (
        f'{prefix}catena predict {chosen}"a text of your own"',
        f"{prefix}catena lineage {version}",
        f"open {store}" if store and store.startswith("http") else pages,
    )

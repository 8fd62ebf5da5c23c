"""The evaluations of a chain's tails as one: predictions, figures, and a page that holds their reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catena.errors import DataError
from catena.evaluation.predictions import (
    Predictions,
    checked_predictions,
    plan_text,
    read_predictions,
    read_table,
)
from catena.files import complete_file

_KEY = b"catena.tails"
_TAIL = "tail"


def write_joined(path: Path, tails: Mapping[str, Predictions]) -> None:
    """One table of all tails: whose a row is says `tail`, and its columns are called `<tail>.<column>`."""
    tables = []
    for name, one in tails.items():
        table = pa.Table.from_pandas(one.records, preserve_index=False).replace_schema_metadata(None)
        table = table.rename_columns([f"{name}.{column}" for column in table.column_names])
        tables.append(table.append_column(_TAIL, pa.array([name] * table.num_rows, pa.string())))
    plans = json.dumps({name: plan_text(one.plan) for name, one in tails.items()})
    joined = pa.concat_tables(tables, promote_options="default")
    joined = joined.replace_schema_metadata({_KEY: plans.encode()})
    with complete_file(path) as partial:
        pq.write_table(joined, partial, compression="zstd")


def read_tests(path: Path) -> dict[str, Predictions]:
    """The predictions of each tail, or under "" those of a model that solves one problem.

    Raises `DataError` when the file is missing, cut off, of another kind, empty, or lacks a column.
    """
    table = read_table(path)
    plans = (table.schema.metadata or {}).get(_KEY)
    if plans is None:
        return {"": read_predictions(path)}
    try:
        texts: dict[str, str] = json.loads(plans)
    except ValueError:
        raise DataError(f"{path} is damaged; run the evaluate stage again.") from None
    tests = {}
    for name, plan in texts.items():
        mine = [column for column in table.column_names if column.startswith(f"{name}.")]
        part = table.filter(pc.equal(table.column(_TAIL), name)).select(mine)
        records = part.rename_columns([column[len(name) + 1 :] for column in mine]).to_pandas()
        tests[name] = checked_predictions(path, records, plan.encode())
    return tests


def join_metrics(tails: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`metrics.json` of a chain: each tail's main scores as `<tail>.<metric>`, their intervals and baselines.

    Of a chain there is no one figure; all that was measured of a tail is in its own `metrics.json`.
    """
    joined: dict[str, Any] = {
        "records": sum(int(metrics["records"]) for metrics in tails.values()),
        "tails": {name: int(metrics["records"]) for name, metrics in tails.items()},
        "headline": [],
        "baseline_titles": [],
        "plan": next(iter(tails.values()))["plan"],
        "intervals": {},
        "baselines": {},
    }
    for name, metrics in tails.items():
        shown = [metric for metric, _ in metrics["headline"] if metric in metrics]
        titles = dict(metrics["headline"])
        joined["headline"] += [[f"{name}.{metric}", f"{name}: {titles[metric]}"] for metric in shown]
        _add(joined, metrics, name, shown)
        for baseline, scores in metrics["baselines"].items():
            entry = joined["baselines"].setdefault(baseline, {"intervals": {}})
            _add(entry, scores, name, shown)
        known = {baseline for baseline, _ in joined["baseline_titles"]}
        joined["baseline_titles"] += [pair for pair in metrics["baseline_titles"] if pair[0] not in known]
    return joined


def _add(joined: dict[str, Any], scores: Mapping[str, Any], name: str, shown: list[str]) -> None:
    for metric in shown:
        if metric in scores:
            joined[f"{name}.{metric}"] = scores[metric]
        if metric in scores.get("intervals", {}):
            joined["intervals"][f"{name}.{metric}"] = scores["intervals"][metric]


def write_joined_report(
    path: Path, title: str, metrics: Mapping[str, Any], reports: Mapping[str, Path]
) -> None:
    """One self-contained page: the scores of all tails, and each tail's own report to unfold."""
    from catena.evaluation.report import page_environment

    titles = dict(metrics["baseline_titles"])
    rivals = [
        ("Chain", metrics),
        *((titles.get(name, name), row) for name, row in metrics["baselines"].items()),
    ]
    rows = [
        {"title": heading, "cells": [_cell(scores, metric) for _, scores in rivals]}
        for metric, heading in metrics["headline"]
    ]
    page = (
        page_environment()
        .get_template("joined.html.jinja")
        .render(
            title=title,
            rivals=[name for name, _ in rivals],
            rows=rows,
            confidence=100 * metrics["plan"]["confidence"],
            records=metrics["tails"],
            reports={name: file.read_text(encoding="utf-8") for name, file in reports.items()},
        )
    )
    with complete_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _cell(scores: Mapping[str, Any], metric: str) -> str:
    if metric not in scores:
        return "–"
    bounds = scores["intervals"].get(metric)
    value = f"{scores[metric]:.4f}"
    return value if bounds is None else f"{value} ({bounds[0]:.4f}–{bounds[1]:.4f})"

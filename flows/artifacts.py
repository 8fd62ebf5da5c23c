"""What the stages report, as Prefect artifacts: Markdown to read, tables to compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from catena.layout import Layout
from flows.reports import gate_sentence, metric_rows, read_report


def publish(stage: str, layout: Layout) -> None:
    """Make the artifacts of `stage` from the reports it wrote; stages without reports have none."""
    if stage == "prepare":
        _publish_data_quality(layout)
    elif stage == "evaluate":
        _publish_metrics(layout)
    elif stage == "register":
        _publish_gate(layout)


def _publish_data_quality(layout: Layout) -> None:
    quality = read_report(layout.data_quality)
    text = "\n".join(["# Data quality", "", *markdown_lines(quality)])
    create_markdown_artifact(text, key="data-quality", description="What `prepare` found and did")
    create_table_artifact(
        [
            {"part": part, "records": found["records"]} | found["classes"]
            for part, found in quality["parts"].items()
        ],
        key="data-parts",
        description="Records of each class in each part",
    )


def _publish_metrics(layout: Layout) -> None:
    rows = metric_rows(read_report(layout.metrics))
    create_table_artifact(rows, key="metrics", description="The test part, with confidence intervals")


def _publish_gate(layout: Layout) -> None:
    report = read_report(layout.registry_report)
    checks = [
        f"| {check['name']} | {'passed' if check['passed'] else '**not passed**'} | {check['text']} |"
        for check in report["checks"]
    ]
    lines = ["# Gate", "", gate_sentence(report), ""]
    if checks:
        lines += ["| check | result | |", "|---|---|---|", *checks]
    create_markdown_artifact("\n".join(lines), key="gate", description="Whether the model became champion")
    create_table_artifact(
        [{name: _cell(value) for name, value in check.items()} for check in report["checks"]],
        key="gate-checks",
        description="Challenger and champion, check by check",
    )


def markdown_lines(value: Mapping[str, Any], level: int = 2) -> Iterator[str]:
    """A JSON object as Markdown: plain values in one table, each object below its own heading.

    Lists of objects (examples, files) become tables; empty ones are left out.
    """
    plain = {name: item for name, item in value.items() if not _nested(item) and item not in ([], {}, None)}
    if plain:
        yield from ("| | |", "|---|---|")
        yield from (f"| {_words(name)} | {_cell(item)} |" for name, item in plain.items())
        yield ""
    for name, item in value.items():
        if _nested(item):
            yield from (f"{'#' * min(level, 6)} {_words(name)}", "")
        if isinstance(item, Mapping):
            yield from markdown_lines(item, level + 1)
        elif _nested(item):
            yield from _table_lines(item)


def _nested(item: Any) -> bool:
    return bool(item) and (
        isinstance(item, Mapping)
        or (isinstance(item, list) and all(isinstance(entry, Mapping) for entry in item))
    )


def _table_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    yield f"| {' | '.join(map(_words, columns))} |"
    yield "|---" * len(columns) + "|"
    yield from (f"| {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in rows)
    yield ""


def _words(name: str) -> str:
    return name.replace("_", " ").replace("|", "\\|")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False).replace("|", "\\|")

"""`report.html`: everything about a model on one self-contained page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from catena.evaluation import figures
from catena.evaluation.mistakes import notable_records, sample_rows
from catena.evaluation.predictions import Predictions
from catena.evaluation.verdict import BASELINE_TITLES, METRIC_TITLES, verdict
from catena.files import complete_file

#: Blue and orange, which people tell apart who see red and green alike: words for and against what is said.
FOR, AGAINST = (31, 95, 191), (196, 100, 0)
#: Rows of tables that grow with the number of classes or of confusions.
_MOST_CLASSES = 200
_MOST_CONFUSIONS = 15
#: Pictures shown of each class, where records have some.
_SAMPLE_CLASSES = 12
_SAMPLES = 10


@dataclass(frozen=True)
class ReportSource:
    """What the page is made of; absent parts leave their section out.

    `metrics` is `metrics.json` (with `behaviour` if any ran), `data_quality` what `prepare` wrote,
    `curve` the training curve, `made_with` groups of names and values that say how it was made. `explained`
    are records with the share of each of their words, as `catena.explanation_views` shows them;
    `self_training` is what the model's card says of rounds on records without labels.
    """

    title: str
    predictions: Predictions
    metrics: Mapping[str, Any]
    data_quality: Mapping[str, Any] | None = None
    curve: pd.DataFrame | None = None
    made_with: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    explained: Sequence[Mapping[str, Any]] = ()
    self_training: Mapping[str, Any] | None = None


def write_report(path: Path, source: ReportSource) -> None:
    """Write the page whole or not at all. The same source gives the same bytes.

    It loads nothing from anywhere: styles are inline, charts are inline SVG. All text from data is
    escaped.
    """
    text = render_report(source)
    with complete_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def page_environment() -> Environment:
    """The templates' environment: everything escaped, numbers as people read them."""
    environment = Environment(
        loader=PackageLoader("catena.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        score=_score,
        count=_count,
        interval=_interval,
        p=_p_value,
        code=_code,
        cell=_cell,
        tint=_tint,
    )
    return environment


def render_report(source: ReportSource) -> str:
    """The page as HTML."""
    environment = page_environment()
    metrics, plan = source.metrics, source.predictions.plan
    lists = notable_records(source.predictions, plan.worst_errors)
    behaviour = metrics.get("behaviour")
    return environment.get_template("report.html.jinja").render(
        title=source.title,
        metrics=metrics,
        plan=plan,
        verdict=verdict(metrics, behaviour, len(lists.suspect_labels)),
        lists=lists,
        samples=sample_rows(source.predictions, _SAMPLE_CLASSES, _SAMPLES),
        behaviour=behaviour,
        data=source.data_quality,
        self_training=source.self_training,
        parts=[
            name
            for name in ("train", "validation", "test")
            if name in (source.data_quality or {}).get("parts", {})
        ],
        made_with=source.made_with,
        explained=source.explained,
        rivals=rivals(metrics),
        key_numbers=_key_numbers(metrics),
        more_numbers=_more_numbers(metrics),
        confusions=_confusions(metrics["confusion"]),
        classes=sorted(metrics["per_class"], key=lambda row: -row["records"])[:_MOST_CLASSES],
        charts=_charts(metrics, source.curve),
    )


def rivals(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model and its baselines as rows of one table, the model first."""
    tests = {one["baseline"]: one for one in metrics["comparison"]}
    model = {**metrics, "title": "This model, fine-tuned", "name": None, "test": None}
    return [
        model,
        *(
            {**scores, "title": BASELINE_TITLES.get(name, name), "name": name, "test": tests.get(name)}
            for name, scores in metrics["baselines"].items()
        ),
    ]


def _charts(metrics: Mapping[str, Any], curve: pd.DataFrame | None) -> dict[str, Any]:
    # The most frequent class would squeeze all others into a corner of the scale.
    rows = [row for row in rivals(metrics) if row["name"] != "majority"]
    confusion = metrics["confusion"]
    charts: dict[str, list[str]] = {
        "rivals": [
            figures.rivals_chart(rows, metric, METRIC_TITLES[metric]) for metric in ("accuracy", "macro_f1")
        ],
        "classes": [figures.classes_chart(metrics["per_class"])] if len(metrics["per_class"]) <= 60 else [],
        "confusion": [figures.confusion_chart(confusion["labels"], confusion["counts"])],
        "reliability": [figures.reliability_chart(metrics["reliability"])] if metrics["reliability"] else [],
        "curve": figures.curve_charts(curve) if curve is not None else [],
    }
    # The charts are the only markup that is not escaped; matplotlib has escaped their labels.
    return {name: [Markup(one) for one in some] for name, some in charts.items()}  # noqa: S704


def _key_numbers(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The few scores at the top, each with its interval and what it means."""
    meanings = {
        "accuracy": "share of records with the right label",
        "macro_f1": "all classes count the same",
        "weighted_f1": "classes count by their size",
        "calibration_error": "how far confidence is off",
    }
    return [
        {
            "title": METRIC_TITLES[name],
            "value": metrics[name],
            "interval": metrics["intervals"].get(name),
            "meaning": meaning,
            "percent": name == "accuracy",
        }
        for name, meaning in meanings.items()
        if name in metrics
    ]


def _more_numbers(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"title": title, "value": metrics[name], "interval": metrics["intervals"].get(name)}
        for name, title in METRIC_TITLES.items()
        if name in metrics
    ]


def _confusions(confusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most frequent mistakes: which class was taken for which."""
    labels: Sequence[str] = confusion["labels"]
    found = [
        {"actual": actual, "predicted": labels[column], "records": count, "share": count / max(sum(row), 1)}
        for actual, row in zip(labels, confusion["counts"], strict=True)
        for column, count in enumerate(row)
        if count and labels[column] != actual
    ]
    return sorted(found, key=lambda one: (-one["records"], one["actual"], one["predicted"]))[
        :_MOST_CONFUSIONS
    ]


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _score(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _interval(bounds: Sequence[float] | None, percent: bool = False) -> str:
    if not bounds:
        return ""
    low, high = bounds
    return f"{low:.1%} to {high:.1%}" if percent else f"{low:.3f} to {high:.3f}"


def _code(text: str) -> Markup:
    """Escaped text in which `backticks` have become code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def _cell(value: object) -> str:
    """A number or a word of any table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _p_value(value: float) -> str:
    return "< 0.01" if value < 0.01 else f"{value:.2f}"


def _tint(share: float) -> str:
    red, green, blue = FOR if share > 0 else AGAINST
    return f"rgba({red}, {green}, {blue}, {0.55 * abs(share):.2f})"

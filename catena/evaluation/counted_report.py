"""`report.html` of problems with a counted evaluation: the same page, in the problem's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from catena.evaluation import figures
from catena.evaluation.report import ReportSource, page_environment
from catena.evaluation.verdict import Verdict, behaviour_remark
from catena.files import complete_file

if TYPE_CHECKING:
    from catena.evaluation.counted import CountedEvaluation

_MOST_ROWS = 200


def write_counted_report(path: Path, source: ReportSource, evaluation: CountedEvaluation) -> None:
    """Write the page whole or not at all. The same source gives the same bytes."""
    text = render(source, evaluation)
    with complete_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def render(source: ReportSource, evaluation: CountedEvaluation) -> str:
    """The page as HTML."""
    metrics, plan = source.metrics, source.predictions.plan
    rows = _rivals(metrics, evaluation)
    headline = [name for name in evaluation.headline if name in metrics]
    charted = [name for name in headline if all(name in row for row in rows)]
    parts = (source.data_quality or {}).get("parts", {})
    charts: dict[str, list[Markup]] = {
        "rivals": [
            Markup(figures.rivals_chart(rows, name, evaluation.metrics[name].title))  # noqa: S704
            for name in charted
        ],
        "curve": [Markup(one) for one in figures.curve_charts(source.curve)]  # noqa: S704
        if source.curve is not None
        else [],
    }
    return (
        page_environment()
        .get_template("report_counted.html.jinja")
        .render(
            title=source.title,
            metrics=metrics,
            plan=plan,
            titles={name: metric.title for name, metric in evaluation.metrics.items()},
            verdict=_verdict(metrics, evaluation),
            headline=headline,
            charted=charted,
            scores=[name for name in evaluation.metrics if name in metrics],
            percent={name for name, metric in evaluation.metrics.items() if metric.percent},
            rivals=rows,
            tables=[_table(one) for one in metrics["tables"]],
            slice_title=evaluation.metrics[evaluation.slice_metric].title if evaluation.slice_metric else "",
            mistakes=_mistakes(source, evaluation),
            data=source.data_quality,
            self_training=source.self_training,
            parts=[name for name in ("train", "validation", "test") if name in parts],
            made_with=source.made_with,
            explained=source.explained,
            charts=charts,
            behaviour=metrics.get("behaviour"),
        )
    )


def _rivals(metrics: Mapping[str, Any], evaluation: CountedEvaluation) -> list[dict[str, Any]]:
    tests = {one["baseline"]: one for one in metrics["comparison"]}
    titles = dict(metrics["baseline_titles"])
    return [
        {**metrics, "title": "This model, fine-tuned", "test": None},
        *(
            {**scores, "title": titles.get(name, name), "test": tests.get(name)}
            for name, scores in metrics["baselines"].items()
        ),
    ]


def _verdict(metrics: Mapping[str, Any], evaluation: CountedEvaluation) -> Verdict:
    """Whether fine-tuning paid, by the paired test against the strongest baseline."""
    noted = [behaviour_remark(metrics["behaviour"])] if "behaviour" in metrics else []
    shown = ", ".join(
        f"{evaluation.metrics[name].title} {_value(metrics[name], evaluation.metrics[name].percent)}"
        for name in evaluation.headline
        if name in metrics
    )
    summary = f"On {metrics['records']:,} test records that it has never seen: {shown}."
    comparisons = metrics["comparison"]
    if not comparisons:
        return Verdict("mixed", "Nothing simpler was tested to compare with.", summary, noted)
    sign = 1 if evaluation.metrics[comparisons[0]["metric"]].higher_is_better else -1
    best = min(comparisons, key=lambda one: sign * one["difference"])
    name = dict(metrics["baseline_titles"]).get(best["baseline"], best["baseline"])
    sure = best["p_value"] < 1 - metrics["plan"]["confidence"]
    ahead = sign * best["difference"] > 0
    title = evaluation.metrics[best["metric"]].title
    chance = "p < 0.01" if best["p_value"] < 0.01 else f"p = {best['p_value']:.2f}"
    remark = (
        f"Against {name}: {title} {best['difference']:+.3f} ({best['low']:+.3f} to {best['high']:+.3f}, "
        f"{chance} in a paired bootstrap test)."
    )
    if sure and ahead:
        headline = f"Fine-tuning pays: clearly better than its strongest baseline, {name}."
        return Verdict("good", headline, summary, [remark, *noted])
    if sure:
        return Verdict("bad", f"A simpler model does better: {name}.", summary, [remark, *noted])
    return Verdict(
        "mixed", f"Not shown to be better than a simpler model: {name}.", summary, [remark, *noted]
    )


def _mistakes(source: ReportSource, evaluation: CountedEvaluation) -> dict[str, Any]:
    """The records that came out worst; of equally wrong ones the surest, then by id."""
    records, plan = source.predictions.records, source.predictions.plan
    right = evaluation.right(records, plan)
    sure = records["confidence"].to_numpy() if "confidence" in records else np.zeros(len(records))
    order = np.lexsort((records["id"].to_numpy(dtype=str), -sure, right))
    worst = [int(row) for row in order if right[row] < 1.0][: plan.worst_errors]
    columns = evaluation.shown_columns(records)
    return {
        "columns": columns,
        "wrong": int((right < 1.0).sum()),
        "rows": [
            {
                "where": evaluation.where({str(name): value for name, value in records.iloc[row].items()}),
                "inputs": [evaluation.shown(records.iloc[row], name, plan) for name in columns],
                "target": evaluation.shown(records.iloc[row], evaluation.target, plan),
                "prediction": evaluation.shown(records.iloc[row], "prediction", plan),
            }
            for row in worst
        ],
    }


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Titles, and rows of values, each with whether it is running text."""
    running = table.get("running", ())
    return {
        **table,
        "rows": [
            [(row.get(key), key in running) for key in table["columns"]] for row in table["rows"][:_MOST_ROWS]
        ],
    }


def _value(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.3f}"

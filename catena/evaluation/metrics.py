"""From `predictions.parquet` alone to `metrics.json`."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from catena.evaluation.bootstrap import percentile_interval, resampled_margins
from catena.evaluation.calibration import reliability
from catena.evaluation.predictions import Predictions, read_predictions
from catena.evaluation.rivals import METRICS, Rival
from catena.evaluation.scores import margins
from catena.evaluation.significance import intervals, paired_difference
from catena.evaluation.slices import find_slices, score_slices

#: What is shown of a baseline, whose predictions are names with a confidence.
BASELINE_METRICS = (
    "accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "calibration_error",
)
#: Of the counted scores these two always equal the accuracy where each record has one label.
_SAME_AS_ACCURACY = ("micro_precision", "micro_recall")
_DIGITS = 6


def evaluate_predictions(path: Path, **changes: Any) -> dict[str, Any]:
    """All figures about a file of predictions, ready for JSON, floats rounded to six digits.

    The file's own plan says how many resamples, which seed, confidence and slices; `changes`
    replaces parts of it (`samples=…, confidence=…, seed=…, metric=…, slices=…`).

    Scores stand at the top under their names, with `intervals` beside them; `per_class`,
    `averages`, `slices`, `reliability` and `comparison` are lists of rows; `baselines` maps a
    name to its scores. Scores that are undefined (no class with other classes beside it) are absent.

    Raises `DataError` where the file is missing, cut off or lacks columns.
    """
    predictions = read_predictions(path)
    plan = predictions.plan.with_changes(**changes)
    return predictions.evaluation.score(Predictions(predictions.records, plan))


def score(predictions: Predictions) -> dict[str, Any]:
    """All figures about predictions of one class for each record; see `evaluate_predictions`."""
    plan, records = predictions.plan, predictions.records
    model = Rival.of(records, plan.label_names)
    draws = (plan.samples, plan.seed, plan.confidence)
    shown = tuple(metric for metric in METRICS if metric not in _SAME_AS_ACCURACY)
    slices = score_slices(model, find_slices(records, plan.slices), *draws)
    figures: dict[str, Any] = rounded(
        {
            "records": len(records),
            "errors": int((~model.correct).sum()),
            **_scores(model, shown),
            "intervals": intervals(model, shown, *draws),
            "averages": _averages(model),
            "per_class": _per_class(model, draws),
            "confusion": {"labels": list(plan.label_names), "counts": model.confusion.tolist()},
            "reliability": [asdict(one) for one in _reliability(model)],
            "slices": [asdict(one) for one in slices],
            "baselines": {name: _baseline(predictions, name, draws) for name in predictions.baselines},
            "comparison": [_comparison(predictions, name) for name in predictions.baselines],
            "plan": {
                "samples": plan.samples,
                "confidence": plan.confidence,
                "seed": plan.seed,
                "metric": plan.metric or "macro_f1",
            },
        }
    )
    return figures


def _scores(rival: Rival, metrics: tuple[str, ...]) -> dict[str, float]:
    scores = {metric: rival.score(metric) for metric in metrics if rival.has(metric)}
    return {metric: value for metric, value in scores.items() if not math.isnan(value)}


def _averages(model: Rival) -> list[dict[str, Any]]:
    """Precision, recall and F1 averaged in three ways, as rows of a table."""
    return [
        {
            "average": average,
            **{kind: model.score(f"{average}_{kind}") for kind in ("precision", "recall", "f1")},
        }
        for average in ("micro", "macro", "weighted")
    ]


def _per_class(model: Rival, draws: tuple[int, int, float]) -> list[dict[str, Any]]:
    """One row for each class, in the order of the label list."""
    samples, seed, confidence = draws
    counted = margins(model.confusion)
    (resampled,) = resampled_margins(model.actual, [model.predicted], len(model.label_names), samples, seed)
    equal = np.ones(len(model.actual))
    rows = []
    for number, name in enumerate(model.label_names):
        ranked = model.ranked[number]
        rows.append(
            {
                "label": name,
                "records": int(counted.actual[number]),
                "predicted": int(counted.predicted[number]),
                "precision": float(counted.precision[number]),
                "recall": float(counted.recall[number]),
                "f1": float(counted.f1[number]),
                "f1_interval": percentile_interval(resampled.f1[:, number], confidence),
                "roc_auc": _or_none(float(ranked.roc_auc(equal))),
                "pr_auc": _or_none(float(ranked.pr_auc(equal))),
            }
        )
    return rows


def _reliability(model: Rival) -> list[Any]:
    return [] if model.confidence is None else reliability(model.confidence, model.correct)


def _baseline(predictions: Predictions, name: str, draws: tuple[int, int, float]) -> dict[str, Any]:
    rival = Rival.of(predictions.records, predictions.plan.label_names, baseline=name)
    return {**_scores(rival, BASELINE_METRICS), "intervals": intervals(rival, BASELINE_METRICS, *draws)}


def _comparison(predictions: Predictions, name: str) -> dict[str, Any]:
    """The paired test of the model against one baseline, by the metric that decides."""
    plan = predictions.plan
    metric = plan.metric if plan.metric in BASELINE_METRICS else "macro_f1"
    own = ["id", "label", "prediction", "confidence"]
    model = predictions.records[own]
    column = f"baseline:{name}"
    theirs = {column: "prediction", f"{column}:confidence": "confidence"}
    theirs = {given: name for given, name in theirs.items() if given in predictions.records}
    rival = predictions.records[["id", "label", *theirs]].rename(columns=theirs)
    test = paired_difference(
        model, rival, metric, plan.samples, plan.seed, plan.confidence, label_names=plan.label_names
    )
    return {
        "baseline": name,
        "metric": metric,
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "p_value": test.p_value,
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def rounded(value: Any) -> Any:
    """The same structure for JSON: tuples as lists, numpy numbers as Python's, floats to six digits."""
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        # Adding 0 turns -0.0 into 0.0.
        return round(float(value), _DIGITS) + 0.0
    if isinstance(value, int | np.integer):
        return int(value)
    return value

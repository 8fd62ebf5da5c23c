"""Tables behind `dvc plots`: confusion, ROC and precision-recall curves, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from catena.evaluation.calibration import reliability
from catena.evaluation.predictions import Predictions
from catena.evaluation.rivals import Rival
from catena.evaluation.scores import Floats
from catena.files import complete_folder

#: Most points of one class's curve; a million records draw no finer line.
_POINTS = 200
#: The files that `dvc.yaml` draws after every evaluation, and the columns it asks of them.
_DRAWN = {
    "confusion": ("actual", "predicted"),
    "roc": ("class", "false_positive_rate", "true_positive_rate"),
    "pr": ("class", "recall", "precision"),
    "calibration": ("confidence", "accuracy", "perfect", "records"),
}


def write_plots(folder: Path, predictions: Predictions) -> None:
    """Write `confusion.csv` (one row for each record), `roc.csv`, `pr.csv` and `calibration.csv`."""
    rival = Rival.of(predictions.records, predictions.plan.label_names)
    confusion = predictions.records[["label", "prediction"]].set_axis(["actual", "predicted"], axis=1)
    tables = {"confusion": confusion, **_curves(rival), "calibration": _calibration(rival)}
    with complete_folder(folder) as partial:
        for name, table in tables.items():
            table.to_csv(partial / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def write_missing(folder: Path) -> None:
    """Files without a row for what `dvc.yaml` draws and this problem has not: DVC leaves such out."""
    for name, columns in _DRAWN.items():
        path = folder / f"{name}.csv"
        if not path.exists():
            path.write_text(",".join(columns) + "\n", encoding="utf-8")


def _curves(rival: Rival) -> dict[str, pd.DataFrame]:
    """ROC and precision-recall curves of each class against the others, as long tables."""
    equal = np.ones(len(rival.actual))
    roc, pr = [], []
    for name, ranked in zip(rival.label_names, rival.ranked, strict=True):
        true, false = ranked.counts(equal)
        if not true[-1] or not false[-1]:
            continue
        kept = _thinned(true)
        recall, precision = true / true[-1], true / (true + false)
        start = pd.DataFrame({"class": [name], "false_positive_rate": [0.0], "true_positive_rate": [0.0]})
        rates = {"false_positive_rate": (false / false[-1])[kept], "true_positive_rate": recall[kept]}
        roc += [start, pd.DataFrame({"class": name, **rates})]
        pr.append(pd.DataFrame({"class": name, "recall": recall[kept], "precision": precision[kept]}))
    return {
        "roc": _joined(roc, _DRAWN["roc"]),
        "pr": _joined(pr, _DRAWN["pr"]),
    }


def _calibration(rival: Rival) -> pd.DataFrame:
    """Points of the reliability diagram, beside the accuracy they should have (`perfect`)."""
    bins = [] if rival.confidence is None else reliability(rival.confidence, rival.correct)
    rows = [(one.confidence, one.accuracy, one.confidence, one.records) for one in bins]
    return pd.DataFrame(rows, columns=list(_DRAWN["calibration"]))


def _thinned(true: Floats) -> np.ndarray:
    """Points of a curve to keep: half evenly over the thresholds, half over the recalls reached."""
    rises = np.flatnonzero(np.diff(true, prepend=0.0))
    return np.union1d(_evenly(np.arange(len(true))), _evenly(rises))


def _evenly(points: np.ndarray) -> np.ndarray:
    chosen = np.linspace(0, len(points) - 1, min(len(points), _POINTS // 2))
    return np.asarray(points[chosen.round().astype(np.int64)])


def _joined(tables: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))

"""How sure one can be of a score, and of a difference between two models on the same records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from catena.errors import DataError
from catena.evaluation.bootstrap import percentile_interval, resampled_margins, resampled_weights
from catena.evaluation.rivals import LOWER_IS_BETTER, Rival, check_metric
from catena.evaluation.scores import COUNT_METRICS, Floats

#: Resamples × records × classes that the areas under curves may cost before fewer are drawn.
_AREA_WORK = 4e7
_AREAS = ("roc_auc", "pr_auc")
#: Fewer resamples than this make no interval.
_FEWEST = 100


@dataclass(frozen=True)
class PairedTest:
    """Score of model A minus score of model B on the same records.

    `low` and `high` bound the difference with the confidence asked for; `p_value` is two-sided:
    how easily a difference at least this clear arises when there is none.
    """

    metric: str
    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    p_value: float
    records: int
    samples: int
    higher_is_better: bool = True

    @property
    def gain(self) -> float:
        """The difference with its sign turned so that above 0 means that A is better."""
        return self.difference if self.higher_is_better else -self.difference


def paired_difference(
    predictions_a: pd.DataFrame,
    predictions_b: pd.DataFrame,
    metric: str,
    samples: int,
    seed: int,
    confidence: float = 0.95,
    label_names: Sequence[str] | None = None,
) -> PairedTest:
    """Paired bootstrap test of `metric` between two models (Efron and Tibshirani 1993; Koehn 2004).

    Both tables need columns `id`, `label`, `prediction` (and `confidence`, `p:<label>` for metrics
    computed from them) and the same records, in any order. Macro averages run over `label_names`,
    by default all names that occur in either table. Every resample draws the same records for both.

    Raises `DataError` where the tables differ in records or labels, `SettingsError` for a metric
    that does not exist.
    """
    check_metric(metric)
    table_a, table_b = aligned(predictions_a, predictions_b, "label")
    if label_names is None:
        label_names = sorted({*table_a["label"], *table_a["prediction"], *table_b["prediction"]})
    rival_a, rival_b = Rival.of(table_a, label_names), Rival.of(table_b, label_names)
    scores_a, scores_b = _resampled([rival_a, rival_b], metric, samples, seed)
    differences = scores_a - scores_b
    score_a, score_b = rival_a.score(metric), rival_b.score(metric)
    low, high = percentile_interval(differences, confidence)
    return PairedTest(
        metric=metric,
        score_a=score_a,
        score_b=score_b,
        difference=score_a - score_b,
        low=low,
        high=high,
        p_value=two_sided(differences),
        records=len(table_a),
        samples=samples,
        higher_is_better=metric not in LOWER_IS_BETTER,
    )


def intervals(
    rival: Rival, metrics: Sequence[str], samples: int, seed: int, confidence: float
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap interval of each metric that the rival's predictions allow.

    Areas under curves take fewer resamples where there are many records or classes, and none at
    all where fewer than 100 would be left.
    """
    known = [metric for metric in metrics if rival.has(metric)]
    (counted,) = resampled_margins(rival.actual, [rival.predicted], len(rival.label_names), samples, seed)
    resampled = {metric: counted.score(metric) for metric in known if metric in COUNT_METRICS}
    affordable = min(samples, int(_AREA_WORK / (len(rival.actual) * len(rival.label_names))))
    draws = {
        metric: affordable if metric in _AREAS else samples for metric in known if metric not in resampled
    }
    # Metrics with as many resamples share them: drawing is most of the work.
    for drawn in set(draws.values()):
        if drawn >= _FEWEST:
            together = [metric for metric, wanted in draws.items() if wanted == drawn]
            scores = _resampled_by_record([rival], together, drawn, seed)
            resampled |= {metric: one for metric, (one,) in scores.items()}
    defined = {metric: scores[~np.isnan(scores)] for metric, scores in resampled.items()}
    return {
        metric: percentile_interval(defined[metric], confidence)
        for metric in metrics
        if metric in defined and len(defined[metric])
    }


def wilson_interval(hits: int, records: int, confidence: float) -> tuple[float, float]:
    """Interval of a share, honest also for few records and for 0 or 100% (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = hits + z * z / 2
    half = z * math.sqrt(hits * (records - hits) / records + z * z / 4)
    return max(0.0, (middle - half) / (records + z * z)), min(1.0, (middle + half) / (records + z * z))


def _resampled(rivals: Sequence[Rival], metric: str, samples: int, seed: int) -> list[Floats]:
    """Scores `(samples,)` of each rival under the same resamples."""
    first = rivals[0]
    if metric in COUNT_METRICS:
        drawn = resampled_margins(
            first.actual, [rival.predicted for rival in rivals], len(first.label_names), samples, seed
        )
        return [one.score(metric) for one in drawn]
    return _resampled_by_record(rivals, [metric], samples, seed)[metric]


def _resampled_by_record(
    rivals: Sequence[Rival], metrics: Sequence[str], samples: int, seed: int
) -> dict[str, list[Floats]]:
    """Scores `(samples,)` of each rival by each metric, all under the same resamples."""
    blocks: dict[str, list[list[Floats]]] = {metric: [[] for _ in rivals] for metric in metrics}
    for weights in resampled_weights(len(rivals[0].actual), samples, seed):
        for metric, by_rival in blocks.items():
            for rival, scores in zip(rivals, by_rival, strict=True):
                scores.append(rival.weighted(metric, weights))
    return {metric: [np.concatenate(scores) for scores in by_rival] for metric, by_rival in blocks.items()}


def two_sided(differences: Floats) -> float:
    """Twice the smaller share of resamples at or beyond 0, counting the observed one too."""
    known = differences[~np.isnan(differences)]
    beyond = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(known) + 1))


def aligned(table_a: pd.DataFrame, table_b: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables sorted by `id`, after checking that they hold the same records with the same targets."""
    for name, table in (("first", table_a), ("second", table_b)):
        missing = [column for column in ("id", target, "prediction") if column not in table]
        if missing:
            raise DataError(f"The {name} model's predictions have no column `{missing[0]}`.")
        if not len(table):
            raise DataError(f"The {name} model's predictions hold no records.")
        if table["id"].duplicated().any():
            twice = table["id"][table["id"].duplicated()].iloc[0]
            raise DataError(f"The {name} model's predictions hold record {twice!r} twice.")
    table_a = table_a.sort_values("id", ignore_index=True)
    table_b = table_b.sort_values("id", ignore_index=True)
    if len(table_a) != len(table_b) or (table_a["id"] != table_b["id"]).any():
        raise DataError(
            f"The two models were not tested on the same records ({len(table_a)} and {len(table_b)}); "
            "evaluate both on one test part before comparing them."
        )
    if (table_a[target] != table_b[target]).any():
        row = int(np.argmax(table_a[target].to_numpy() != table_b[target].to_numpy()))
        raise DataError(
            f"Record {table_a['id'][row]!r} has {target} {table_a[target][row]!r} in one table and "
            f"{table_b[target][row]!r} in the other; evaluate both models on one test part."
        )
    return table_a, table_b

"""How predicted numbers are judged: by how far off they are, and how much they explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.evaluation.base import Metric
from catena.evaluation.baselines import backbone_vectors, word_weights
from catena.evaluation.counted import CountedEvaluation, ResultTable, check_prepared
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.problems.regression import canonical_number, numbers

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned

#: Into how many parts of about equal size the table divides the targets.
_PARTS = 5
#: So many different targets get a row each.
_MOST_GRADES = 10


def mean(data: BaselineData) -> Learned:
    """Always the mean of the training part."""
    return _texts(np.full(len(data.test), numbers(data.train["target"]).mean()))


def tfidf(data: BaselineData) -> Learned:
    """Ridge regression on TF-IDF weights of words."""
    features, unseen = word_weights(data.train["text"].tolist(), data.test["text"].tolist())
    return _ridge(features, numbers(data.train["target"]), unseen, solver="sparse_cg", tol=1e-6)


def backbone(data: BaselineData) -> Learned:
    """The network before fine-tuning: ridge regression on its mean-pooled, normalised output.

    Learns from at most `backbone_records` training records, drawn at random.
    """
    drawn = np.random.default_rng(data.seed).permutation(len(data.train))
    train = data.train.iloc[np.sort(drawn[: data.backbone_records])]
    features, unseen = backbone_vectors(data, train)
    return _ridge(features, numbers(train["target"]), unseen)


class NumberEvaluation(CountedEvaluation):
    """Mean absolute and root mean squared error, R², Pearson's correlation, as in scikit-learn and SciPy.

    R² is the share of the targets' variance that the predictions explain: 1 is perfect, 0 no better
    than always saying the test part's own mean, and there is no bound below.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "mae": Metric("mean absolute error", higher_is_better=False),
        "rmse": Metric("root mean squared error", higher_is_better=False),
        "r2": Metric("R²"),
        "pearson": Metric("Pearson correlation"),
    }
    headline: ClassVar[Mapping[str, str]] = {"mae": "MAE", "rmse": "RMSE", "r2": "R²"}
    deciding = "rmse"
    default_floors: ClassVar[Mapping[str, float]] = {"r2": 0.0}
    target = "target"
    slice_metric: ClassVar[str | None] = "mae"
    default_baselines = ("mean", "tfidf")
    baselines: ClassVar[Mapping[str, tuple[str, Callable[[BaselineData], Learned]]]] = {
        "mean": ("Mean of the training part", mean),
        "tfidf": ("TF-IDF with ridge regression", tfidf),
        "backbone": ("Backbone before fine-tuning", backbone),
    }

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:
        check_prepared(records[self.target], float)

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        """Powers and products of target and prediction, both less the targets' mean, and of the error."""
        there, said = numbers(records[self.target]), numbers(records[column])
        middle = there.mean() if len(there) else 0.0  # sums of large squares would lose the differences
        there, said = there - middle, said - middle
        error = said - there
        one = np.ones(len(there))
        return np.column_stack([one, there, there**2, said, said**2, there * said, np.abs(error), error**2])

    def scores(self, sums: Floats) -> dict[str, Floats]:
        records, there, there2, said, said2, product, distances, squares = np.moveaxis(sums, -1, 0)
        spread = there2 - there**2 / records
        spread_said = said2 - said**2 / records
        together = product - there * said / records
        # What rounding leaves of the spread of equal numbers is no spread.
        varied = spread > 1e-12 * there2
        both = varied & (spread_said > 1e-12 * said2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "mae": distances / records,
                "rmse": np.sqrt(squares / records),
                "r2": np.where(varied, 1.0 - squares / spread, np.nan),
                "pearson": np.where(both, together / np.sqrt(spread * spread_said), np.nan),
            }

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """1 where the number is hit, ½ where it is missed by a standard deviation of the test targets."""
        there = numbers(records[self.target])
        distance = np.abs(numbers(records["prediction"]) - there)
        deviation = float(there.std()) or 1.0
        return np.asarray(deviation / (deviation + distance))

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        records, plan = predictions.records, predictions.plan
        there, counts = numbers(records[self.target]), self.counts(records, plan)
        said = numbers(records["prediction"])
        grades, part = np.unique(there, return_inverse=True)
        if len(grades) > _MOST_GRADES:
            edges = np.unique(np.quantile(there, np.linspace(0.0, 1.0, _PARTS + 1), method="lower"))
            part = np.clip(np.searchsorted(edges, there, side="right") - 1, 0, max(len(edges) - 2, 0))
        rows: list[dict[str, Any]] = []
        for number in np.unique(part):
            inside = part == number
            scores = self.scores(counts[inside].sum(axis=0))
            low, high = (f"{bound(there[inside]):.10g}" for bound in (np.min, np.max))
            rows.append(
                {
                    "targets": low if low == high else f"{low} to {high}",
                    "records": int(inside.sum()),
                    "mean_target": float(there[inside].mean()),
                    "mean_prediction": float(said[inside].mean()),
                    "mae": float(scores["mae"]),
                    "rmse": float(scores["rmse"]),
                    "bias": float((said - there)[inside].mean()),
                }
            )
        return [
            ResultTable(
                name="targets",
                title="By size of the target",
                columns={
                    "targets": "targets", "records": "records", "mean_target": "mean target",
                    "mean_prediction": "mean prediction", "mae": "mean absolute error",
                    "rmse": "root mean squared error", "bias": "mean error",
                },
                rows=rows,
                caption="Predictions that keep too close to the middle show as a mean error above 0 for "
                "small targets and below 0 for large ones.",
            )
        ]  # fmt: skip


def _ridge(features: object, targets: np.ndarray, unseen: object, **options: Any) -> Learned:
    from sklearn.linear_model import Ridge

    return _texts(np.asarray(Ridge(alpha=1.0, **options).fit(features, targets).predict(unseen)))


def _texts(values: np.ndarray) -> Learned:
    return np.asarray([canonical_number(value) for value in values], dtype=object), None

"""How sets of classes are judged: class by class, record by record, and as wholes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError
from catena.evaluation import set_baselines
from catena.evaluation.base import Metric
from catena.evaluation.counted import CountedEvaluation, ResultTable
from catena.evaluation.mistakes import excerpt
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.problems.multilabel import labels_of, membership

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned

#: Counts of a record before those of each class: itself, wholly right, wrong decisions, and its own
#: precision, recall and F1.
_GENERAL = 6
_RATES = ("precision", "recall", "f1")


class SetEvaluation(CountedEvaluation):
    """Every score is scikit-learn's of the same name over the matrix of records and classes.

    Micro averages count all decisions together, macro averages all classes alike, weighted ones by
    their records; `zero_division` is 0 there, so that a class never said has precision 0. Averages
    over records (`samples`) have it at 1: a record that has no class, and is given none, is right.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "micro_f1": Metric("micro F1"),
        "macro_f1": Metric("macro F1"),
        "weighted_f1": Metric("weighted F1"),
        "samples_f1": Metric("F1, mean over records"),
        "exact_match": Metric("exact match", percent=True),
        "hamming_loss": Metric("Hamming loss", higher_is_better=False),
        "micro_precision": Metric("micro precision"),
        "micro_recall": Metric("micro recall"),
        "macro_precision": Metric("macro precision"),
        "macro_recall": Metric("macro recall"),
        "weighted_precision": Metric("weighted precision"),
        "weighted_recall": Metric("weighted recall"),
        "samples_precision": Metric("precision, mean over records"),
        "samples_recall": Metric("recall, mean over records"),
    }
    headline: ClassVar[Mapping[str, str]] = {
        "micro_f1": "micro F1",
        "macro_f1": "macro F1",
        "exact_match": "exact match",
    }
    deciding = "micro_f1"
    default_floors: ClassVar[Mapping[str, float]] = {"micro_f1": 0.3}
    target = "labels"
    slice_metric: ClassVar[str | None] = "samples_f1"
    default_baselines = ("majority", "tfidf")
    baselines: ClassVar[Mapping[str, tuple[str, Callable[[BaselineData], Learned]]]] = {
        "majority": ("Most frequent set of classes", set_baselines.majority),
        "tfidf": ("TF-IDF with a logistic regression for each class", set_baselines.tfidf),
        "backbone": ("Backbone before fine-tuning", set_baselines.backbone),
    }

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:
        _members(records, self.target, label_names)

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        """`_GENERAL`, then for each class how often it was right, said and there."""
        there = _members(records, self.target, plan.label_names)
        said = _members(records, column, plan.label_names)
        right = there * said
        hits, given, wanted = right.sum(axis=1), said.sum(axis=1), there.sum(axis=1)
        general = [
            np.ones(len(records)),
            (there == said).all(axis=1),
            (there != said).sum(axis=1),
            _ratio(hits, given, empty=1.0),
            _ratio(hits, wanted, empty=1.0),
            _ratio(2 * hits, given + wanted, empty=1.0),
        ]
        return np.column_stack([*general, right, said, there]).astype(np.float64)

    def scores(self, sums: Floats) -> dict[str, Floats]:
        records, exact, wrong, *means = np.moveaxis(sums[..., :_GENERAL], -1, 0)
        by_class = _by_class(sums)
        support = by_class[..., 2]
        found: dict[str, Floats] = {
            "exact_match": exact / records,
            "hamming_loss": wrong / (records * by_class.shape[-2]),
        }
        micro, each = _rates(by_class.sum(axis=-2)), _rates(by_class)
        for name, over_records, over_all, per_class in zip(_RATES, means, micro, each, strict=True):
            found[f"micro_{name}"] = over_all
            found[f"macro_{name}"] = per_class.mean(axis=-1)
            found[f"weighted_{name}"] = _ratio(
                (per_class * support).sum(axis=-1), support.sum(axis=-1), empty=np.nan
            )
            found[f"samples_{name}"] = over_records / records
        return {name: np.asarray(found[name]) for name in self.metrics}

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """F1 of each record's set."""
        return self.counts(records, plan)[:, _GENERAL - 1]

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        plan, records = predictions.plan, predictions.records
        counts = self.counts(records, plan)
        sums = counts.sum(axis=0)
        by_class, scores = _by_class(sums), self.scores(sums)
        rates = _rates(by_class)
        rows: list[dict[str, object]] = [
            {
                "class": name,
                **{rate: float(values[at]) for rate, values in zip(_RATES, rates, strict=True)},
                "support": int(by_class[at, 2]),
                "said": int(by_class[at, 1]),
            }
            for at, name in enumerate(plan.label_names)
        ]
        total = {"support": int(by_class[:, 2].sum()), "said": int(by_class[:, 1].sum())}
        for average in ("micro", "macro", "weighted", "samples"):
            values = {rate: float(scores[f"{average}_{rate}"]) for rate in _RATES}
            known = {rate: None if value != value else value for rate, value in values.items()}
            rows.append({"class": f"{average} average", **known, **total})
        classes = ResultTable(
            name="classes",
            title="Class by class",
            columns={
                "class": "class", "precision": "precision", "recall": "recall", "f1": "F1",
                "support": "records", "said": "given to",
            },
            rows=rows,
            caption="The samples average is over records: one without classes, given none, counts as 1.",
        )  # fmt: skip
        sizes = counts[:, -len(plan.label_names) :].sum(axis=1).astype(int)
        by_size = ResultTable(
            name="sizes",
            title="By number of classes",
            columns={
                "classes": "classes of the record", "records": "records", "exact_match": "exact match",
                "samples_f1": "F1, mean over records",
            },
            rows=[
                {
                    "classes": str(size),
                    "records": int((sizes == size).sum()),
                    "exact_match": float(counts[sizes == size, 1].mean()),
                    "samples_f1": float(counts[sizes == size, _GENERAL - 1].mean()),
                }
                for size in np.unique(sizes)
            ],
        )  # fmt: skip
        return [classes, by_size]

    def shown(self, record: pd.Series, column: str, plan: EvaluationPlan) -> str:
        if column in (self.target, "prediction"):
            return ", ".join(labels_of(record[column])) or "none"
        return excerpt(str(record[column]))


def _members(records: pd.DataFrame, column: str, label_names: Sequence[str]) -> np.ndarray:
    """The matrix of records and classes; `DataError` for a class that is not among `label_names`."""
    try:
        return membership(records[column], label_names).astype(np.int64)
    except KeyError as error:
        raise DataError(
            f"Column `{column}`: {error.args[0]!r} is not among the model's {len(label_names)} labels; "
            "evaluate with the test part the model was made for."
        ) from None


def _by_class(sums: Floats) -> Floats:
    """How often each class was right, said and there `(…, classes, 3)`."""
    counted = sums[..., _GENERAL:]
    return np.moveaxis(counted.reshape(*sums.shape[:-1], 3, -1), -2, -1)


def _rates(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of counts of right, said and there `(…, 3)`."""
    right, said, there = counts[..., 0], counts[..., 1], counts[..., 2]
    return _ratio(right, said), _ratio(right, there), _ratio(2 * right, said + there)


def _ratio(part: Floats, whole: Floats, empty: float = 0.0) -> Floats:
    """`part / whole`, and `empty` where there is no whole."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)

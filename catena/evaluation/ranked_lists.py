"""The evaluation of ranking: every query's list in the order of the scores, beside popularity and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd

from catena.evaluation.base import Baseline, Metric
from catena.evaluation.baselines import BaselineData, Learned, word_options
from catena.evaluation.counted import CountedEvaluation
from catena.evaluation.predictions import EvaluationPlan
from catena.evaluation.scores import Floats
from catena.problems.lists import ListScores, list_scores

_SCORES = (
    "ndcg", "average_precision", "mrr", "recall_at_1", "recall_at_5", "recall", "recall_at_20", "auc",
)  # fmt: skip


class RankedListEvaluation(CountedEvaluation):
    """Means over lists. A list counts with its first record, so a resample of records draws lists.

    Lists without a relevant item have no score, and lists without an irrelevant one no AUC.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "ndcg": Metric("NDCG@10"),
        "average_precision": Metric("MAP"),
        "mrr": Metric("MRR"),
        "recall_at_1": Metric("Recall@1"),
        "recall_at_5": Metric("Recall@5"),
        "recall": Metric("Recall@10"),
        "recall_at_20": Metric("Recall@20"),
        "auc": Metric("AUC (mean over lists)"),
    }
    headline: ClassVar[Mapping[str, str]] = {"ndcg": "NDCG@10", "auc": "AUC", "recall": "recall@10"}
    deciding = "ndcg"
    target = "relevance"
    slice_metric = None
    default_baselines = ("popularity", "tfidf", "bm25")

    def __init__(self, relevant_from: float) -> None:
        self._relevant_from = relevant_from

    def baseline_basis(self) -> object:
        return self._relevant_from

    def stored_columns(self, label_names: Sequence[str]) -> list[str]:
        return [self.target, "prediction", "list"]

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        found = self._lists(records, column)
        counts = np.zeros((len(records), 2 * len(_SCORES)))
        for at, name in enumerate(_SCORES):
            values = getattr(found, name)
            known = ~np.isnan(values)
            counts[found.first[known], 2 * at] = values[known]
            counts[found.first[known], 2 * at + 1] = 1
        return counts

    def scores(self, sums: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: sums[..., 2 * at] / sums[..., 2 * at + 1] for at, name in enumerate(_SCORES)}

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """NDCG of the record's list; 1 for records whose list has no score."""
        found = self._lists(records, "prediction")
        by_list = pd.Series(np.nan_to_num(found.ndcg, nan=1.0), index=found.keys)
        return by_list.loc[records["list"]].to_numpy()

    def _lists(self, records: pd.DataFrame, column: str) -> ListScores:
        return list_scores(
            records["list"].to_numpy(dtype=str),
            records[column].astype(float).to_numpy(),
            records[self.target].astype(float).to_numpy(),
            self._relevant_from,
        )

    def popularity(self, data: BaselineData) -> Learned:
        """How often the item was relevant in the training part."""
        liked = data.train["relevance"].astype(float) >= self._relevant_from
        counts = data.train.loc[liked, "item"].value_counts()
        return data.test["item"].map(counts).fillna(0.0).astype(str).to_numpy(dtype=object), None

    @property
    def baselines(self) -> Mapping[str, tuple[str, Baseline]]:  # type: ignore[override]
        """Popularity needs to know what counts as relevant."""
        return {
            "popularity": ("Most popular items first", self.popularity),
            "tfidf": ("TF-IDF cosine of query and item", tfidf),
            "bm25": ("BM25 of the query's words in the item", bm25),
        }


def tfidf(data: BaselineData) -> Learned:
    """Cosine of query and item, words weighted by TF-IDF over the training part's queries and items."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = pd.concat([data.train["query"], data.train["item"]]).unique().tolist()
    vectorizer = TfidfVectorizer(sublinear_tf=True, **word_options(texts))
    vectorizer.fit(texts)
    queries = vectorizer.transform(data.test["query"])
    items = vectorizer.transform(data.test["item"])
    cosines = np.asarray(queries.multiply(items).sum(axis=1)).ravel()
    return np.array([f"{one:.6f}" for one in cosines], dtype=object), None


def bm25(data: BaselineData, saturation: float = 1.2, length_share: float = 0.75) -> Learned:
    """Okapi BM25 (Robertson and Zaragoza 2009) of the query's words; all items are the collection."""
    from sklearn.feature_extraction.text import CountVectorizer

    collection = pd.concat([data.train["item"], data.test["item"]]).unique()
    vectorizer = CountVectorizer(**word_options(collection.tolist()))
    counts = vectorizer.fit_transform(collection).tocsr().astype(np.float64)
    documents, frequency = counts.shape[0], np.asarray((counts > 0).sum(axis=0)).ravel()
    rarity = np.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    norms = saturation * (1 - length_share + length_share * lengths / max(lengths.mean(), 1e-9))
    rows = np.repeat(np.arange(documents), np.diff(counts.indptr))
    counts.data = counts.data * (saturation + 1) / (counts.data + norms[rows]) * rarity[counts.indices]
    place = pd.Series(np.arange(documents), index=collection)
    wanted = (vectorizer.transform(data.test["query"]) > 0).astype(np.float64)
    found = np.asarray(wanted.multiply(counts[place.loc[data.test["item"]].to_numpy()]).sum(axis=1)).ravel()
    return np.array([f"{one:.6f}" for one in found], dtype=object), None

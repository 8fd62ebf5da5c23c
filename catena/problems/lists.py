"""Scores of ranked lists: how well an order puts what is relevant first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: How many of the first items `recall` looks at, and at which other depths there is a recall as well.
DEPTH = 10
OTHER_DEPTHS = (1, 5, 20)


@dataclass(frozen=True)
class ListScores:
    """One value for each list, in the order of `keys`; NaN where nothing in a list is relevant.

    `ndcg`: discounted cumulative gain of the first 10 over the best possible, gains 2^relevance - 1
    (Järvelin and Kekäläinen 2002; Burges et al. 2005). `average_precision`: its mean over lists is MAP.
    `mrr`: 1 / rank of the first relevant item. `recall`: share of the relevant ones among the first 10,
    and among those of `OTHER_DEPTHS`. `auc`: share of pairs (relevant, irrelevant) in the right order, ties
    half; NaN where all is relevant.
    """

    keys: np.ndarray
    first: np.ndarray
    ndcg: np.ndarray
    average_precision: np.ndarray
    mrr: np.ndarray
    recall: np.ndarray
    auc: np.ndarray
    recall_at_1: np.ndarray
    recall_at_5: np.ndarray
    recall_at_20: np.ndarray


def list_scores(
    keys: np.ndarray, scores: np.ndarray, relevance: np.ndarray, relevant_from: float
) -> ListScores:
    """Score every list: records with the same key, ordered by falling score.

    All arrays are `(records,)`. `relevance` are gains, at least `relevant_from` counts as relevant.
    Records of equal score share the ranks they take up: no order among them is rewarded.
    `first` of the result is each list's first record.
    """
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    rows = [_one(scores[at], relevance[at], relevant_from) for at in members]
    columns = np.asarray(rows, dtype=np.float64).reshape(len(rows), 5 + len(OTHER_DEPTHS)).T
    return ListScores(unique, first, *columns)


def _expected_reciprocal_rank(n: int, r: int, before: int) -> float:
    """Mean of 1 / rank of the first of `r` relevant records among `n` in any order, after `before` others."""
    place = np.arange(1, n - r + 2)
    # none at the places up to here, one at this place
    none = np.cumprod(np.concatenate([[1.0], (n - r - place[:-1] + 1) / (n - place[:-1] + 1)]))
    return float((none * r / (n - place + 1) / (before + place)).sum())


def _one(scores: np.ndarray, gains: np.ndarray, relevant_from: float) -> tuple[float, ...]:
    relevant = gains >= relevant_from
    hits = int(relevant.sum())
    if not hits:
        return (np.nan,) * (5 + len(OTHER_DEPTHS))
    order = np.argsort(-scores, kind="stable")
    # Among equal scores every record counts as the mean of them all: what a random order would get.
    _, group = np.unique(-scores[order], return_inverse=True)
    sizes = np.bincount(group)
    value = (np.bincount(group, 2.0 ** gains[order] - 1) / sizes)[group]
    right = (np.bincount(group, relevant[order]) / sizes)[group]
    ranks = np.arange(1, len(scores) + 1)
    discount = 1 / np.log2(ranks + 1)
    best = np.sort(2.0**gains - 1)[::-1]
    ideal = float((best * discount)[:DEPTH].sum())
    ndcg = float((value * discount)[:DEPTH].sum()) / ideal if ideal else np.nan
    found = np.cumsum(right)
    # Of a group of n records, r of them relevant, with `before` records ahead of it:
    n, r = sizes[group], np.bincount(group, relevant[order])[group]
    before = (np.cumsum(sizes) - sizes)[group]
    place = ranks - before
    # a relevant one at a place has on average this many relevant ones up to its rank, itself included,
    above = np.concatenate([[0.0], found])[before] + 1 + (r - 1) * (place - 1) / np.maximum(n - 1, 1)
    average_precision = float((right * above / ranks).sum()) / hits
    mrr = _expected_reciprocal_rank(int(n[r > 0][0]), int(r[r > 0][0]), int(before[r > 0][0]))
    recall, *recalls = (float(found[min(depth, len(found)) - 1]) / hits for depth in (DEPTH, *OTHER_DEPTHS))
    if hits == len(gains):
        return ndcg, average_precision, mrr, recall, np.nan, *recalls
    before = scores[relevant][:, None] - scores[~relevant][None, :]
    auc = float(((before > 0) + 0.5 * (before == 0)).mean())
    return ndcg, average_precision, mrr, recall, auc, *recalls

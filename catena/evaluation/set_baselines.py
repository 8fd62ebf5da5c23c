"""Simple rivals for sets of classes: the most frequent set, and a logistic regression for each class."""

from __future__ import annotations

import warnings

import numpy as np

from catena.evaluation.baselines import BaselineData, Learned, backbone_vectors, word_weights
from catena.problems.multilabel import canonical_labels, labels_of, membership


def majority(data: BaselineData) -> Learned:
    """Always the most frequent set of the training part, with its share as confidence."""
    shares = data.train["labels"].value_counts(normalize=True)
    # Of equally frequent sets the first by name, whatever the records' order.
    best = sorted(shares.index[shares == shares.max()])[0]
    count = len(data.test)
    return np.full(count, best, dtype=object), np.full(count, float(shares.max()))


def tfidf(data: BaselineData) -> Learned:
    """Logistic regressions on TF-IDF weights of words, one class against all others."""
    features, unseen = word_weights(data.train["text"].tolist(), data.test["text"].tolist())
    return _one_against_the_rest(features, data.train["labels"], unseen)


def backbone(data: BaselineData) -> Learned:
    """The network before fine-tuning: the same on its mean-pooled, normalised output.

    Learns from at most `backbone_records` training records, drawn at random.
    """
    drawn = np.random.default_rng(data.seed).permutation(len(data.train))
    train = data.train.iloc[np.sort(drawn[: data.backbone_records])]
    features, unseen = backbone_vectors(data, train)
    return _one_against_the_rest(features, train["labels"], unseen)


def _one_against_the_rest(features: object, targets: object, unseen: object) -> Learned:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    sets = list(targets)  # type: ignore[call-overload]  # a column of a table
    names = sorted({name for target in sets for name in labels_of(target)})
    model = OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=1000))
    with warnings.catch_warnings():
        # A class that all records have is always said, and one that none has never; that is as it should be.
        warnings.filterwarnings("ignore", message="Label .* is present in")
        warnings.filterwarnings("ignore", message="Label not .* is present in")
        model.fit(features, membership(sets, names))
    chances = np.asarray(model.predict_proba(unseen)).reshape(-1, len(names))
    listed = np.asarray(names, dtype=object)
    said = [canonical_labels(listed[row]) for row in chances >= 0.5]
    return np.asarray(said, dtype=object), np.maximum(chances, 1.0 - chances).min(axis=1)

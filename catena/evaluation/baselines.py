"""Simple rivals a fine-tuned model must beat to be worth its cost."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from catena.data.scratch import has_weights
from catena.data.scripts import unspaced_share
from catena.errors import SettingsError
from catena.files import complete_file, sha256_file

if TYPE_CHECKING:
    from catena.evaluation.base import Evaluation

_LOG = logging.getLogger(__name__)

#: Raise when a baseline changes, so that predictions kept from before are not used.
_VERSION = 3

#: Predictions as canonical targets `(records,)`, and how sure of each, where that means something.
Learned = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class BaselineData:
    """What the baselines learn from and are tested on: prepared records.

    `backbone` is the folder of the untouched pretrained network, `max_length` in tokens,
    `backbone_records` the most records that are embedded to learn from. `columns` are the inputs
    and the target.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    backbone: Path
    max_length: int
    seed: int
    backbone_records: int = 2000
    columns: tuple[str, ...] = ("text", "label")


def chosen_baselines(evaluation: Evaluation, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The names in `evaluation.baselines`, each once; by default the problem's own choice.

    Raises `SettingsError` for one the problem does not have.
    """
    names = tuple(dict.fromkeys(evaluation.default_baselines if wanted is None else wanted))
    for name in names:
        if name not in evaluation.baselines:
            known = ", ".join(evaluation.baselines) or "none"
            raise SettingsError(
                f"`evaluation.baselines`: this problem has no baseline `{name}`; there are: {known}."
            )
    return names


def baseline_predictions(
    data: BaselineData, evaluation: Evaluation, names: Sequence[str], cache: Path
) -> pd.DataFrame:
    """Columns `baseline:<name>` and `baseline:<name>:confidence` for the test records, in their order.

    Each baseline learns from exactly the records that the model learned from, less their altered
    copies. What it predicts does not depend on how the model was trained, so it is kept in
    `cache` as `<hash of data and settings>.parquet`; a damaged file there is made again.
    """
    if "augmented" in data.train:
        data = replace(data, train=data.train[~data.train["augmented"].astype(bool)])
    columns: dict[str, np.ndarray] = {}
    content = _content_hash(data)
    for name in names:
        if name == "backbone" and not has_weights(data.backbone):
            print("no backbone baseline: before training, this backbone has learned nothing", flush=True)
            continue
        key = _key(name, content, data, evaluation)
        kept = cache / f"{key}.parquet"
        found = _read(kept, len(data.test))
        if found is None:
            print(f"fitting the {name} baseline on {len(data.train):,} records", flush=True)
            found = evaluation.baselines[name][1](data)
            _write(kept, found)
        columns[f"baseline:{name}"] = found[0]
        if found[1] is not None:
            columns[f"baseline:{name}:confidence"] = found[1]
    return pd.DataFrame(columns, index=data.test.index)


def majority(data: BaselineData) -> Learned:
    """Always the most frequent class of the training part, with its share as confidence."""
    shares = data.train["label"].value_counts(normalize=True)
    # Of equally frequent classes the first by name, whatever the records' order.
    best = sorted(shares.index[shares == shares.max()])[0]
    count = len(data.test)
    return np.full(count, best, dtype=object), np.full(count, float(shares.max()))


def tfidf(data: BaselineData) -> Learned:
    """Logistic regression on TF-IDF weights of words.

    Single words with sublinear counts and weak regularisation (C = 10): on R8, SST-2 and
    Banking77 that is both stronger and faster than adding word pairs. Writing without spaces
    between words is taken as characters and pairs of them.
    """
    features, unseen = word_weights(data.train["text"].tolist(), data.test["text"].tolist())
    return logistic_regression(features, data.train["label"], unseen, 10.0)


#: How scikit-learn's vectorizers are to find one and two characters.
_CHARACTERS: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 2)}


def word_weights(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
    """Sparse TF-IDF weights of the words of both parts, by the counts of the training part."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # signs alone hold no words, but still differ
    options = word_options(train) if any(re.search(r"\w", text) for text in train) else dict(_CHARACTERS)
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float64, **options)
    features = vectorizer.fit_transform(train)
    return features, vectorizer.transform(test)


def word_options(texts: Sequence[str]) -> dict[str, Any]:
    """How scikit-learn's vectorizers are to find words: between spaces, or one and two characters."""
    if unspaced_share(texts) > 0.5:
        return dict(_CHARACTERS)
    return {"token_pattern": r"\b\w+\b"}


def backbone(data: BaselineData) -> Learned:
    """The network before fine-tuning: logistic regression on its mean-pooled, normalised output.

    Learns from at most `backbone_records` training records, drawn by class, because embedding
    them all would take as long as an epoch of training.
    """
    chosen = stratified_sample(data.train["label"], data.backbone_records, data.seed)
    train = data.train.iloc[chosen]
    features, unseen = backbone_vectors(data, train)
    return logistic_regression(features, train["label"], unseen, 10.0)


def backbone_vectors(data: BaselineData, train: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The untouched network's vectors of some training texts and of all test texts."""
    from catena.training.embedding import embed_texts

    texts = [*train["text"], *data.test["text"]]
    vectors = embed_texts(data.backbone, texts, data.max_length).astype(np.float64)
    return vectors[: len(train)], vectors[len(train) :]


def stratified_sample(labels: pd.Series, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` records (but one of each class at least), each class by its share."""
    if len(labels) <= most:
        return np.arange(len(labels))
    generator = np.random.default_rng(seed)
    values = labels.to_numpy(dtype=object)
    chosen = []
    for name in sorted(set(values)):
        inside = np.flatnonzero(values == name)
        count = max(1, int(len(inside) * most / len(labels)))
        chosen.append(generator.permutation(inside)[:count])
    return np.sort(np.concatenate(chosen))


def logistic_regression(
    features: object, labels: Sequence[str] | pd.Series, unseen: object, strength: float
) -> Learned:
    """Classes and their probabilities by logistic regression with C = `strength`."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(features, np.asarray(labels, dtype=object).astype(str))
    probabilities = model.predict_proba(unseen)
    best = probabilities.argmax(axis=1)
    return model.classes_[best].astype(object), probabilities[np.arange(len(best)), best]


def _content_hash(data: BaselineData) -> str:
    digest = hashlib.sha256()
    for part in (data.train, data.test):
        for name in data.columns:
            digest.update(json.dumps(part[name].tolist()).encode())
    return digest.hexdigest()


def _key(name: str, content: str, data: BaselineData, evaluation: Evaluation) -> str:
    """Hash of everything the baseline's predictions depend on."""
    parts: list[object] = [_VERSION, name, evaluation.target, content]
    basis = evaluation.baseline_basis()
    if basis is not None:
        parts.append(basis)
    if name == "backbone":
        weights = [sha256_file(path) for path in sorted(data.backbone.glob("*.safetensors"))]
        parts += [data.seed, data.backbone_records, data.max_length, weights]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _write(path: Path, learned: Learned) -> None:
    table = pd.DataFrame({"prediction": learned[0].astype(str)})
    if learned[1] is not None:
        table["confidence"] = learned[1]
    with complete_file(path) as partial:
        table.to_parquet(partial)


def _read(path: Path, records: int) -> Learned | None:
    """What was kept, or nothing where there is no whole file that fits."""
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError, KeyError, ValueError):
        table = pd.DataFrame()
    if len(table) != records or "prediction" not in table or table.isna().any(axis=None):
        _LOG.warning("%s is damaged and made again.", path.name)
        return None
    confidence = table["confidence"].to_numpy(dtype=np.float64) if "confidence" in table else None
    return table["prediction"].to_numpy(dtype=object), confidence

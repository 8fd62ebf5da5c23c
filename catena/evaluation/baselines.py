"""Simple rivals a fine-tuned model must beat to be worth its cost."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from catena.files import complete_file, sha256_file
from catena.settings import EvaluationSettings

_LOG = logging.getLogger(__name__)

#: Raise when a baseline changes, so that predictions kept from before are not used.
_VERSION = 1

Learned = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class BaselineData:
    """What the baselines learn from and are tested on: tables with `text` and `label`.

    `backbone` is the folder of the untouched pretrained network, `max_length` in tokens.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    backbone: Path
    max_length: int
    seed: int


def baseline_predictions(data: BaselineData, settings: EvaluationSettings, cache: Path) -> pd.DataFrame:
    """Columns `baseline:<name>` and `baseline:<name>:confidence` for the test records, in their order.

    Each baseline learns from exactly the records that the model learned from, less their altered
    copies. What it predicts does not depend on how the model was trained, so it is kept in
    `cache` as `<hash of data and settings>.parquet`; a damaged file there is made again.
    """
    if "augmented" in data.train:
        data = BaselineData(
            data.train[~data.train["augmented"].astype(bool)],
            data.test,
            data.backbone,
            data.max_length,
            data.seed,
        )
    columns: dict[str, np.ndarray] = {}
    content = _content_hash(data)
    for name in dict.fromkeys(settings.baselines):
        key = _key(name, content, data, settings)
        kept = cache / f"{key}.parquet"
        found = _read(kept, len(data.test))
        if found is None:
            print(f"fitting the {name} baseline on {len(data.train):,} records", flush=True)
            found = _learn(name, data, settings)
            _write(kept, found)
        columns[f"baseline:{name}"], columns[f"baseline:{name}:confidence"] = found
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
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, test = data.train["text"].tolist(), data.test["text"].tolist()
    spaceless = sum(map(len, train)) > 12 * sum(len(text.split()) for text in train)
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        dtype=np.float64,
        **({"analyzer": "char", "ngram_range": (1, 2)} if spaceless else {"token_pattern": r"\b\w+\b"}),
    )
    features = vectorizer.fit_transform(train)
    return _logistic_regression(features, data.train["label"], vectorizer.transform(test), 10.0)


def backbone(data: BaselineData, most: int) -> Learned:
    """The network before fine-tuning: logistic regression on its mean-pooled, normalised output.

    Learns from at most `most` training records, drawn by class, because embedding them all
    would take as long as an epoch of training.
    """
    from catena.training.embedding import embed_texts

    chosen = stratified_sample(data.train["label"], most, data.seed)
    train = data.train.iloc[chosen]
    texts = [*train["text"], *data.test["text"]]
    vectors = embed_texts(data.backbone, texts, data.max_length).astype(np.float64)
    return _logistic_regression(vectors[: len(train)], train["label"], vectors[len(train) :], 10.0)


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


def _learn(name: str, data: BaselineData, settings: EvaluationSettings) -> Learned:
    ways: dict[str, Callable[[], Learned]] = {
        "majority": lambda: majority(data),
        "tfidf": lambda: tfidf(data),
        "backbone": lambda: backbone(data, settings.backbone_records),
    }
    return ways[name]()


def _logistic_regression(
    features: object, labels: Sequence[str] | pd.Series, unseen: object, strength: float
) -> Learned:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(features, np.asarray(labels, dtype=object).astype(str))
    probabilities = model.predict_proba(unseen)
    best = probabilities.argmax(axis=1)
    return model.classes_[best].astype(object), probabilities[np.arange(len(best)), best]


def _content_hash(data: BaselineData) -> str:
    digest = hashlib.sha256()
    for column in (data.train["text"], data.train["label"], data.test["text"]):
        digest.update(json.dumps(column.tolist()).encode())
    return digest.hexdigest()


def _key(name: str, content: str, data: BaselineData, settings: EvaluationSettings) -> str:
    """Hash of everything the baseline's predictions depend on."""
    parts: list[object] = [_VERSION, name, content]
    if name == "backbone":
        weights = [sha256_file(path) for path in sorted(data.backbone.glob("*.safetensors"))]
        parts += [data.seed, settings.backbone_records, data.max_length, weights]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _write(path: Path, learned: Learned) -> None:
    with complete_file(path) as partial:
        pd.DataFrame({"prediction": learned[0].astype(str), "confidence": learned[1]}).to_parquet(partial)


def _read(path: Path, records: int) -> Learned | None:
    """What was kept, or nothing where there is no whole file that fits."""
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path, columns=["prediction", "confidence"])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        table = pd.DataFrame()
    if len(table) != records or table.isna().any(axis=None):
        _LOG.warning("%s is damaged and made again.", path.name)
        return None
    return table["prediction"].to_numpy(dtype=object), table["confidence"].to_numpy(dtype=np.float64)

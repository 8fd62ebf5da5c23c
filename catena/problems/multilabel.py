"""Multi-label classification: a text has any number of classes, none included."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, class_claim, known_class
from catena.problems.classification import class_chances, entropies
from catena.problems.features import encode_texts, pad_inputs
from catena.problems.outputs import HeadSpec, Measured, Outputs

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.data.formats import Content
    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings


class Multilabel(Problem):
    """The head decides about each class by itself; the target is a set of names.

    Sets are kept as a JSON list of the distinct names in order: `["grain", "wheat"]`, or `[]`.
    """

    name = "multilabel"
    input_roles = ("text",)
    target_role = "labels"
    contents: ClassVar[Mapping[str, Content]] = {"labels": "json"}
    fewest_classes = 1
    weighs_classes = True
    learns_unlabelled = True
    asks_for_labels = True
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "micro_f1": True,
        "macro_f1": True,
        "exact_match": True,
        "log_loss": False,
    }

    # -- records ---------------------------------------------------------------------------

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        targets: list[str] = []
        reasons: list[str] = []
        for value in values:
            try:
                found = read_labels(value, self.settings.separator)
                if names is not None and not names.keys() >= set(found):
                    raise ValueError("label not among `data.labels`")
            except ValueError as error:
                targets.append(value)
                reasons.append(str(error))
                continue
            targets.append(canonical_labels(found if names is None else (names[name] for name in found)))
            reasons.append("")
        return targets, reasons

    def classes(self, targets: pd.Series) -> pd.Series:
        """The names in each record's set, a row for each."""
        names = pd.Series([labels_of(target) for target in targets], index=targets.index, dtype=object)
        return names.explode().dropna().astype("str")

    def describe_targets(self, targets: pd.Series) -> dict[str, float]:
        counts = np.array([len(labels_of(target)) for target in targets])
        return {
            "records without a class": int((counts == 0).sum()),
            "classes a record, mean": round(float(counts.mean()), 2),
            "most": int(counts.max()),
        }

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        checks = []
        if label_names:
            known = set(label_names)
            checks.append(
                pa.Check(
                    lambda target: known.issuperset(labels_of(target)),
                    element_wise=True,
                    error="unknown label",
                )
            )
        return pa.DataFrameSchema(
            {
                "text": pa.Column(str, pa.Check.str_length(min_value=1, error="empty text")),
                "labels": pa.Column(str, checks),
            }
        )

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """`labels` hold 1 for each class that a record has, and 0 for the others."""
        features = encode_texts(records["text"].tolist(), tokenizer, settings)
        if self.target_role in records:
            features["labels"] = self.encode_targets(records["labels"].tolist(), label_names)
        return features

    def encode_targets(self, targets: Sequence[str], label_names: Sequence[str]) -> list[Any]:
        return list(membership(targets, label_names))

    # -- network ---------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("multi-label-classification", tuple(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        import torch

        batch = pad_inputs(features, pad_token_id, pad_to)
        if "labels" in features[0]:
            batch["labels"] = torch.from_numpy(np.stack([feature["labels"] for feature in features])).float()
        return batch

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Binary cross-entropy, the mean over records and classes.

        A class's weight counts for the records that have it. Smoothing moves both answers towards ½.
        """
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(
            logits.float(),
            labels * (1.0 - label_smoothing) + 0.5 * label_smoothing,
            pos_weight=class_weights,
        )

    def balanced_weights(self, labels: Any, classes: int) -> list[float]:
        """Records without the class for each that has it, so that both sides weigh the same.

        1 where all have it, since a class without weight would not be learned.
        """
        having = np.sum(labels, axis=0, dtype=np.int64)
        lacking = np.where(having == len(labels), having, len(labels) - having)
        return [float(weight) for weight in lacking / np.maximum(having, 1)]

    # -- predictions -------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """`confidence` is the probability of the least sure of the decisions about the classes."""
        probabilities = sigmoid(outputs)
        names = np.asarray(label_names, dtype=object)
        said = [canonical_labels(names[row]) for row in probabilities >= self.settings.threshold]
        table = pd.DataFrame(
            {
                "prediction": pd.Series(said, dtype="str"),
                "confidence": np.maximum(probabilities, 1.0 - probabilities).min(axis=1),
            }
        )
        chances = {f"p:{name}": probabilities[:, index] for index, name in enumerate(label_names)}
        return pd.concat([table, pd.DataFrame(chances)], axis=1)

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        probabilities = [(f"p:{name}", "double") for name in label_names]
        return [("prediction", "string"), ("confidence", "double"), *probabilities]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        from sklearn.metrics import f1_score

        logits, there = np.asarray(outputs, dtype=np.float64), np.stack(labels)
        said = (sigmoid(logits) >= self.settings.threshold).astype(there.dtype)
        losses = np.logaddexp(0.0, logits) - logits * there
        return {
            "micro_f1": float(f1_score(there, said, average="micro", zero_division=0.0)),
            "macro_f1": float(f1_score(there, said, average="macro", zero_division=0.0)),
            "exact_match": float((there == said).all(axis=1).mean()),
            "log_loss": float(losses.mean()),
        }

    def doubts(self, said: pd.DataFrame, label_names: Sequence[str], how: str) -> np.ndarray | None:
        """`entropy` is the sum over the decisions; `margin` 1 less the distance of the least sure one to
        `problem.threshold`, as a share of what it can be."""
        chances = class_chances(said, label_names)
        if how == "entropy":
            return np.asarray((entropies(chances) + entropies(1.0 - chances)).sum(axis=1))
        if how == "margin":
            limit = self.settings.threshold
            room = np.where(chances >= limit, 1.0 - limit, limit)
            return np.asarray(1.0 - (np.abs(chances - limit) / room).min(axis=1))
        return super().doubts(said, label_names, how)

    def residuals(self, said: pd.DataFrame, label_names: Sequence[str]) -> np.ndarray | None:
        chances = class_chances(said, label_names)
        return np.asarray(chances - (chances >= self.settings.threshold))

    def evaluation(self) -> Evaluation:
        from catena.evaluation.sets import SetEvaluation

        return SetEvaluation()

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """That a class is in the set: each that is said, or the one asked about."""
        if about is None and said is not None:
            return [class_claim(name) for name in labels_of(said["prediction"])]
        return [class_claim(known_class(about, label_names))]

    def shown(self, said: Row) -> str:
        return ", ".join(labels_of(said["prediction"])) or "none"


def read_labels(raw: str, separator: str) -> list[str]:
    """The names in a JSON list, or between separators; nothing is no name.

    Raises `ValueError` with the reason where that cannot be.
    """
    if raw.startswith("["):
        try:
            given = json.loads(raw)
        except ValueError:
            raise ValueError("list of labels is not valid JSON") from None
        names = [_name(value) for value in given]
    else:
        names = [part.strip() for part in raw.split(separator.strip() or None)] if raw else []
    if not all(names):
        raise ValueError("empty label in the list")
    return names


def _name(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("list of labels holds something other than names")
    return " ".join(str(value).split())


def canonical_labels(names: Iterable[str]) -> str:
    """The one way a set of names is written."""
    return json.dumps(sorted(set(names)), ensure_ascii=False)


def labels_of(target: str) -> list[str]:
    """The names in a canonical target."""
    names: list[str] = json.loads(target)
    return names


def membership(targets: Iterable[str], label_names: Sequence[str]) -> np.ndarray:
    """1 where a record has the class, else 0 `(records, classes)`; `KeyError` for an unknown name."""
    number = {name: index for index, name in enumerate(label_names)}
    sets = [labels_of(target) for target in targets]
    member = np.zeros((len(sets), len(label_names)), dtype=np.int8)
    for row, names in enumerate(sets):
        member[row, [number[name] for name in names]] = 1
    return member


def sigmoid(logits: Outputs) -> np.ndarray:
    """Probabilities in double precision, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64)))

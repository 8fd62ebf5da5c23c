"""Text classification: one text, one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, class_claim, known_class
from catena.problems.features import encode_texts, pad_inputs
from catena.problems.outputs import HeadSpec, Measured, Outputs

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings


class Classification(Problem):
    """A text has exactly one label; the head gives one logit per class."""

    name = "classification"
    input_roles = ("text",)
    target_role = "label"
    weighs_classes = True
    learns_unlabelled = True
    asks_for_labels = True
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "macro_f1": True,
        "accuracy": True,
        "log_loss": False,
    }

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        known = [pa.Check.isin(list(label_names), error="unknown label")] if label_names else []
        return pa.DataFrameSchema(
            {
                "text": pa.Column(str, pa.Check.str_length(min_value=1, error="empty text")),
                "label": pa.Column(str, [pa.Check.str_length(min_value=1, error="empty label"), *known]),
            }
        )

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        features = encode_texts(records["text"].tolist(), tokenizer, settings)
        if self.target_role in records:
            features["labels"] = self.encode_targets(records["label"].tolist(), label_names)
        return features

    def encode_targets(self, targets: Sequence[str], label_names: Sequence[str]) -> list[Any]:
        number = {name: index for index, name in enumerate(label_names)}
        return [number[target] for target in targets]

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("sequence-classification", tuple(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        import torch

        batch = pad_inputs(features, pad_token_id, pad_to)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor(np.asarray([feature["labels"] for feature in features]))
        return batch

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        from torch.nn import functional

        return functional.cross_entropy(
            logits.float(), labels, weight=class_weights, label_smoothing=label_smoothing
        )

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        probabilities = softmax(outputs)
        best = probabilities.argmax(axis=1)
        # one block of numbers: column by column, 77 classes would take longer than the network
        numbers = np.column_stack([probabilities[np.arange(len(best)), best], probabilities])
        columns, names = _answer_columns(tuple(label_names))
        table = pd.DataFrame(numbers, columns=columns)
        table.insert(0, "prediction", names.take(best))
        return table

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        probabilities = [(f"p:{name}", "double") for name in label_names]
        return [("prediction", "string"), ("confidence", "double"), *probabilities]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score, log_loss

        probabilities = softmax(outputs)
        predicted = probabilities.argmax(axis=1)
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
            "log_loss": float(log_loss(labels, probabilities, labels=range(probabilities.shape[1]))),
        }

    def doubts(self, said: pd.DataFrame, label_names: Sequence[str], how: str) -> np.ndarray | None:
        """`margin` is 1 less the lead of the likeliest class over the next."""
        chances = class_chances(said, label_names)
        if how == "entropy":
            return np.asarray(entropies(chances).sum(axis=1))
        if how == "margin":
            ordered = np.sort(chances, axis=1)
            return np.asarray(1.0 - (ordered[:, -1] - ordered[:, -2]))
        return super().doubts(said, label_names, how)

    def residuals(self, said: pd.DataFrame, label_names: Sequence[str]) -> np.ndarray | None:
        chances = class_chances(said, label_names)
        chances[np.arange(len(chances)), chances.argmax(axis=1)] -= 1.0
        return chances

    def evaluation(self) -> Evaluation:
        from catena.evaluation.classes import ClassEvaluation

        return ClassEvaluation()

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """That the class said, or asked about, is right."""
        return [class_claim(known_class(about or (said or {}).get("prediction"), label_names))]


@lru_cache(maxsize=64)
def _answer_columns(label_names: tuple[str, ...]) -> tuple[pd.Index, Any]:
    """The columns of numbers in answers, and the names as a column; made once, for texts come one by one."""
    columns = pd.Index(["confidence", *(f"p:{name}" for name in label_names)])
    return columns, pd.array(np.asarray(label_names, dtype=object), dtype="str")


def softmax(logits: Outputs) -> np.ndarray:
    """Probabilities `(rows, classes)` in double precision."""
    values = np.asarray(logits, dtype=np.float64)
    exponentials: np.ndarray = np.exp(values - values.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def class_chances(said: pd.DataFrame, label_names: Sequence[str]) -> np.ndarray:
    """The probabilities of the classes in predictions `(rows, classes)`."""
    return said[[f"p:{name}" for name in label_names]].to_numpy(dtype=np.float64, copy=True)


def entropies(chances: np.ndarray) -> np.ndarray:
    """-p log p of each probability, in nats; 0 for 0."""
    found: np.ndarray = -chances * np.log(np.where(chances > 0.0, chances, 1.0))
    return found

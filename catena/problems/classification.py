"""Text classification: one text, one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.problems.base import HeadSpec, Problem

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.settings import TokenizationSettings


class Classification(Problem):
    """A text has exactly one label; the head gives one logit per class."""

    name = "classification"
    input_roles = ("text",)
    target_role = "label"
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "macro_f1": True,
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

    def label_names(self, records: pd.DataFrame) -> tuple[str, ...]:
        return tuple(sorted(records["label"].unique()))

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        texts = records["text"].tolist()
        input_ids = tokenizer(texts, return_attention_mask=False)["input_ids"] if texts else []
        n_tokens = [len(ids) for ids in input_ids]
        # tokenized once more only where something is cut off, so that its length before is known
        long = [row for row, length in enumerate(n_tokens) if length > settings.max_length]
        if long:
            tokenizer.truncation_side = settings.truncation_side
            cut = tokenizer([texts[row] for row in long], truncation=True, max_length=settings.max_length)
            for row, ids in zip(long, cut["input_ids"], strict=True):
                input_ids[row] = ids
        features: dict[str, list[Any]] = {"input_ids": input_ids, "n_tokens": n_tokens}
        if self.target_role in records:
            number = {name: index for index, name in enumerate(label_names)}
            features["labels"] = [number[label] for label in records["label"]]
        return features

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("sequence-classification", tuple(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        import torch

        longest = max(len(feature["input_ids"]) for feature in features)
        length = -(-longest // pad_to) * pad_to
        input_ids = np.full((len(features), length), pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(features), length), dtype=np.int64)
        for row, feature in enumerate(features):
            ids = feature["input_ids"]
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
        }
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
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

    def predictions(self, logits: np.ndarray, label_names: Sequence[str]) -> pd.DataFrame:
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        table = pd.DataFrame(
            {
                "prediction": np.asarray(label_names, dtype=object)[best],
                "confidence": probabilities[np.arange(len(best)), best],
            }
        )
        for index, name in enumerate(label_names):
            table[f"p:{name}"] = probabilities[:, index]
        return table

    def validation_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score, log_loss

        predicted = logits.argmax(axis=1)
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
            "log_loss": float(log_loss(labels, probabilities, labels=range(logits.shape[1]))),
        }

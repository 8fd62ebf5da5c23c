"""A trained model with everything needed to go from records to predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.backbones import get_backbone
from catena.data.cleaning import Cleaner
from catena.errors import DataError
from catena.model_folder import check_files, read_card
from catena.problems import get_problem
from catena.settings import TokenizationSettings
from catena.training.devices import choose_device
from catena.training.embedding import embed_tokens, run_batches


class Predictor:
    """The one way from records to predictions: evaluation, command line, MLflow and services use it.

    Reads nothing but its model folder. Not for use from several threads at once.
    """

    def __init__(self, folder: Path, card: dict[str, Any], device: str, precision: str) -> None:
        self.folder = folder
        self.card = card
        self.problem = get_problem(card["problem"]["name"])
        self.label_names: tuple[str, ...] = tuple(card["label_names"])
        self.tokenization = TokenizationSettings.model_validate(card["tokenization"])
        self.cleaner = Cleaner(**card["cleaning"])
        self.device = choose_device(device, precision)
        backbone = get_backbone(card["backbone"]["type"])
        self.tokenizer = backbone.tokenizer(folder)
        self.model = backbone.load(
            folder, self.problem.head(self.label_names), attention=self.device.attention
        ).to(self.device.kind)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", precision: str = "auto") -> Predictor:
        """Load a model folder.

        Raises `ModelError` when a file is missing, cut off or not the one that was trained.
        """
        card = read_card(folder)
        check_files(folder, card)
        return cls(folder, card, device, precision)

    def predict(self, records: pd.DataFrame | Sequence[str], clean: bool = True) -> pd.DataFrame:
        """Predictions for `records`: a table with the problem's input columns, or a list of texts.

        Returns a table with the same index: `prediction`, `confidence`, `p:<label>` for each
        label, `n_tokens` (before truncation) and `truncated`. Texts are cleaned as the training
        data were, unless `clean` is false because they already are. Raises `DataError` where an
        input column is missing or holds no text.
        """
        table = self._table(records, clean)
        features = self.problem.encode(table, self.tokenizer, self.tokenization, self.label_names)
        logits = run_batches(
            lambda input_ids, attention_mask: (
                self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            ),
            features["input_ids"],
            int(self.tokenizer.pad_token_id),
            self.device,
        )
        result = self.problem.predictions(
            logits if len(table) else np.empty((0, len(self.label_names)), np.float32), self.label_names
        )
        result["n_tokens"] = np.asarray(features["n_tokens"], dtype=np.int64)
        result["truncated"] = result["n_tokens"] > self.tokenization.max_length
        result.index = table.index
        return result

    def predict_batches(self, batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Predictions batch by batch; memory does not grow with their number."""
        for batch in batches:
            yield self.predict(batch)

    def embed(self, records: pd.DataFrame | Sequence[str], clean: bool = True) -> np.ndarray:
        """Mean-pooled last hidden states of the fine-tuned network, `(records, hidden)`."""
        table = self._table(records, clean)
        features = self.problem.encode(table, self.tokenizer, self.tokenization, self.label_names)
        return embed_tokens(
            self.model.base_model, features["input_ids"], int(self.tokenizer.pad_token_id), self.device
        )

    def _table(self, records: pd.DataFrame | Sequence[str], clean: bool) -> pd.DataFrame:
        """The input columns alone, as clean text."""
        if isinstance(records, str):
            raise DataError("A list of texts was expected, not one text.")
        if not isinstance(records, pd.DataFrame):
            records = pd.DataFrame({self.problem.input_roles[0]: pd.Series(list(records), dtype=object)})
        columns: dict[str, list[str]] = {}
        for role in self.problem.input_roles:
            if role not in records:
                raise DataError(
                    f"The records have no column `{role}`; they have {', '.join(map(str, records.columns))}."
                )
            texts = records[role].tolist()
            for position, text in enumerate(texts):
                if not isinstance(text, str):
                    raise DataError(
                        f"Record {position + 1}: `{role}` must be text, "
                        f"not {type(text).__name__} ({text!r:.40})."
                    )
            columns[role] = self.cleaner.clean(texts) if clean else texts
        return pd.DataFrame(columns, index=records.index)

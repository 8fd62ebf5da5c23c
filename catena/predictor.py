"""A trained model with everything needed to go from records to predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.backbones import Blueprint, build_network, get_backbone
from catena.backbones.rounded import keep_rounded
from catena.data.cleaning import Cleaner
from catena.errors import DataError, ModelError
from catena.methods import Surroundings, get_method
from catena.model_folder import check_files, read_card
from catena.problems import Outputs, Written, get_problem
from catena.problems.features import encode_texts
from catena.settings import BackboneSettings, MethodSettings, ProblemSettings, TokenizationSettings
from catena.training.batches import PAD_TO
from catena.training.devices import choose_device
from catena.training.embedding import embed_tokens, run_batches
from catena.training.inputs import network_inputs

if TYPE_CHECKING:
    import torch


class Predictor:
    """The one way from records to predictions: evaluation, command line, MLflow and services use it.

    Reads nothing but its model folder. Not for use from several threads at once.
    """

    def __init__(
        self, folder: Path, card: dict[str, Any], device: str, precision: str, model: Any = None
    ) -> None:
        """`model` is the network, where it has been loaded already."""
        self.folder = folder
        self.card = card
        self.problem = get_problem(ProblemSettings.model_validate(card["problem"]))
        self.label_names: tuple[str, ...] = tuple(card["label_names"])
        self.tokenization = TokenizationSettings.model_validate(card["tokenization"])
        self.cleaner = Cleaner(**card["cleaning"])
        if precision == "auto" and card.get("compression", {}).get("int8"):
            precision = "float32"  # what is not in eight bits is little, and changing types costs more
        self.device = choose_device(device, precision)
        backbone = get_backbone(card["backbone"]["type"])
        self.tokenizer = backbone.tokenizer(folder) if self.problem.tokenizes else None
        self.method = get_method(MethodSettings.model_validate(card.get("method", {})))
        if model is None:
            # cards of before there were segments do not speak of them
            described = BackboneSettings.model_validate({"segments": False, **card["backbone"]})
            build = partial(
                build_network,
                described,
                dropout=None,
                attention=self.device.attention,
                blueprint=Blueprint.of(described, self.tokenizer),
            )
            around = Surroundings(
                self.problem.name,
                self.problem.head(self.label_names),
                self.tokenizer,
                build=build,
                max_length=self.tokenization.max_length,
            )
            read = partial(backbone.load, attention=self.device.attention)
            model = self.method.load(folder, read, around)
        self.model = model.to(self.device.kind).eval()
        if self.device.precision != "float32":
            keep_rounded(self.model)

    #: Columns of `predict` that count what was read and are no prediction.
    counts = ("n_tokens", "truncated")

    @classmethod
    def load(
        cls, folder: Path, device: str = "auto", precision: str = "auto", tail: str | None = None
    ) -> Predictor:
        """Load a model folder; of a chain, one `tail` (`catena.chain_predictor` loads them all).

        Raises `ModelError` when a file is missing, cut off or not the one that was trained, or when there
        is no such tail.
        """
        card = read_card(folder)
        check_files(folder, card)
        if tail is not None and "tails" not in card:
            raise ModelError(f"{folder} holds no chain, so it has no tail {tail!r}.")
        if "tails" in card:
            from catena.chain_predictor import ChainPredictor

            return ChainPredictor(folder, card, device, precision).tail(tail)
        return cls(folder, card, device, precision)

    def predict(
        self, records: pd.DataFrame | Sequence[str], clean: bool = True, score_targets: bool = False
    ) -> pd.DataFrame:
        """Predictions for `records`: a table with the problem's input columns, or a list of texts.

        Returns a table with the same index: `prediction`, the problem's other output columns,
        `n_tokens` (before truncation) and `truncated`. Texts are cleaned as the training data
        were, unless `clean` is false because they already are. With `score_targets`, a problem that is
        solved by writing says of the records' own targets how likely they are. Raises `DataError` where
        a column is missing or holds no text.
        """
        table, features = self.read(records, clean, score_targets)
        return self.finish(table, features, self._outputs(table, features))

    def read(
        self, records: pd.DataFrame | Sequence[str], clean: bool = True, score_targets: bool = False
    ) -> tuple[pd.DataFrame, dict[str, list[Any]]]:
        """The first half of `predict`: the table of clean inputs, and its features."""
        table = self._table(records, clean, score_targets and self.problem.generates)
        return table, self.problem.encode(table, self.tokenizer, self.tokenization, self.label_names)

    def reads_as(self, other: Predictor) -> bool:
        """Whether `read` gives the same, by all that it goes by but the tokenizer and targets."""
        mine, theirs = (
            (one.problem.settings, one.tokenization, one.cleaner, type(one.problem)) for one in (self, other)
        )
        return mine == theirs

    def finish(
        self, table: pd.DataFrame, features: Mapping[str, list[Any]], outputs: Outputs
    ) -> pd.DataFrame:
        """The second half of `predict`: what the network's outputs say of each record."""
        return pd.concat(self.parts(table, features, outputs), axis=1)

    def parts(
        self, table: pd.DataFrame, features: Mapping[str, list[Any]], outputs: Outputs
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The columns of `predict`: those of predictions, and those that count what was read (`counts`)."""
        extras: dict[str, np.ndarray] = {}
        if self.method.extras:
            own = np.asarray(outputs).shape[1] - len(self.method.extras)
            values = np.asarray(outputs, dtype=np.float64)
            extras = {name: values[:, own + number] for number, name in enumerate(self.method.extras)}
            outputs = values[:, :own]
        said = self.problem.predictions(outputs, table, features, self.label_names)
        said = said.assign(**extras) if extras else said
        n_tokens = np.asarray(features["n_tokens"], dtype=np.int64)
        if "record" in features:  # in windows: nothing is cut off
            windows = np.asarray(features["record"], dtype=np.int64)
            n_tokens = np.bincount(windows, n_tokens, len(table)).astype(np.int64)
            truncated = np.zeros(len(table), dtype=bool)
        else:
            truncated = n_tokens > self.tokenization.max_length
        said.index = table.index
        return said, pd.DataFrame(dict(zip(self.counts, (n_tokens, truncated), strict=True)), table.index)

    def predict_features(self, features: Mapping[str, list[Any]]) -> pd.DataFrame:
        """Predictions for records that were encoded already, with features as `Problem.encode` makes."""
        records = pd.DataFrame(index=range(len(features["n_tokens"])))
        return self.finish(records, features, self._outputs(records, features))

    @property
    def columns(self) -> dict[str, str]:
        """The columns learned from, by role."""
        return dict(self.card["columns"])

    def only(self, tails: Sequence[str]) -> Predictor:
        """Raises `DataError`: a model of one problem has no tails to choose from."""
        raise DataError(f"This model solves {self.problem.name} and has no tails such as {tails[0]!r}.")

    def answering(self, record: Mapping[str, Any]) -> Predictor:
        """What can be asked with the inputs of `record`: this model."""
        return self

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1 of queries or items, by a model with two towers `(texts, hidden)`.

        Raises `ModelError` where the model has none.
        """
        if not self._towers:
            raise ModelError(
                f"This model solves {self.problem.name} without two towers, so it does not embed texts; "
                "train one with `problem.architecture: two_towers`."
            )
        return self._vectors(self.cleaner.clean(list(texts)))

    @property
    def _towers(self) -> bool:
        return self.problem.head(self.label_names).kind == "pair-embedding"

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1 of clean texts `(texts, hidden)`, float32."""
        ids = encode_texts(texts, self.tokenizer, self.tokenization)["input_ids"]
        vectors = embed_tokens(self.model.base_model, ids, self.pad_token_id, self.device)
        normalised: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return normalised

    def _collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return self.problem.collate(rows, self.pad_token_id, PAD_TO)

    @property
    def pad_token_id(self) -> int:
        return 0 if self.tokenizer is None else int(self.tokenizer.pad_token_id)

    def _outputs(self, table: pd.DataFrame, features: Mapping[str, list[Any]]) -> Outputs:
        if not len(table):
            return np.empty((0, max(len(self.label_names), 1) + len(self.method.extras)), np.float32)
        if self._towers:
            # Each text once, however many pairs it is in.
            sides = []
            for role in self.problem.input_roles:
                codes, unique = pd.factorize(table[role])
                sides.append(self._vectors(unique.tolist())[codes])
            return np.concatenate(sides, axis=1)
        if self.problem.generates:
            return self._write(features)
        return run_batches(self._forward, features, self._collate, self.device)

    def _forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits, and after them what the method says of each record beside."""
        import torch

        outputs = self.model(**batch)
        if not self.method.extras:
            logits: torch.Tensor = outputs.logits
            return logits
        return torch.cat([outputs.logits, outputs.extras], dim=1)

    def _write(self, features: Mapping[str, list[Any]]) -> Written:
        """What the network writes, and what it says of the records' own targets, where they have one."""
        from catena.decoding.writing import write_texts

        decoding = self.problem.settings.decoding
        written = write_texts(self.model, self.tokenizer, features["input_ids"], decoding, self.device)
        if "labels" not in features:
            return written

        def measured(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            logits = self.model(**network_inputs(self.model, batch, writes=True)).logits
            return self.problem.measure(logits, batch)

        unseen = ("record", "n_tokens", "length")
        targets = run_batches(measured, features, self._collate, self.device, unseen)
        return replace(written, targets=np.asarray(targets))

    def predict_batches(self, batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Predictions batch by batch; memory does not grow with their number."""
        for batch in batches:
            yield self.predict(batch)

    def embed(self, records: pd.DataFrame | Sequence[str], clean: bool = True) -> np.ndarray:
        """Mean-pooled last hidden states of the fine-tuned network, `(records, hidden)`.

        Where it reads no tokens, what its head sees.
        """
        table = self._table(records, clean)
        features = self.problem.encode(table, self.tokenizer, self.tokenization, self.label_names)
        if not self.problem.tokenizes:
            return np.asarray(
                run_batches(lambda batch: self.model.vectors(**batch), features, self._collate, self.device)
            )
        return embed_tokens(self.model.base_model, features["input_ids"], self.pad_token_id, self.device)

    def _table(
        self, records: pd.DataFrame | Sequence[str], clean: bool, targets: bool = False
    ) -> pd.DataFrame:
        """The input columns as clean text, and with `targets` the target's."""
        if isinstance(records, str):
            raise DataError("A list of texts was expected, not one text.")
        roles = self.problem.input_roles
        index = records.index if isinstance(records, pd.DataFrame) else None
        given: Any = records if isinstance(records, pd.DataFrame) else {roles[0]: list(records)}
        columns: dict[str, Any] = {}
        if targets:
            roles = (*roles, self.problem.target_role)
        for role in roles:
            if role not in given:
                raise DataError(
                    f"The records have no column `{role}`; they have {', '.join(map(str, given))}."
                )
            texts = list(given[role])
            for position, text in enumerate(texts):
                if not isinstance(text, str):
                    raise DataError(
                        f"Record {position + 1}: `{role}` must be text, "
                        f"not {type(text).__name__} ({text!r:.40})."
                    )
            columns[role] = pd.array(texts, dtype="str")
        table = pd.DataFrame(columns, index=index)
        return self.problem.clean(table, self.cleaner) if clean else table

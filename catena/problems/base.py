"""What a problem must say about itself. Importing this needs no torch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import SettingsError
from catena.problems.claims import Claim, Row
from catena.problems.outputs import HeadSpec, Measured, Outputs
from catena.problems.pieces import InputPiece, divide, without

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from pydantic import BaseModel
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.data.formats import Content
    from catena.data.near_duplicates import Search
    from catena.evaluation.base import Evaluation
    from catena.settings import ProblemSettings, TokenizationSettings


class Problem(ABC):
    """Record schema, record → features, head and loss, outputs → prediction, metrics.

    One subclass each in its own module, named in `catena.problems.PROBLEMS`. A prepared record
    consists of texts: the input columns, and the target in a canonical form, so that equal targets
    are equal texts.
    """

    name: ClassVar[str]
    #: Roles a user's columns play: those the model reads, and the one it learns to say.
    input_roles: ClassVar[tuple[str, ...]]
    target_role: ClassVar[str]
    #: What columns hold that are not plain text, by the role they play.
    contents: ClassVar[Mapping[str, Content]] = {}
    #: Inputs that decide the part a record goes to; by default all of them.
    split_roles: ClassVar[tuple[str, ...] | None] = None
    #: Classes that the training part must hold at least; 0 where targets have no classes.
    fewest_classes: ClassVar[int] = 2
    #: Whether a long text may be cut off; not where targets point into it.
    truncates: ClassVar[bool] = True
    #: Whether it can learn from its own confident predictions: targets are classes, and each prediction has
    #: a `confidence` (`data.unlabelled`).
    learns_unlabelled: ClassVar[bool] = False
    #: Whether records can be chosen that are most useful to label next (`catena label-next`).
    asks_for_labels: ClassVar[bool] = False
    #: Whether a record is embedded as one vector (`Predictor.embed`), and not as one for each window.
    one_vector: ClassVar[bool] = True
    #: Whether `training.class_weights` means anything.
    weighs_classes: ClassVar[bool] = False
    #: Whether equal inputs have one right target, so that others contradict it.
    one_right_target: ClassVar[bool] = True
    #: Whether targets keep their white space, because it is part of what is written.
    keeps_white_space: ClassVar[bool] = False
    #: Whether several records can share a row of a batch in training (`pack`).
    packs: ClassVar[bool] = False
    #: Whether records are read as tokens; where not, there is no tokenizer.
    tokenizes: ClassVar[bool] = True
    #: Records that are encoded at once, which is what memory grows with.
    records_at_once: ClassVar[int] = 10_000
    #: Whether predictions are texts that the network writes (`catena.decoding`), not outputs of a head.
    generates: ClassVar[bool] = False
    #: Whether `written_metrics` is asked during training.
    writes_in_validation: ClassVar[bool] = False
    #: Roles of the texts that a learned tokenizer is to know; by default the inputs.
    tokenized_roles: ClassVar[tuple[str, ...] | None] = None
    #: Features with one value for each token, which are cut where tokens are.
    token_features: ClassVar[frozenset[str]] = frozenset()
    #: What the `tolerance` of a behaviour test measures, where predictions are hardly ever exactly equal.
    tolerated: ClassVar[str | None] = None
    #: Metrics of `validation_metrics`, and whether higher is better; the first is the one that decides
    #: where `training.metric` does not say.
    validation_metric_names: ClassVar[Mapping[str, bool]]

    def __init__(self, settings: ProblemSettings) -> None:
        self.settings = settings

    # -- records (no torch) ---------------------------------------------------------------

    def raw_roles(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """The roles read from a file whose columns `data.columns` names."""
        return (*self.input_roles, self.target_role)

    def asked_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The columns of a file to be predicted, by input role, where it is like the file learned from."""
        return {role: columns[role] for role in self.input_roles if role in columns}

    def refusals(self, records: pd.DataFrame) -> pd.Series:
        """Why records with all their inputs cannot be predicted ("" where they can), one reason each."""
        return pd.Series("", index=records.index, dtype="str")

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Raw roles → input roles and target, still raw; and why a record is unusable ("" if it is not)."""
        return records, pd.Series("", index=records.index, dtype="str")

    def read_argument(self, text: str) -> str:
        """An input given on the command line, as a record holds it. Raises `DataError`."""
        return text

    def read_inputs(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Records with inputs that can be cleaned, and why others cannot be read ("" where they can)."""
        return records, pd.Series("", index=records.index, dtype="str")

    def show(self, inputs: Sequence[str]) -> list[str]:
        """Inputs, or their beginnings, as tables show them."""
        return list(inputs)

    def near_duplicates(self, threshold: float) -> Search:
        """How near duplicates are found; `threshold` is `preparation.near_duplicate_threshold`."""
        from catena.data.near_duplicates import Search, Side, find_near_duplicates

        return Search(threshold, Side, find_near_duplicates)

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """The records with clean inputs; a target that points into the text moves along."""
        cleaned = {
            role: pd.array(cleaner.clean(records[role].tolist()), dtype="str") for role in self.input_roles
        }
        return records.assign(**cleaned)

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        """Distinct raw targets → canonical ones, and why one cannot be used ("" where it can).

        White space in `values` is collapsed already; `names` is `data.labels`.
        """
        if names is None:
            return list(values), [""] * len(values)
        unknown = f"{self.target_role} not among `data.labels`"
        return (
            [names.get(value, value) for value in values],
            [unknown if value and value not in names else "" for value in values],
        )

    def classes(self, targets: pd.Series) -> pd.Series | None:
        """The class of each record, or several rows for one of several classes; `None` where there are none.

        The index is that of `targets`.
        """
        return targets

    def record_texts(self, records: pd.DataFrame) -> pd.Series:
        """What records are known by: repeats are equal, and it decides the part; by default the inputs."""
        text = records[self.input_roles[0]]
        for role in self.input_roles[1:]:
            text = text + "\n" + records[role]
        return text

    def compared_texts(self, records: pd.DataFrame) -> pd.Series:
        """The texts by which near duplicates are found; by default `record_texts`."""
        return self.record_texts(records)

    def label_names(self, records: pd.DataFrame) -> tuple[str, ...]:
        """The classes in the training records, in the order of the head's outputs."""
        classes = self.classes(records[self.target_role])
        return () if classes is None else tuple(sorted(classes.unique()))

    def examine(self, parts: Mapping[str, pd.DataFrame]) -> list[str]:
        """Warnings about the finished parts. Raises `DataError` where nothing can be learned or tested."""
        return []

    def describe_targets(self, targets: pd.Series) -> dict[str, float]:
        """Figures about the targets of one part for the quality report; by default its classes say enough."""
        return {}

    @abstractmethod
    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        """Schema of prepared records (columns named by role); `label_names` closes the target."""

    @abstractmethod
    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """Records → features, one list entry for each row.

        Always holds `input_ids` (list of int; not where the problem reads no tokens) and `n_tokens`
        (length before truncation); `labels` (int, float or a list of either) too when the records have
        the target role. `length` says how much of a batch's token budget a row takes, where that is not
        the number of its `input_ids`. A problem that cuts records into windows gives several rows for
        one, and `record`, its position.
        """

    def encode_targets(self, targets: Sequence[str], label_names: Sequence[str]) -> list[Any]:
        """Canonical targets as features have them in `labels`, where `learns_unlabelled`."""
        raise NotImplementedError

    # -- network ---------------------------------------------------------------------------

    @abstractmethod
    def head(self, label_names: Sequence[str]) -> HeadSpec:
        """The head this problem needs on a backbone."""

    @abstractmethod
    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """Features → padded tensors: `input_ids`, `attention_mask` `(batch, length)`, `labels`."""

    def pack(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, width: int
    ) -> dict[str, torch.Tensor]:
        """Features → rows `(rows, width)` that hold several of them each, where the problem `packs`."""
        raise NotImplementedError

    @property
    def augments(self) -> bool:
        """Whether `augment` changes anything."""
        return False

    def augment(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A training batch as the network sees it this time, drawn from torch's random state."""
        return batch

    @abstractmethod
    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean loss of a batch over what `weight` counts, in nats where it is a likelihood's."""

    def weight(self, labels: torch.Tensor) -> int:
        """How many things the loss of a batch is the mean of: by default its records."""
        return len(labels)

    def measure(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What of a batch's logits is kept to be measured: `(rows, k)`, or `(rows, length, k)`.

        By default all of them. Where each token has logits for a whole vocabulary, they are summed up here.
        """
        return logits

    def written_metrics(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Quick metrics of texts written for validation records; `validation_metric_names` has them too."""
        return {}

    def balanced_weights(self, labels: Any, classes: int) -> list[float]:
        """`training.class_weights: balanced`, from the labels of the training features.

        By default n / (classes · n_class), as in scikit-learn.
        """
        counts = np.bincount(np.asarray(labels), minlength=classes)
        return [float(weight) for weight in len(labels) / (classes * counts)]

    # -- predictions (no torch) --------------------------------------------------------------

    @abstractmethod
    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """Outputs for the rows of `features` → one row for each of `records`, in their order.

        `prediction` is a canonical target; other columns are those of `output_columns`.
        """

    @abstractmethod
    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        """The columns of `predictions` and their MLflow types (`string`, `double`)."""

    @abstractmethod
    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        """The quick metrics of one evaluation during training.

        `labels` as in the features: an array, or a list of arrays where each row has several.
        """

    @abstractmethod
    def evaluation(self) -> Evaluation:
        """How its predictions are judged."""

    def doubts(self, said: pd.DataFrame, label_names: Sequence[str], how: str) -> np.ndarray | None:
        """How unsure predictions are `(rows,)`, by `entropy` (nats), `margin` or `least_confidence`.

        Larger means less sure. Nothing where predictions of this problem do not tell.
        """
        if how == "least_confidence" and "confidence" in said:
            return 1.0 - said["confidence"].to_numpy(dtype=np.float64)
        return None

    def residuals(self, said: pd.DataFrame, label_names: Sequence[str]) -> np.ndarray | None:
        """The loss's gradient at the outputs if what is said were right `(rows, outputs)`, where it tells."""
        return None

    # -- what a prediction says (no torch) -----------------------------------------------------
    # Explanations and behaviour tests know a problem by these; a `Row` holds inputs and prediction.

    def worded_roles(self) -> tuple[str, ...]:
        """The inputs that behaviour tests may change; where they are texts, words can be left out of them."""
        return self.input_roles

    def perturbation(self) -> type[BaseModel]:
        """What reads a change that behaviour tests make to an input (a `Change`); by default of words."""
        from catena.evaluation.perturbations import Perturbation

        return Perturbation

    def read_written(self, inputs: Mapping[str, str], folder: Path) -> Mapping[str, str]:
        """Inputs as a file of behaviour tests in `folder` has them, as records hold them.

        Raises `ValueError`, continuing a sentence about the test, for what cannot be read.
        """
        return inputs

    #: What a piece of an input is called that can be left out, and several.
    pieces_called: ClassVar[tuple[str, str]] = ("word", "words")

    def pieces(self, inputs: Mapping[str, str], most: int) -> Sequence[InputPiece]:
        """Parts of the inputs that can be left out one by one, at most `most`; by default their words."""
        return divide(inputs, self.worded_roles(), most)

    def without(self, record: pd.DataFrame, *pieces: Any) -> pd.DataFrame:
        """The record (of one row) with some of its `pieces` left out."""
        return without(record, *pieces)

    def as_words(self, inputs: Mapping[str, str]) -> Mapping[str, str] | None:
        """The same inputs as texts whose words can be left out or changed; `None` where they cannot be."""
        return inputs

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """What can be asked of predictions: everything that `said` says, or only what is `about` a class.

        Without `said`, what any prediction says. Raises `SettingsError` where `about` names nothing that
        the model knows, or must be given.
        """
        raise SettingsError(f"What carries a prediction of the problem {self.name} cannot be measured yet.")

    def expected(self, given: Any, inputs: Mapping[str, str], names: Mapping[str, str] | None) -> str:
        """The canonical target that a behaviour test gives in any form the user's data may have.

        `names` is `data.labels`; names that these give are understood as well. Raises `ValueError` with the
        reason.
        """
        raw = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        record = pd.DataFrame({**inputs, self.target_role: raw}, index=[0]).astype("str")
        composed, (unusable, *_) = self.compose(record)
        if unusable:
            raise ValueError(unusable)
        values = [" ".join(str(composed[self.target_role].iloc[0]).split())]
        (target, *_), (reason, *_) = self.read_targets(values, names)
        if reason and names is not None:
            (target, *_), (reason, *_) = self.read_targets(values, None)
        if reason:
            raise ValueError(reason)
        return target

    def satisfies(self, said: Row, expected: str, tolerance: float) -> bool:
        """Whether a prediction is what a behaviour test expects, a canonical target."""
        return bool(said["prediction"] == expected)

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        """Whether a change of the inputs that must not matter has not mattered to the prediction."""
        return bool(before["prediction"] == after["prediction"])

    def shown(self, said: Row) -> str:
        """A prediction, or a target under that name, in a few words."""
        return str(said["prediction"])

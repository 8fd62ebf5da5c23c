"""What a problem must say about itself. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.settings import TokenizationSettings


@dataclass(frozen=True)
class HeadSpec:
    """The head a backbone must carry: its `kind` (as backbones name it) and what its outputs mean."""

    kind: str
    label_names: tuple[str, ...]


class Problem(ABC):
    """Record schema, record → features, head and loss, outputs → prediction, metrics.

    One subclass each in its own module, named in `catena.problems.PROBLEMS`.
    """

    name: ClassVar[str]
    #: Roles a user's columns play: those the model reads, and the one it learns to say.
    input_roles: ClassVar[tuple[str, ...]]
    target_role: ClassVar[str]
    #: Metrics of `validation_metrics`, and whether higher is better.
    validation_metric_names: ClassVar[Mapping[str, bool]]

    # -- records (no torch) ---------------------------------------------------------------

    @abstractmethod
    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        """Schema of prepared records (columns named by role); `label_names` closes the target."""

    @abstractmethod
    def label_names(self, records: pd.DataFrame) -> tuple[str, ...]:
        """The classes in the training records, in the order of the head's outputs."""

    @abstractmethod
    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """Records → features, one list entry per record.

        Always holds `input_ids` (list of int) and `n_tokens` (length before truncation);
        `labels` too when the records have the target role.
        """

    # -- network ---------------------------------------------------------------------------

    @abstractmethod
    def head(self, label_names: Sequence[str]) -> HeadSpec:
        """The head this problem needs on a backbone."""

    @abstractmethod
    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """Features → padded tensors: `input_ids`, `attention_mask` `(batch, length)`, `labels`."""

    @abstractmethod
    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean loss in nats of a batch."""

    # -- predictions (no torch) --------------------------------------------------------------

    @abstractmethod
    def predictions(self, logits: np.ndarray, label_names: Sequence[str]) -> pd.DataFrame:
        """Logits `(records, outputs)` → columns `prediction`, `confidence`, `p:<label>`…"""

    @abstractmethod
    def validation_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The quick metrics of one evaluation during training."""

"""What a backbone must offer. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from catena.settings import BackboneSettings


class Head(Protocol):
    """What a backbone needs to know of the head it must carry (`problems.HeadSpec` is one)."""

    @property
    def kind(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...

    @property
    def pairs(self) -> bool: ...


@dataclass(frozen=True)
class Blueprint:
    """What a network without pretrained weights is built to: its sizes, and the tokens it will read."""

    settings: BackboneSettings
    vocabulary: int = 0
    pad_token_id: int = 0
    max_length: int = 0
    eos_token_id: int | None = None
    #: Entries of the vocabulary that is written in, where it is another than the one that is read.
    target_vocabulary: int | None = None

    @classmethod
    def of(cls, settings: BackboneSettings, tokenizer: PreTrainedTokenizerBase | None) -> Blueprint:
        """For the tokens of `tokenizer`, or for none."""
        if tokenizer is None:
            return cls(settings)
        return cls(
            settings,
            len(tokenizer),
            int(tokenizer.pad_token_id),
            int(tokenizer.model_max_length),
            tokenizer.eos_token_id,
            getattr(tokenizer, "target_size", None),
        )


class Backbone(ABC):
    """Weights and tokenizer in a folder → a network with a head, in transformers' own classes."""

    type: ClassVar[str]

    @abstractmethod
    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        """The tokenizer in `folder`. Raises `ModelError` when it is missing or broken."""

    @abstractmethod
    def build(
        self,
        folder: Path,
        head: Head,
        *,
        dropout: float | None,
        attention: str,
        pooling: str = "native",
        blueprint: Blueprint | None = None,
    ) -> PreTrainedModel:
        """The network of `folder` with a new head, drawn from torch's current random state.

        `pooling` is how a text's tokens become one vector: as the network's own head does it, or `mean`.
        `blueprint` is what a network made from scratch is built to; pretrained ones need none.
        """

    @abstractmethod
    def load(self, folder: Path, head: Head, *, attention: str) -> PreTrainedModel:
        """A finished network: all weights, head included, come from `folder`."""

    @abstractmethod
    def encoder(self, folder: Path, *, attention: str) -> PreTrainedModel:
        """The network of `folder` without a head, for embeddings."""

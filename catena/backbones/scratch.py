"""Networks made from scratch: weights drawn from the seed, sizes from `params.yaml`, tokens learned."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from catena.backbones.base import Blueprint, Head
from catena.backbones.language_models import OwnHead
from catena.backbones.pretrained import (
    CHAIN,
    HEADS,
    LANGUAGE,
    TOKENS,
    WRITERS,
    Pretrained,
    auto_class,
    describe_head,
    quieten,
    set_dropout,
)
from catena.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Scratch(Pretrained):
    """A network of one of transformers' configurations, without weights. Once trained and stored, it is
    read like a pretrained one."""

    #: Whether the network takes embeddings instead of token ids, which a head over tokens needs.
    tags_tokens: ClassVar[bool] = False

    @abstractmethod
    def config(self, blueprint: Blueprint, head: Head) -> PretrainedConfig:
        """The configuration of the network that `blueprint` describes, of the kind that `head` needs."""

    def register(self) -> None:
        """Make transformers know the network, where it is not one of its own."""

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
        if blueprint is None:
            raise ValueError("a network made from scratch needs a blueprint")
        quieten()
        self.register()
        if head.kind == LANGUAGE:
            head = OwnHead("masked-language-model")  # of both kinds the one that sees a whole text
        config = self.config(blueprint, head)
        describe_head(config, head)
        set_dropout(config, dropout)
        if head.kind not in HEADS and not (head.kind in (TOKENS, CHAIN) and self.tags_tokens):
            raise self._no_head(head)
        if head.kind in (TOKENS, CHAIN):
            from catena.backbones import tagger

            setattr(config, tagger.MARK, tagger.SHAPES)
            tagger.chain_labels(config, head.kind == CHAIN)
            config._attn_implementation = attention
            return tagger.TokenTagger(config)
        if pooling == "mean" and head.kind not in (*WRITERS, "masked-language-model"):
            from catena.backbones.pooled import MARK, MeanPooledClassifier

            setattr(config, MARK, "mean")
            config._attn_implementation = attention
            return MeanPooledClassifier(config)
        try:
            model: PreTrainedModel = auto_class(head).from_config(config, attn_implementation=attention)
        except ValueError as error:
            raise self._no_head(head) from error
        return model

    def _no_head(self, head: Head) -> ModelError:
        return ModelError(
            f"A {self.type} backbone has no head for {head.kind}; choose another `backbone.type`."
        )

    def load(self, folder: Path, head: Head, *, attention: str) -> PreTrainedModel:
        self.register()
        return super().load(folder, head, attention=attention)

    def encoder(self, folder: Path, *, attention: str) -> PreTrainedModel:
        self.register()
        return super().encoder(folder, attention=attention)

    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        self.register()
        return super().tokenizer(folder)

"""A convolutional network from scratch: filters of several widths over token embeddings (Kim 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.backbones.base import Blueprint, Head
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Convolutional(Scratch):
    """Embeddings and one layer of filters; see `catena.backbones.convolutional_network`."""

    type = "convolutional"

    def config(self, blueprint: Blueprint, head: Head) -> PretrainedConfig:
        from catena.backbones.convolutional_network import ConvolutionalConfig

        sizes = blueprint.settings
        return ConvolutionalConfig(
            vocab_size=blueprint.vocabulary,
            pad_token_id=blueprint.pad_token_id,
            embedding_size=sizes.embedding_size,
            filters=sizes.filters,
            kernel_sizes=list(sizes.kernel_sizes or ()),
        )

    def register(self) -> None:
        from catena.backbones import convolutional_network

        convolutional_network.register()

"""A recurrent network from scratch: plain RNN, LSTM or GRU, in one direction or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.backbones.base import Blueprint, Head
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Recurrent(Scratch):
    """Embeddings and recurrent layers; see `catena.backbones.recurrent_network`."""

    type = "recurrent"

    def config(self, blueprint: Blueprint, head: Head) -> PretrainedConfig:
        from catena.backbones.recurrent_network import RecurrentConfig

        sizes = blueprint.settings
        return RecurrentConfig(
            vocab_size=blueprint.vocabulary,
            pad_token_id=blueprint.pad_token_id,
            embedding_size=sizes.embedding_size,
            cell=sizes.cell,
            cell_size=sizes.hidden_size,
            num_hidden_layers=sizes.layers,
            bidirectional=sizes.bidirectional,
        )

    def register(self) -> None:
        from catena.backbones import recurrent_network

        recurrent_network.register()

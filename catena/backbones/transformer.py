"""A transformer encoder from scratch, in the sizes of `params.yaml` (Devlin et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.backbones.base import Blueprint
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Batches are padded to a multiple of this, so there are positions for that much.
_PAD_TO = 8


class Transformer(Scratch):
    """A BERT of any size; what is stored is an ordinary BERT of transformers."""

    type = "transformer"
    tags_tokens = True

    def config(self, blueprint: Blueprint) -> PretrainedConfig:
        from transformers import BertConfig

        sizes = blueprint.settings
        return BertConfig(
            vocab_size=blueprint.vocabulary,
            hidden_size=sizes.hidden_size,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.intermediate_size,
            max_position_embeddings=-(-blueprint.max_length // _PAD_TO) * _PAD_TO,
            pad_token_id=blueprint.pad_token_id,
        )

"""A transformer from scratch, in the sizes of `params.yaml`: encoder, decoder or both, as the head needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catena.backbones.base import Blueprint, Head
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Batches are padded to a multiple of this, so there are positions for that much.
_PAD_TO = 8
#: Positions of networks that write: they cost nothing, since none is learned.
_POSITIONS = 2048


class Transformer(Scratch):
    """What is stored is an ordinary network of transformers, of any size.

    A BERT (Devlin et al. 2019) where texts are judged; a Marian (Vaswani et al. 2017, with the embeddings
    of both languages and the output tied, Press and Wolf 2017) where they are rewritten; a Llama (Touvron et
    al. 2023) where they are continued.
    """

    type = "transformer"
    tags_tokens = True

    def config(self, blueprint: Blueprint, head: Head) -> PretrainedConfig:
        if head.kind == "sequence-to-sequence":
            return self._encoder_decoder(blueprint)
        if head.kind == "causal-language-model":
            return self._decoder(blueprint)
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

    @staticmethod
    def _encoder_decoder(blueprint: Blueprint) -> PretrainedConfig:
        """`layers` on each side; separate embeddings where the target has a vocabulary of its own."""
        from transformers import MarianConfig

        sizes = blueprint.settings
        return MarianConfig(
            vocab_size=blueprint.vocabulary,
            decoder_vocab_size=blueprint.target_vocabulary or blueprint.vocabulary,
            share_encoder_decoder_embeddings=blueprint.target_vocabulary is None,
            d_model=sizes.hidden_size,
            encoder_layers=sizes.layers,
            decoder_layers=sizes.layers,
            encoder_attention_heads=sizes.heads,
            decoder_attention_heads=sizes.heads,
            encoder_ffn_dim=sizes.intermediate_size,
            decoder_ffn_dim=sizes.intermediate_size,
            activation_function="relu",
            scale_embedding=True,
            init_std=(sizes.hidden_size or 1) ** -0.5,
            max_position_embeddings=_POSITIONS,
            pad_token_id=blueprint.pad_token_id,
            eos_token_id=blueprint.eos_token_id,
            forced_eos_token_id=None,
            decoder_start_token_id=blueprint.pad_token_id,
        )

    @staticmethod
    def _decoder(blueprint: Blueprint) -> PretrainedConfig:
        from transformers import LlamaConfig

        sizes = blueprint.settings
        return LlamaConfig(
            vocab_size=blueprint.vocabulary,
            hidden_size=sizes.hidden_size,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.intermediate_size,
            max_position_embeddings=_POSITIONS,
            tie_word_embeddings=True,
            pad_token_id=blueprint.pad_token_id,
            bos_token_id=None,
            eos_token_id=blueprint.eos_token_id,
        )

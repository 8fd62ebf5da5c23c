"""A transformer from scratch, in the sizes of `params.yaml`: encoder, decoder or both, as the head needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catena.backbones.base import Blueprint, Head
from catena.backbones.scratch import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Batches are padded to a multiple of this, so there are positions for that much.
_PAD_TO = 8
#: Least positions of networks that write: they cost little, since none is learned.
_POSITIONS = 2048


class Transformer(Scratch):
    """What is stored is an ordinary network of transformers, of any size.

    A BERT (Devlin et al. 2019) where texts are judged; an encoder with a decoder (Vaswani et al. 2017) where
    they are rewritten; a Llama (Touvron et al. 2023) where they are continued.
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
            max_position_embeddings=_padded(blueprint.max_length),
            pad_token_id=blueprint.pad_token_id,
        )

    @staticmethod
    def _encoder_decoder(blueprint: Blueprint) -> PretrainedConfig:
        """`layers` on each side; a Marian where the target has a vocabulary of its own, else an M2M100.

        The latter normalizes before each sublayer (Xiong et al. 2020) and learns much faster; all its
        embeddings are the output's too (Press and Wolf 2017).
        """
        from transformers import M2M100Config, MarianConfig

        sizes = blueprint.settings
        shape: dict[str, Any] = {
            "vocab_size": blueprint.vocabulary,
            "d_model": sizes.hidden_size,
            "encoder_layers": sizes.layers,
            "decoder_layers": sizes.layers,
            "encoder_attention_heads": sizes.heads,
            "decoder_attention_heads": sizes.heads,
            "encoder_ffn_dim": sizes.intermediate_size,
            "decoder_ffn_dim": sizes.intermediate_size,
            "activation_function": "relu",
            "scale_embedding": True,
            "init_std": (sizes.hidden_size or 1) ** -0.5,
            "max_position_embeddings": _positions(blueprint),
            "pad_token_id": blueprint.pad_token_id,
            "eos_token_id": blueprint.eos_token_id,
        }
        if blueprint.target_vocabulary is None:
            # begins with the end, because it gives padding no position
            return M2M100Config(
                **shape,
                attention_dropout=0.0,
                encoder_layerdrop=0.0,
                decoder_layerdrop=0.0,
                bos_token_id=None,
                decoder_start_token_id=blueprint.eos_token_id,
                tie_word_embeddings=True,
            )
        return MarianConfig(
            **shape,
            decoder_vocab_size=blueprint.target_vocabulary,
            share_encoder_decoder_embeddings=False,
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
            max_position_embeddings=_positions(blueprint),
            tie_word_embeddings=True,
            pad_token_id=blueprint.pad_token_id,
            bos_token_id=None,
            eos_token_id=blueprint.eos_token_id,
        )


def _padded(length: int) -> int:
    return -(-length // _PAD_TO) * _PAD_TO


def _positions(blueprint: Blueprint) -> int:
    return max(_POSITIONS, _padded(blueprint.max_length))

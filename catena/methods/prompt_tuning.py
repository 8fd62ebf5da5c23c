"""Prompt tuning: learned embeddings before every text (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from catena.errors import SettingsError
from catena.methods.adapted import Adapted
from catena.methods.base import Surroundings
from catena.methods.targets import kind_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: Inputs are padded to a multiple of this.
_PAD_TO = 8


class PromptTuning(Adapted):
    """Learned embeddings that the network reads before every text, as if they were words.

    `virtual_tokens` of them. Encoders read them together with the text, and their outputs are cut off again;
    of a network with an encoder and a decoder only the encoder reads them. A causal network cannot see the
    text from them, so that they are read once for all texts (`catena.methods.prompt_reading`). After patches
    of an image they are the prompts of Jia et al. 2022 (arXiv 2203.12119). They begin as embeddings of tokens
    drawn at random.
    """

    name = "prompt_tuning"

    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        from catena.methods.prompt_reading import after_patches, before_encoder, before_text
        from catena.methods.trial import try_out

        model.requires_grad_(False)
        count = self.peft.virtual_tokens
        body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        parameters = inspect.signature(body.forward).parameters
        if around.head.kind == "causal-language-model":
            before_text(body, count)
        elif "inputs_embeds" in parameters:
            self._check_room(model, around)
            before_encoder(body, count)
        elif "pixel_values" in parameters and hasattr(body, "embeddings"):
            after_patches(body, count)
        else:
            raise _unfit(model)
        if stored is None:
            try_out(model, around.head.kind, _unfit(model))

    def undecayed(self, model: PreTrainedModel) -> frozenset[str]:
        return frozenset(name for name, _ in model.named_parameters() if name.endswith(".prompt"))

    def _check_room(self, model: PreTrainedModel, around: Surroundings) -> None:
        """Raise `SettingsError` where prompt and text have not enough positions."""
        room = getattr(model.config, "max_position_embeddings", None)
        if around.tokenizer is None or not isinstance(room, int):
            return
        longest = -(-int(around.max_length or around.tokenizer.model_max_length) // _PAD_TO) * _PAD_TO
        if longest + self.peft.virtual_tokens > room:
            raise SettingsError(
                f"A prompt of {self.peft.virtual_tokens} places and texts of up to {longest} tokens do not "
                f"fit the {room} positions of the backbone; lower `method.peft.virtual_tokens` or "
                "`tokenization.max_length`, or choose prefix_tuning, which needs no positions."
            )


def _unfit(model: PreTrainedModel) -> SettingsError:
    return SettingsError(
        f"`method.name` prompt_tuning does not fit the backbone ({kind_of(model)}), which cannot read "
        "embeddings before a text or after an image's patches; choose lora or bitfit."
    )

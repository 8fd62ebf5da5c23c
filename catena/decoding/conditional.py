"""New texts of a label, drawn from a causal language model that goes on from embeddings."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from catena.decoding.writing import generation_config, own_habits_off, seeded
from catena.settings import DecodingSettings
from catena.training.devices import Device

#: Texts written at once.
_AT_ONCE = 32


@torch.inference_mode()
def sample_texts(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    opening: torch.Tensor,
    end: int,
    count: int,
    settings: DecodingSettings,
    device: Device,
) -> list[tuple[str, bool]]:
    """`count` texts that go on from `opening` `(1, tokens, hidden)`, and whether each came to its `end`.

    Texts that do not are cut off after `settings.max_new_tokens`. Draws come from a generator of their own,
    seeded by `settings.seed`. Special tokens are left out.
    """
    texts: list[tuple[str, bool]] = []
    with seeded(settings.seed), own_habits_off(network):
        config = generation_config(network, tokenizer, settings, settings.max_new_tokens)
        config.eos_token_id = end
        for begun in range(0, count, _AT_ONCE):
            rows = min(_AT_ONCE, count - begun)
            given: Any = opening.expand(rows, -1, -1)
            with device.autocast:
                written = network.generate(
                    inputs_embeds=given,
                    attention_mask=torch.ones(given.shape[:2], dtype=torch.long, device=given.device),
                    generation_config=config,
                )
            for row in written.cpu():
                text = tokenizer.decode(row, skip_special_tokens=True).strip()
                texts.append((text, bool((row == end).any())))
    return texts

"""Texts written by a network, row by row, with transformers' own search and sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from catena.problems import Written
from catena.problems.base import pad_inputs
from catena.settings import DecodingSettings
from catena.training.batches import PAD_TO, plan_inference
from catena.training.devices import Device

#: Tokens (padding included, for each beginning that is kept) and rows in one batch.
_BATCH_TOKENS = 8192
_BATCH_SIZE = 64
#: Tokens that may be written beyond `max_length_ratio` times the input.
_MORE = 10


@torch.inference_mode()
def write_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Sequence[Sequence[int]],
    settings: DecodingSettings,
    device: Device,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Written:
    """What `model` writes for each row of `input_ids`: an encoder-decoder beside it, others after it.

    Rows are written in batches of similar length; `sampling` draws from a generator of its own, seeded by
    `settings.seed`. Special tokens are left out of the texts.
    """
    model.eval()
    lengths = np.fromiter((len(row) for row in input_ids), dtype=np.int64, count=len(input_ids))
    texts = [""] * len(lengths)
    likelihoods = np.zeros(len(lengths))
    tokens = np.zeros(len(lengths), dtype=np.int64)
    beams = settings.beams if settings.strategy == "beam" else 1
    size, budget = max(1, _BATCH_SIZE // beams), max(1, _BATCH_TOKENS // beams)
    done = 0
    with torch.random.fork_rng(devices=[0] if device.kind == "cuda" else []):
        torch.manual_seed(settings.seed)
        for rows in plan_inference(lengths, batch_tokens=budget, batch_size=size):
            batch = _batch([input_ids[row] for row in rows], model, int(tokenizer.pad_token_id))
            longest = int(batch["input_ids"].shape[1])
            config = generation_config(model, tokenizer, settings, longest)
            with device.autocast:
                written = model.generate(
                    **{name: values.to(device.kind) for name, values in batch.items()},
                    generation_config=config,
                    return_dict_in_generate=True,
                    output_logits=beams == 1,
                    output_scores=beams > 1,
                )
            begun = 1 if model.config.is_encoder_decoder else longest
            new = written.sequences[:, begun:].cpu()
            chances, counts = _likelihoods(model, written, new, config)
            for place, row in enumerate(rows):
                texts[row] = tokenizer.decode(new[place], skip_special_tokens=True).strip()
                likelihoods[row], tokens[row] = chances[place], counts[place]
            done += len(rows)
            on_progress(done)
    return Written(texts, likelihoods, tokens)


def generation_config(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: DecodingSettings,
    longest: int,
) -> GenerationConfig:
    """transformers' form of `settings`, for inputs of up to `longest` tokens.

    How a text begins and ends is the network's own affair and taken from its generation configuration.
    """
    own = model.generation_config
    most = settings.max_new_tokens
    if settings.max_length_ratio is not None:
        most = min(most, int(settings.max_length_ratio * longest) + _MORE)
    room = _positions(model)
    if room is not None:
        most = min(most, room - (1 if model.config.is_encoder_decoder else longest))
    values: dict[str, Any] = {
        "max_new_tokens": max(most, 1),
        "max_length": None,
        "do_sample": settings.strategy == "sampling",
        "num_beams": settings.beams if settings.strategy == "beam" else 1,
        "no_repeat_ngram_size": settings.no_repeat_ngram,
        "repetition_penalty": settings.repetition_penalty,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        "bos_token_id": own.bos_token_id,
        "decoder_start_token_id": own.decoder_start_token_id,
        "forced_bos_token_id": own.forced_bos_token_id,
        "bad_words_ids": own.bad_words_ids,
    }
    if settings.strategy == "beam":
        values |= {"length_penalty": settings.length_penalty, "early_stopping": False}
    if settings.strategy == "sampling":
        values |= {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
        }
    return GenerationConfig(**values)


def _positions(model: PreTrainedModel) -> int | None:
    """How many tokens the network that writes has positions for, where there is a limit."""
    found = getattr(model.config, "max_position_embeddings", None)
    return int(found) if found else None


def _batch(
    rows: Sequence[Sequence[int]], model: PreTrainedModel, pad_token_id: int
) -> Mapping[str, torch.Tensor]:
    """`input_ids` and `attention_mask`; padded on the left where the network goes on from the input."""
    batch = pad_inputs([{"input_ids": row} for row in rows], pad_token_id, PAD_TO)
    if model.config.is_encoder_decoder:
        return batch
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_token_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = torch.as_tensor(row)
        mask[place, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _likelihoods(
    model: PreTrainedModel, written: Any, new: torch.Tensor, config: GenerationConfig
) -> tuple[list[float], list[int]]:
    """Log-likelihood of each text written (nats) and its tokens, by the network's own probabilities."""
    ends = config.eos_token_id
    ended = torch.zeros_like(new, dtype=torch.bool)
    for end in ends if isinstance(ends, list) else [ends]:
        ended |= new == end
    # everything up to the first end, and the end itself
    inside = (ended.cumsum(dim=1) - ended.long()) == 0
    counts = inside.sum(dim=1)
    if config.num_beams > 1:
        penalty = counts.double() ** config.length_penalty
        return (written.sequences_scores.double().cpu() * penalty).tolist(), counts.tolist()
    total = torch.zeros(len(new), dtype=torch.float64)
    for step, logits in enumerate(written.logits):
        chances = functional.log_softmax(logits.float(), dim=-1).cpu()
        total += chances.gather(1, new[:, step : step + 1])[:, 0].double() * inside[:, step]
    return total.tolist(), counts.tolist()

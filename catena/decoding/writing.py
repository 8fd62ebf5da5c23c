"""Texts written by a network, row by row, with transformers' own search and sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer

from catena.problems import Written
from catena.problems.features import pad_inputs
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
    streamer: BaseStreamer | None = None,
) -> Written:
    """What `model` writes for each row of `input_ids`: an encoder-decoder beside it, others after it.

    Rows are written in batches of similar length; `sampling` draws from a generator of its own, seeded by
    `settings.seed`. Special tokens are left out of the texts. A `streamer` is told the tokens of a single row
    as they are written, without beams.
    """
    model.eval()
    lengths = np.fromiter((len(row) for row in input_ids), dtype=np.int64, count=len(input_ids))
    texts = [""] * len(lengths)
    likelihoods = np.zeros(len(lengths))
    tokens = np.zeros(len(lengths), dtype=np.int64)
    beams = settings.beams if settings.strategy == "beam" else 1
    size, budget = max(1, _BATCH_SIZE // beams), max(1, _BATCH_TOKENS // beams)
    done = 0
    with seeded(settings.seed), own_habits_off(model):
        for rows in plan_inference(lengths, batch_tokens=budget, batch_size=size):
            batch = _batch([input_ids[row] for row in rows], model, int(tokenizer.pad_token_id))
            begun = 1 if model.config.is_encoder_decoder else int(batch["input_ids"].shape[1])
            limits = [_most_tokens(model, settings, int(lengths[row])) for row in rows]
            config = generation_config(model, tokenizer, settings, max(limits))
            with device.autocast:
                written = model.generate(
                    **{name: values.to(device.kind) for name, values in batch.items()},
                    generation_config=config,
                    logits_processor=LogitsProcessorList([_EndAt(limits, begun, config, beams)]),
                    return_dict_in_generate=True,
                    output_logits=beams == 1,
                    output_scores=beams > 1,
                    streamer=streamer,
                )
            new = written.sequences[:, begun:].cpu()
            chances, counts = _likelihoods(written, new, config, torch.tensor(limits))
            for place, row in enumerate(rows):
                texts[row] = tokenizer.decode(new[place], skip_special_tokens=True).strip()
                likelihoods[row], tokens[row] = chances[place], counts[place]
            done += len(rows)
            on_progress(done)
    return Written(texts, likelihoods, tokens)


def generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: DecodingSettings, most: int
) -> GenerationConfig:
    """transformers' form of `settings`, for at most `most` tokens.

    How a text begins and ends is the network's own affair and taken from its generation configuration.
    """
    own = model.generation_config
    values: dict[str, Any] = {
        "max_new_tokens": most,
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


class _EndAt(LogitsProcessor):  # type: ignore[misc]
    """Ends each text at its own limit, whatever other rows are in the batch."""

    def __init__(self, limits: Sequence[int], begun: int, config: GenerationConfig, beams: int) -> None:
        self._limits = torch.tensor(limits).repeat_interleave(beams)
        self._begun = begun
        self._ends = config.eos_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ended = (input_ids.shape[1] - self._begun >= self._limits).to(scores.device)
        if self._ends is not None and ended.any():
            end = self._ends[0] if isinstance(self._ends, list) else self._ends
            scores = scores.masked_fill(ended.unsqueeze(1), -torch.inf)
            scores[ended, end] = 0.0
        return scores


def _most_tokens(model: PreTrainedModel, settings: DecodingSettings, length: int) -> int:
    """How many tokens may be written for an input of `length` tokens, whatever stands beside it."""
    most = settings.max_new_tokens
    if settings.max_length_ratio is not None:
        most = min(most, int(settings.max_length_ratio * length) + _MORE)
    room = _positions(model)
    begun = 1 if model.config.is_encoder_decoder else length
    return max(most if room is None else min(most, room - begun), 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from a generator of their own; afterwards everybody else's go on as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextmanager
def own_habits_off(model: PreTrainedModel) -> Iterator[None]:
    """Without what its makers have set for writing, which transformers fills in where nothing is said."""
    own = model.generation_config
    kept = ("bos", "eos", "pad", "decoder_start", "forced_bos")
    values: dict[str, Any] = {f"{name}_token_id": getattr(own, f"{name}_token_id") for name in kept}
    model.generation_config = GenerationConfig(**values, bad_words_ids=own.bad_words_ids)
    try:
        yield
    finally:
        model.generation_config = own


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
    written: Any, new: torch.Tensor, config: GenerationConfig, limits: torch.Tensor
) -> tuple[list[float], list[int]]:
    """Log-likelihood of each text written (nats) and its tokens, without an end that was forced.

    By the network's own probabilities; of beams by those that chose them, penalties for repeating included.
    """
    ends = config.eos_token_id
    ended = torch.zeros_like(new, dtype=torch.bool)
    for end in ends if isinstance(ends, list) else [ends]:
        ended |= new == end
    # everything up to the first end, and the end itself
    length = ((ended.cumsum(dim=1) - ended.long()) == 0).sum(dim=1)
    counts = torch.minimum(length, limits)
    if config.num_beams > 1:
        penalty = length.double() ** config.length_penalty
        return (written.sequences_scores.cpu().double() * penalty).tolist(), counts.tolist()
    total = torch.zeros(len(new), dtype=torch.float64)
    for step, logits in enumerate(written.logits):
        chances = functional.log_softmax(logits.float(), dim=-1).cpu()
        total += chances.gather(1, new[:, step : step + 1])[:, 0].double() * (step < counts)
    return total.tolist(), counts.tolist()

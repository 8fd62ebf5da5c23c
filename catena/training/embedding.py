"""Texts as vectors: mean-pooled outputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catena.backbones.pretrained import Pretrained
from catena.training.batches import PAD_TO, plan_inference
from catena.training.devices import Device, choose_device

#: Tokens (padding included) and records in one batch of inference.
BATCH_TOKENS = 4096
BATCH_SIZE = 128


@torch.inference_mode()
def embed_tokens(encoder: Any, ids: Sequence[Sequence[int]], pad_token_id: int, device: Device) -> np.ndarray:
    """Mean of the last hidden states over a text's tokens: `(records, hidden)`, float32."""

    def pooled(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).float()
        mean: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return mean

    return run_batches(pooled, ids, pad_token_id, device)


@torch.inference_mode()
def run_batches(
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ids: Sequence[Sequence[int]],
    pad_token_id: int,
    device: Device,
) -> np.ndarray:
    """Apply `forward(input_ids, attention_mask)` to all records, in batches of similar length.

    Returns one row for each record, in the order given.
    """
    lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
    result: np.ndarray | None = None
    for rows in plan_inference(lengths, batch_tokens=BATCH_TOKENS, batch_size=BATCH_SIZE):
        longest = max(int(lengths[rows].max()), 1)
        width = -(-longest // PAD_TO) * PAD_TO
        input_ids = np.full((len(rows), width), pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for position, row in enumerate(rows):
            input_ids[position, : lengths[row]] = ids[row]
            mask[position, : lengths[row]] = 1
        with device.autocast:
            output = forward(
                torch.from_numpy(input_ids).to(device.kind), torch.from_numpy(mask).to(device.kind)
            )
        values = output.float().cpu().numpy()
        if result is None:
            result = np.empty((len(ids), *values.shape[1:]), dtype=np.float32)
        result[rows] = values
    return result if result is not None else np.empty((0, 0), dtype=np.float32)


def embed_texts(folder: Path, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Embeddings of `texts` by the pretrained network in `folder`, before any fine-tuning.

    Texts are cut to `max_length` tokens. Rows have length 1 (L2); shape `(texts, hidden)`.
    """
    device = choose_device()
    backbone = Pretrained()
    tokenizer = backbone.tokenizer(folder)
    encoder = backbone.encoder(folder, attention=device.attention).to(device.kind)
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"] if len(texts) else []
    vectors = embed_tokens(encoder, ids, int(tokenizer.pad_token_id), device)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: np.ndarray = vectors / np.maximum(norms, 1e-12)
    return normalised

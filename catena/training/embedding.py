"""Texts as vectors: mean-pooled outputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catena.backbones.pretrained import Pretrained
from catena.problems import HeadSpec, Measured
from catena.problems.features import pad_inputs
from catena.training.batches import PAD_TO, RowOutputs, plan_inference
from catena.training.devices import Device, choose_device

#: Tokens (padding included) and records in one batch of inference.
BATCH_TOKENS = 4096
BATCH_SIZE = 128
#: Features that describe a row, or are what it should say.
_NOT_INPUTS = ("labels", "record", "n_tokens", "length")


@torch.inference_mode()
def embed_tokens(encoder: Any, ids: Sequence[Sequence[int]], pad_token_id: int, device: Device) -> np.ndarray:
    """Mean of the last hidden states over a text's tokens: `(records, hidden)`, float32."""

    def pooled(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        hidden = encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        mean: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return mean

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return pad_inputs(rows, pad_token_id, PAD_TO)

    return np.asarray(run_batches(pooled, {"input_ids": ids}, collate, device))


@torch.inference_mode()
def run_batches(
    forward: Callable[[Mapping[str, torch.Tensor]], torch.Tensor],
    features: Mapping[str, Sequence[Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, torch.Tensor]],
    device: Device,
    unseen: Collection[str] = _NOT_INPUTS,
) -> Measured:
    """Apply `forward` to all rows of `features`, in batches of similar length; their order is kept.

    Features named in `unseen` are left out.

    Returns one array `(rows, outputs)`, or a list of arrays `(tokens, outputs)` where `forward`
    gives `(batch, length, outputs)`.
    """
    lengths = row_lengths(features)
    names = [name for name in features if name not in unseen]
    gathered = RowOutputs(lengths)
    for rows in plan_inference(lengths, batch_tokens=BATCH_TOKENS, batch_size=BATCH_SIZE):
        batch = collate([{name: features[name][row] for name in names} for row in rows])
        with device.autocast:
            gathered.add(rows, forward({name: values.to(device.kind) for name, values in batch.items()}))
    return gathered.outputs()


def row_lengths(features: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """What each row of `features` takes of a batch's token budget `(rows,)`."""
    if "length" in features:
        return np.asarray(features["length"], dtype=np.int64)
    ids = features.get("input_ids")
    if ids is None:
        return np.ones(len(features["n_tokens"]), dtype=np.int64)
    return np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))


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


def embed_images(folder: Path, images: Sequence[str]) -> np.ndarray:
    """What the head of the pretrained network in `folder` sees of canonical images, before any fine-tuning.

    Rows have length 1 (L2); shape `(images, hidden)`.
    """
    from catena.data.pictures import from_text, pixels

    device = choose_device()
    network: Any = Pretrained().build(
        folder, HeadSpec("image-classification", ("", "")), dropout=None, attention=device.attention
    )
    network = network.eval().to(device.kind)

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        values = np.stack([pixels(from_text(row["image"])) for row in rows])
        return {"pixel_values": torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255.0}

    features = {"image": images, "n_tokens": [1] * len(images)}
    vectors = np.asarray(run_batches(lambda batch: network.vectors(**batch), features, collate, device))
    normalised: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalised

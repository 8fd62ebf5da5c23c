"""What of a batch a network is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def network_inputs(model: Any, batch: Mapping[str, torch.Tensor], writes: bool = False) -> dict[str, Any]:
    """The batch without its labels; a decoder that `writes` gets them as what it has written so far."""
    inputs: dict[str, Any] = {name: values for name, values in batch.items() if name != "labels"}
    own = getattr(model, "module", model)  # in a wrapper where training is distributed
    if writes and "labels" in batch and own.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = _written_before(own, batch["labels"])
    if "position_ids" in inputs:
        # Only without a cache do transformers' networks tell records that share a row from each other.
        inputs["use_cache"] = False
    return inputs


def _written_before(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """Targets `(batch, length)` shifted by one, as the network does it itself where it says how."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        shifted: torch.Tensor = shift(labels=labels)
        return shifted
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    before = labels[:, :-1].masked_fill(labels[:, :-1] < 0, model.config.pad_token_id)
    return torch.cat([start, before], dim=1)

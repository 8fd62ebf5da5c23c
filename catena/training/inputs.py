"""What of a batch a network is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def network_inputs(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The batch without its labels; a network with a decoder gets them as what it has written so far.

    The shift by one is the network's own, since networks begin texts in different ways.
    """
    inputs: dict[str, Any] = {name: values for name, values in batch.items() if name != "labels"}
    own = getattr(model, "module", model)  # in a wrapper where training is distributed
    if "labels" in batch and own.config.is_encoder_decoder and "decoder_input_ids" not in batch:
        inputs["decoder_input_ids"] = own.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    if "position_ids" in inputs:
        # Only without a cache do transformers' networks tell records that share a row from each other.
        inputs["use_cache"] = False
    return inputs

"""Inputs on which a network can be tried out, whatever it reads."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from catena.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Side and channels of an image that every network brings to its own size and colours.
_SIDE, _CHANNELS = 32, 3


def trial_inputs(model: PreTrainedModel, head: str, length: int) -> dict[str, Any]:
    """A record of random tokens, or an image of noise, as a network with a `head` of this kind reads it."""
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.rand(1, _CHANNELS, _SIDE, _SIDE, device=model.device)}
    vocabulary = model.get_input_embeddings().num_embeddings
    shape = (1, 2, length) if head == "pair-embedding" else (1, length)
    inputs: dict[str, Any] = {
        "input_ids": torch.randint(0, vocabulary, shape, device=model.device),
        "attention_mask": torch.ones(shape, dtype=torch.long, device=model.device),
    }
    if head == "sequence-to-sequence":
        output = model.get_output_embeddings()
        written = output.weight.shape[0] if output is not None else vocabulary
        inputs["decoder_input_ids"] = torch.randint(0, written, shape, device=model.device)
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs


@torch.no_grad()
def check_shared_rows(model: PreTrainedModel) -> None:
    """Raise `SettingsError` where a token sees another record that shares its row (`training.packing`).

    Networks of transformers can tell records apart by positions that begin anew, but not all of them do.
    """
    training = model.training
    model.eval()
    positions = torch.tensor([[0, 1, 2, 0, 1]], device=model.device)
    try:
        # one after the other: places in a batch can differ in their last bits
        first, second = (
            model(
                input_ids=torch.tensor([[1, other, 3, 4, 5]], device=model.device),
                position_ids=positions,
                use_cache=False,
            ).logits[:, 3:]
            for other in (2, 3)
        )
        apart = torch.equal(first, second)
    except (RuntimeError, TypeError, ValueError):
        apart = False
    finally:
        model.train(training)
    if not apart:
        raise SettingsError(
            f"`training.packing` is not there for networks such as this one ({model.config.model_type}), "
            "whose tokens would see other records in their row; leave it off."
        )


@torch.no_grad()
def try_out(model: PreTrainedModel, head: str, unfit: SettingsError, length: int = 8) -> None:
    """Run a network once; raise `unfit` where it cannot."""
    training = model.training
    model.eval()
    try:
        model(**trial_inputs(model, head, length))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise unfit from error
    finally:
        model.train(training)

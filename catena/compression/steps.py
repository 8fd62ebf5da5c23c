"""A network made smaller as settings say, and what is to be remembered of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catena.backbones.smaller import MARK, is_int8, to_int8
from catena.compression.pruning import prune
from catena.compression.sample import Sample
from catena.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.methods import Method
    from catena.settings import CompressionSettings


def check_plain(method: Method) -> None:
    """Raise `SettingsError` where a method stores more than a network, so that it cannot be taken apart."""
    if not method.whole:
        adapter = method.settings.store == "adapter"
        stored = " with `store` adapter" if adapter else ""
        merges = adapter and getattr(method, "merges", False)
        merged = "train it with `method.store: merged`, or " if merges else ""
        raise SettingsError(
            f"A model of the method {method.name}{stored} is stored in a form of its own, which cannot be "
            f"made smaller or trained on; {merged}let it teach a student (`method.distillation.teacher`)."
        )


def cut(model: PreTrainedModel, settings: CompressionSettings, sample: Sample | None) -> list[str]:
    """Prune `model` in place; sentences that say what went. Raises `ModelError` for one in eight bits."""
    if not settings.prunes:
        return []
    if is_int8(model):
        raise ModelError(
            "The weights of this model are in eight bits, and parts of it cannot be measured any more; prune "
            "the model before, and quantise last."
        )
    return prune(model, settings, sample)


def round_off(model: PreTrainedModel, settings: CompressionSettings) -> list[str]:
    """Quantise `model` in place where that is wanted."""
    if settings.quantize == "none":
        return []
    to_int8(model)
    return ["weights in eight bits (int8), one scale a row"]


def remembered(model: PreTrainedModel, notes: list[str], before: dict[str, Any] | None) -> dict[str, Any]:
    """The card's `compression`: all steps so far, and whether the weights are in eight bits."""
    marks = getattr(model.config, MARK, None) or {}
    steps = [*(before or {}).get("steps", []), *notes]
    return {"steps": steps, "int8": bool(marks.get("int8"))}

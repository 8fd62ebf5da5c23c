"""A forward pass that begins above the frozen layers, with what they said of the same records before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from catena.errors import SettingsError

#: Largest difference of the logits of both ways, relative to the largest logit, that is taken for rounding.
_TOLERANCE = 1e-3
_REFUSAL = "`method.cache` is not there for this network, because {}; switch it off."


class _ArrivedError(Exception):
    """Ends a forward pass where nothing more is wanted of it."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class Shortcut:
    """The frozen layers of a network, and the module at which what they say arrives.

    Inside `starting`, frozen layers hand on what they are given without computing, and `entry` gets the
    kept outputs instead. Weights and their names stay as they are, and outside of it the network is whole.
    """

    def __init__(self, model: PreTrainedModel, skipped: Sequence[nn.Module], entry: nn.Module) -> None:
        self.model = model
        self.skipped = list(skipped)
        self.entry = entry
        #: What each frozen layer returns beside its outputs: nothing, or so many other values.
        self.others: list[int | None] = [None] * len(self.skipped)
        #: Type that the outputs arrive in.
        self.dtype = torch.float32

    @contextmanager
    def listening(self) -> Iterator[list[torch.Tensor]]:
        """What arrives at `entry` in the block's forward passes, the first time in each."""
        heard: list[torch.Tensor] = []

        def hear(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            heard.append(_first(given, named)[1])

        handle = self.entry.register_forward_pre_hook(hear, with_kwargs=True)
        try:
            yield heard
        finally:
            handle.remove()

    def states(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """What arrives at `entry` of a batch; nothing above it is computed."""

        def stop(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            raise _ArrivedError(_first(given, named)[1])

        handle = self.entry.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.model(**batch)
        except _ArrivedError as arrived:
            return arrived.states
        finally:
            handle.remove()
        raise RuntimeError("the forward pass did not come by the entry")

    @contextmanager
    def starting(self, states: torch.Tensor) -> Iterator[None]:
        """In the block, a forward pass of the same records begins with `states`, that is, at `entry`."""
        waiting = [states.to(self.dtype)]

        def replaced(
            module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if not waiting:
                return None
            name, _ = _first(given, named)
            if name is None:
                return (waiting.pop(), *given[1:]), named
            return given, named | {name: waiting.pop()}

        handle = self.entry.register_forward_pre_hook(replaced, with_kwargs=True)
        for layer, others in zip(self.skipped, self.others, strict=True):
            layer.__dict__["forward"] = _handing_on(others)
        try:
            yield
        finally:
            handle.remove()
            for layer in self.skipped:
                layer.__dict__.pop("forward", None)


def find_shortcut(
    model: PreTrainedModel,
    skipped: Sequence[nn.Module],
    entry: nn.Module | None,
    probe: Mapping[str, torch.Tensor],
) -> Shortcut:
    """The shortcut over the layers `skipped` to `entry`, tried out on the batch `probe`.

    Without `entry` it leads to the first part of the head, so that of a text only what the head reads is
    kept. Raises `SettingsError` where the network does not allow it: its layers are no plain stack, something
    that trains lies below, or both ways do not lead to the same logits.
    """
    training = model.training
    model.eval()
    try:
        if entry is None:
            entry = _first_of_head(model, probe)
        shortcut = Shortcut(model, skipped, entry)
        logits, states = _listen(shortcut, probe)
        if states.requires_grad:
            raise SettingsError(
                _REFUSAL.format(
                    "something that trains lies below its frozen layers, so what they say changes"
                )
            )
        with torch.no_grad():
            try:
                with shortcut.starting(_without_padding(states, probe)):
                    again = model(**probe).logits
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                raise SettingsError(_REFUSAL.format("its layers are not a plain stack")) from None
        if again.shape != logits.shape or _difference(logits, again, probe) > _TOLERANCE:
            raise SettingsError(
                _REFUSAL.format("its upper layers read more of the lower ones than their outputs")
            )
    finally:
        model.train(training)
    return shortcut


def by_token(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> bool:
    """Whether `states` has one vector for each token of the batch."""
    ids = batch.get("input_ids")
    return ids is not None and states.ndim == 3 and states.shape[:2] == ids.shape


def _listen(shortcut: Shortcut, probe: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the whole network, and what arrives at the entry on the way; notes what layers return."""
    handles = []
    for number, layer in enumerate(shortcut.skipped):

        def note(module: nn.Module, given: Any, output: Any, number: int = number) -> None:
            shortcut.others[number] = len(output) - 1 if isinstance(output, tuple) else None

        handles.append(layer.register_forward_hook(note))
    try:
        with torch.enable_grad(), shortcut.listening() as heard:
            logits = shortcut.model(**probe).logits.detach()
    finally:
        for handle in handles:
            handle.remove()
    plain = bool(heard) and isinstance(heard[0], torch.Tensor) and len(heard[0]) == len(logits)
    if not plain or ("input_ids" in probe and heard[0].ndim > 2 and not by_token(heard[0], probe)):
        raise SettingsError(_REFUSAL.format("its layers are not a plain stack"))
    shortcut.dtype = heard[0].dtype
    return logits, heard[0]


def _first_of_head(model: PreTrainedModel, probe: Mapping[str, torch.Tensor]) -> nn.Module:
    """The first module without modules inside that a forward pass reaches above what is frozen."""
    body = model.base_model
    inside = {id(module) for module in body.modules()}
    if (pooler := getattr(body, "pooler", None)) is not None and any(
        weight.requires_grad for weight in pooler.parameters()
    ):
        inside -= {id(module) for module in pooler.modules()}
    leaves = [
        module for module in model.modules() if id(module) not in inside and not list(module.children())
    ]
    reached: list[nn.Module] = []

    def reach(module: nn.Module, given: Any) -> None:
        reached.append(module)

    handles = [leaf.register_forward_pre_hook(reach) for leaf in leaves]
    try:
        with torch.no_grad():
            # A module that trains on token ids, below the frozen part, is found by `find_shortcut`.
            model(**probe)
    finally:
        for handle in handles:
            handle.remove()
    for module in reached:
        if not isinstance(module, nn.Embedding):
            return module
    raise SettingsError(_REFUSAL.format("it has no head of its own"))


def _handing_on(others: int | None) -> Callable[..., Any]:
    """What a frozen layer does instead of computing."""

    def handed_on(*given: Any, **named: Any) -> Any:
        hidden = _first(given, named)[1]
        return hidden if others is None else (hidden, *[None] * others)

    return handed_on


def _first(given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The first argument of a forward pass, and its name where it was given by name."""
    if given:
        return None, given[0]
    name = "hidden_states" if "hidden_states" in named else next(iter(named))
    return name, named[name]


def _without_padding(states: torch.Tensor, probe: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The states as they come from disk: zero where a text is padded."""
    states = states.detach()
    if not by_token(states, probe) or "attention_mask" not in probe:
        return states
    return states * probe["attention_mask"].unsqueeze(-1).to(states.dtype)


def _difference(one: torch.Tensor, other: torch.Tensor, probe: Mapping[str, torch.Tensor]) -> float:
    """Largest difference of logits of records, or of tokens that are no padding, relative to the largest."""
    one, other = one.float(), other.float()
    mask = probe.get("attention_mask")
    if mask is not None and one.ndim == 3 and one.shape[:2] == mask.shape:
        one, other = one[mask.bool()], other[mask.bool()]
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-6))

"""How networks read a prompt of learned embeddings: hooks on the part of them that reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from catena.methods.attention_prefix import Pair, noting, set_prefix, take_over


def _add_prompt(body: nn.Module, first: torch.Tensor) -> None:
    body.register_parameter("prompt", nn.Parameter(first.detach().clone().float()))


def _drawn(embeddings: nn.Embedding, count: int) -> torch.Tensor:
    """Embeddings `(count, width)` of tokens drawn at random."""
    device = embeddings.weight.device
    chosen = torch.randint(0, embeddings.num_embeddings, (count,), device=device)
    return embeddings.weight[chosen]


# -- encoders: the prompt is read together with the text -----------------------------------------------


def before_encoder(body: Any, count: int) -> None:
    """Let an encoder read `body.prompt` before each text, and give outputs of the text alone."""
    embeddings = body.get_input_embeddings()
    _add_prompt(body, _drawn(embeddings, count))
    reader = _Reader(body, count)
    body.register_forward_pre_hook(reader.before, with_kwargs=True)
    # where embeddings are looked up within, whatever is done to them there is done to the prompt as well
    embeddings.register_forward_hook(reader.looked_up)
    body.register_forward_hook(reader.after)


class _Reader:
    """The three moments at which a prompt meets an encoder."""

    def __init__(self, body: Any, count: int) -> None:
        self.body = body
        self.count = count
        self.parameters = tuple(inspect.signature(body.forward).parameters)
        padding = getattr(body.config, "pad_token_id", None)
        #: Stands for the prompt until it is put in; not the padding's, to which some give no position.
        self.stand_in = 1 if padding == 0 else 0
        self.inside = False

    def before(self, body: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        inputs: dict[str, Any] = dict(zip(self.parameters, given, strict=False)) | named
        ids: torch.Tensor | None = inputs.get("input_ids")
        read: torch.Tensor = inputs["inputs_embeds"] if ids is None else ids
        length = read.shape[1]
        for name, values in inputs.items():
            if isinstance(values, torch.Tensor) and values.ndim == 2 and values.shape[1] == length:
                filling = {"input_ids": self.stand_in, "attention_mask": 1}.get(name, 0)
                inputs[name] = nn.functional.pad(values, (self.count, 0), value=filling)
        if ids is None:
            inputs["inputs_embeds"] = torch.cat([self._prompt(read), read], dim=1)
        self.inside = ids is not None
        return (), inputs

    def looked_up(self, _: Any, given: Any, output: torch.Tensor) -> torch.Tensor | None:
        if not self.inside:
            return None
        return torch.cat([self._prompt(output), output[:, self.count :]], dim=1)

    def after(self, body: Any, given: Any, output: Any) -> Any:
        self.inside = False
        hidden = output.last_hidden_state = output.last_hidden_state[:, self.count :]
        # a pooler looks at the first place, which has to be the text's
        if getattr(body, "pooler", None) is not None:
            output.pooler_output = body.pooler(hidden)
        return output

    def _prompt(self, beside: torch.Tensor) -> torch.Tensor:
        prompt: torch.Tensor = self.body.prompt.to(beside)
        return prompt.unsqueeze(0).expand(len(beside), -1, -1)


# -- causal networks: the prompt is read once for all texts -----------------------------------------------


def before_text(body: Any, count: int) -> None:
    """Let a causal network go on from `body.prompt`.

    Nothing that comes later changes what the network makes of the prompt, so its keys and values are computed
    once and put before those of every text. Rotary positions begin below 0, so that distances are as if both
    stood in one row; where positions are learned, those of the text stay what they were.
    """
    _add_prompt(body, _drawn(body.get_input_embeddings(), count))
    take_over(body)
    memory = _Memory(body, count)
    body.register_forward_pre_hook(memory.before, with_kwargs=True)


class _Memory:
    """Keys and values of the prompt in each attention; while nothing is trained they are computed once."""

    def __init__(self, body: Any, count: int) -> None:
        self.count = count
        self.rotary = any("rotary" in type(module).__name__.lower() for module in body.modules())
        self.states: Mapping[nn.Module, Pair] = {}
        self.known: tuple[object, ...] | None = None
        self.reading = False

    def before(self, body: Any, given: Any, named: Any) -> None:
        if self.reading:
            return
        kind = body.prompt.device.type
        state = (
            body.prompt._version,
            body.prompt.device,
            torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind),
        )
        if torch.is_grad_enabled() or body.training or state != self.known:
            self._read(body)
            self.known = None if torch.is_grad_enabled() or body.training else state

    def _read(self, body: Any) -> None:
        places = torch.arange(self.count, device=body.prompt.device).unsqueeze(0)
        self.reading = True
        try:
            with noting() as notes:
                body(
                    inputs_embeds=body.prompt.unsqueeze(0),
                    position_ids=places - self.count if self.rotary else places,
                    use_cache=False,
                )
        finally:
            self.reading = False
        if not notes:
            raise ValueError("the network's attention does not ask transformers' registry")
        for module, (keys, values) in notes.items():
            set_prefix(module, partial(_same, (keys[0], values[0])))


def _same(pair: Pair) -> Pair:
    return pair


# -- networks for images -----------------------------------------------------------------------------


def after_patches(body: Any, count: int) -> None:
    """Let a network for images see `body.prompt` after its patches, and give outputs of the patches alone."""
    width = body.config.hidden_size
    _add_prompt(body, torch.randn(count, width, device=body.device) * body.config.initializer_range)

    def embedded(_: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        prompt = body.prompt.to(output).unsqueeze(0).expand(len(output), -1, -1)
        return torch.cat([output, prompt], dim=1)

    def after(_: Any, given: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, :-count]
        return output

    body.embeddings.register_forward_hook(embedded)
    body.register_forward_hook(after)

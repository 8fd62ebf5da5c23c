"""The network of a chain: one backbone, links between its layers, and a tail for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from catena.errors import ModelError, SettingsError
from catena.methods.base import Head
from catena.methods.chain_parts import Link, Tail
from catena.methods.depth import stack
from catena.settings import ChainSettings

WEIGHTS = "model.safetensors"
#: Key in `config.json` under which a chain says what its tails are.
MARK = "catena_chain"
#: How the names of links and tails begin in a stored chain; the backbone's keep their own, so that the folder
#: is a backbone's as well.
_OWN = "chain."
#: Side of the image, and number of the tokens, with which widths are found out.
_PROBE = 64, 8


class ChainNetwork(nn.Module):
    """Backbone → links → tails. `forward` answers for one tail; `encode` and `answer` share the backbone."""

    def __init__(
        self,
        body: Any,
        heads: Mapping[str, Head],
        settings: ChainSettings,
        *,
        pooling: str,
        dropout: float | None,
    ) -> None:
        super().__init__()
        self.body = body
        self.config = body.config
        if getattr(body, "pooler", None) is not None:
            body.pooler = None  # its weights would lie idle
        if dropout is not None:
            _set_dropout(body, dropout)
        self.sees_images = hasattr(body, "vectors")
        #: Tails taken over from an earlier chain.
        self.earlier: frozenset[str] = frozenset()
        self._mask: torch.Tensor | None = None
        #: What the backbone says of a chain that it is already, and what this one will say of itself.
        self._before: dict[str, Any] = getattr(body.config, MARK, None) or {}
        own = {
            "pooling": pooling,
            "links": [f"{link.kind} after layer {link.after}" for link in settings.links],
            "tails": {name: list(head.label_names) for name, head in heads.items()},
            "heads": {name: head.kind for name, head in heads.items()},
        }
        setattr(body.config, MARK, own)
        layers = stack(body)
        _check_links(settings, len(layers))
        widths, width, forwards = _widths(body, layers, self.sees_images)
        if forwards and pooling == "native":
            pooling = "last"  # the only token that has seen the whole text
        self.links = nn.ModuleList(Link(widths[link.after - 1], link) for link in settings.links)
        for link, chosen in zip(self.links, settings.links, strict=True):
            layers[chosen.after - 1].register_forward_hook(self._linked(link))
        rate = dropout if dropout is not None else float(getattr(body.config, "hidden_dropout_prob", 0.0))
        #: For each tail s, the logarithm of its squared uncertainty.
        self.uncertainty = nn.Parameter(torch.zeros(len(heads)))
        self.tails = nn.ModuleDict(
            {
                name: Tail(
                    width,
                    head.kind,
                    len(head.label_names),
                    size=settings.tail_size,
                    pooling=pooling,
                    dropout=rate,
                )
                for name, head in heads.items()
            }
        )

    def _linked(self, link: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.ndim == 4:  # (batch, channels, height, width) of a network for images
                places = link(hidden.flatten(2).transpose(1, 2), None)
                changed = places.transpose(1, 2).reshape(hidden.shape)
            else:
                changed = link(hidden, self._mask)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    def train(self, mode: bool = True) -> ChainNetwork:
        """A frozen backbone stays as it is: no dropout, and no running mean that moves."""
        super().train(mode)
        if not any(weight.requires_grad for weight in self.body.parameters()):
            self.body.eval()
        return self

    # -- from inputs to logits ---------------------------------------------------------------

    def encode(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One pass through backbone and links: `(batch, length, width)`, or of images `(batch, width)`."""
        self._mask = attention_mask
        try:
            if self.sees_images:
                vectors: torch.Tensor = self.body.vectors(pixel_values)
                return vectors
            hidden: torch.Tensor = self.body(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            return hidden
        finally:
            self._mask = None

    def answer(
        self,
        tail: str,
        outputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **told: torch.Tensor,
    ) -> torch.Tensor:
        """Logits of one tail for outputs of `encode`; `told` is what this tail alone is told of tokens."""
        logits: torch.Tensor = self.tails[tail](outputs, attention_mask, **told)
        return logits

    def forward(
        self,
        tail: str,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        **told: torch.Tensor,
    ) -> SequenceClassifierOutput:
        outputs = self.encode(input_ids, attention_mask, pixel_values)
        return SequenceClassifierOutput(logits=self.answer(tail, outputs, attention_mask, **told))

    # -- storage -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write configuration and weights; the folder can be read as the backbone's, too."""
        self.config.save_pretrained(folder)
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.body.state_dict().items()
        }
        weights |= {f"{_OWN}{name}": tensor for name, tensor in self._own_state().items()}
        # transformers reads no file that does not say whose tensors these are
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    def load(self, folder: Path) -> None:
        """Take all weights from a stored chain. Raises `ModelError` unless they are exactly these."""
        stored = _read(folder)
        own = {name.removeprefix(_OWN): value for name, value in stored.items() if name.startswith(_OWN)}
        body = {name: value for name, value in stored.items() if not name.startswith(_OWN)}
        try:
            self.body.load_state_dict(body)
            missing, unknown = self.load_state_dict(own, strict=False)
        except RuntimeError as error:
            raise ModelError(
                f"{folder / WEIGHTS} holds another chain: {str(error).splitlines()[-1].strip()}"
            ) from None
        missing = [name for name in missing if not name.startswith("body.")]
        if missing or unknown:
            raise ModelError(
                f"{folder / WEIGHTS} holds another chain: {(missing or unknown)[0]} does not fit."
            )

    def take_over(self, folder: Path) -> None:
        """Go on from the links and tails of the chain in `folder`, if it is one; new tails stay new.

        The backbone was read from there already. Raises `SettingsError` where what is there does not fit.
        """
        stored = _read(folder)
        own = {name.removeprefix(_OWN): value for name, value in stored.items() if name.startswith(_OWN)}
        if not own:
            return
        present = {name.split(".")[1] for name in own if name.startswith("tails.")}
        self._check_earlier(present)
        self.earlier = frozenset(present)
        own.pop("uncertainty", None)
        mine = self._own_state()
        for name, value in own.items():
            if name not in mine or mine[name].shape != value.shape:
                raise SettingsError(
                    f"The backbone is a chain whose {name} is not what `method.chain` and the tails' classes "
                    "now make of it; a chain goes on with the links, the `tail_size` and the classes it has."
                )
        self.load_state_dict(own, strict=False)

    def _check_earlier(self, present: set[str]) -> None:
        if gone := sorted(present - set(self.tails)):
            raise SettingsError(
                f"The backbone is a chain with a tail {gone[0]}, which `problem.tails` does not have; keep "
                "it there."
            )
        now: dict[str, Any] = getattr(self.config, MARK)
        if self._before.get("pooling", now["pooling"]) != now["pooling"]:
            raise SettingsError(
                f"The backbone is a chain with `backbone.pooling` {self._before['pooling']}; leave it "
                "at that."
            )
        if self._before.get("links", now["links"]) != now["links"]:
            raise SettingsError(
                f"The backbone is a chain with the links {_listed(self._before['links'])}, and "
                f"`method.chain.links` has {_listed(now['links'])}; a chain goes on with those it has."
            )
        for name, labels in self._before.get("tails", {}).items():
            if labels != now["tails"][name]:
                raise SettingsError(
                    f"The backbone is a chain whose tail {name} knows the classes {', '.join(labels[:10])}, "
                    f"and now its data have {', '.join(now['tails'][name][:10])}; give it another name or "
                    "its old data."
                )
        for name, kind in self._before.get("heads", {}).items():
            if kind != now["heads"][name]:
                raise SettingsError(
                    f"The backbone is a chain whose tail {name} has a head for {kind}, and now it is to be "
                    f"one for {now['heads'][name]}; give it another name or its old problem."
                )

    def _own_state(self) -> dict[str, torch.Tensor]:
        return {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.startswith("body.")
        }


class TailView(nn.Module):
    """One tail with the backbone, as a network for that problem alone."""

    def __init__(self, network: ChainNetwork, tail: str) -> None:
        super().__init__()
        self.network = network
        self.tail = tail
        self.config = network.config

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        output: SequenceClassifierOutput = self.network(self.tail, **inputs)
        return output

    def vectors(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """What the tail sees of images `(batch, width)`."""
        return self.network.encode(pixel_values=pixel_values)

    def base_model(self, **inputs: torch.Tensor) -> BaseModelOutput:
        """What the tail sees of tokens `(batch, length, width)`."""
        return BaseModelOutput(last_hidden_state=self.network.encode(**inputs))


@dataclass(frozen=True)
class _Probe:
    """The width of a layer's output, noticed as it passes."""

    widths: list[int]

    def __call__(self, _: nn.Module, __: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self.widths.append(int(hidden.shape[1] if hidden.ndim == 4 else hidden.shape[-1]))


@torch.no_grad()
def _widths(body: Any, layers: list[nn.Module], images: bool) -> tuple[list[int], int, bool]:
    """Widths of the layers' outputs and of what tails see, and whether tokens see only those before them."""
    side, length = _PROBE
    probe = _Probe([])
    hooks = [layer.register_forward_hook(probe) for layer in layers]
    training = body.training
    forwards = False
    try:
        body.eval()
        if images:
            outputs = body.vectors(torch.zeros(1, 3, side, side))
        else:
            # two texts that differ in their last token alone
            tokens = torch.ones(2, length, dtype=torch.long)
            mask = torch.ones_like(tokens)
            tokens[1, -1] = 2
            outputs = body(input_ids=tokens, attention_mask=mask).last_hidden_state
            forwards = torch.equal(outputs[0, 0], outputs[1, 0])
    finally:
        body.train(training)
        for hook in hooks:
            hook.remove()
    return probe.widths, int(outputs.shape[-1]), forwards


def _check_links(settings: ChainSettings, layers: int) -> None:
    for link in settings.links:
        if link.after > layers:
            raise SettingsError(
                f"`method.chain.links` has one after layer {link.after}, but the backbone has only {layers} "
                "layers."
            )


def _listed(links: list[str]) -> str:
    return ", ".join(links) or "none"


def _set_dropout(body: nn.Module, rate: float) -> None:
    """Set every dropout that the network uses, or where it uses none all that it has."""
    there = [module for module in body.modules() if isinstance(module, nn.Dropout)]
    for module in [module for module in there if module.p > 0] or there:
        module.p = rate


def _read(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        return {}
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is cut off or damaged ({error}).") from None

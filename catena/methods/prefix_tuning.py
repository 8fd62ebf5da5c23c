"""Prefix tuning: learned keys and values before those of every text (Li and Liang 2021, arXiv 2101.00190)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from catena.errors import ModelError, SettingsError
from catena.methods.adapted import Adapted
from catena.methods.base import Surroundings
from catena.methods.targets import kind_of

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

#: Name of the child of an attention module that holds its prefix.
_CHILD = "prefix"
_KEYS, _VALUES = "learned_keys", "learned_values"


class PrefixTuning(Adapted):
    """Learned keys and values before those of every text, in each attention of the network.

    `virtual_tokens` of them, in encoder and decoder alike. They begin as what the network makes of tokens
    drawn at random (of noise, where it reads images), near what it knows, which spares the reparametrisation
    of the paper.
    """

    name = "prefix_tuning"

    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        from torch import nn

        from catena.methods.attention_prefix import set_prefix, take_over

        model.requires_grad_(False)
        take_over(model)
        found = self._drawn(model, around) if stored is None else _shaped(model, stored)
        for module, (keys, values) in found.items():
            prefix = nn.ParameterDict({_KEYS: nn.Parameter(keys), _VALUES: nn.Parameter(values)})
            module.add_module(_CHILD, prefix)
            set_prefix(module, partial(_pair, prefix))

    def undecayed(self, model: PreTrainedModel) -> frozenset[str]:
        return frozenset(name for name, _ in model.named_parameters() if f".{_CHILD}." in name)

    def _drawn(self, model: PreTrainedModel, around: Surroundings) -> Mapping[nn.Module, Any]:
        """First prefixes `(heads, virtual tokens, width)` by the attention modules that take one."""
        from catena.methods.attention_prefix import noting
        from catena.methods.trial import try_out

        count = self.peft.virtual_tokens
        with noting() as notes:
            try_out(model, around.head.kind, _unfit(model), count)
        if not notes:
            raise _unfit(model)
        return {
            module: tuple(_tiled(part[0], count).float() for part in pair) for module, pair in notes.items()
        }


def _pair(prefix: nn.ParameterDict) -> tuple[torch.Tensor, torch.Tensor]:
    return prefix[_KEYS], prefix[_VALUES]


def _tiled(states: torch.Tensor, count: int) -> torch.Tensor:
    """`count` places of `(heads, places, width)`, from the beginning again where there are fewer."""
    times = -(-count // states.shape[1])
    return states.repeat(1, times, 1)[:, :count].clone()


def _shaped(model: PreTrainedModel, stored: Mapping[str, torch.Tensor]) -> Mapping[nn.Module, Any]:
    """Prefixes of the shapes that are stored, by the modules they are stored for."""
    import torch

    found = {}
    for name, keys in stored.items():
        path, _, last = name.rpartition(f".{_CHILD}.")
        values = stored.get(f"{path}.{_CHILD}.{_VALUES}")
        if last != _KEYS or values is None:
            continue
        try:
            module = model.get_submodule(path)
        except AttributeError:
            raise ModelError(f"The adapter holds {name}, but the network has no {path}.") from None
        found[module] = torch.zeros_like(keys), torch.zeros_like(values)
    return found


def _unfit(model: PreTrainedModel) -> SettingsError:
    return SettingsError(
        f"`method.name` prefix_tuning does not fit the backbone ({kind_of(model)}): it has no attention that "
        "a prefix can be put before; choose lora or bitfit."
    )

"""Chains: one shared backbone, links between its layers, and a tail for each of several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catena.errors import SettingsError
from catena.methods.base import Head, Method, Read, Surroundings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Chain(Method):
    """Several tasks on one backbone, so that one pass through it answers all of them.

    The network is a `ChainNetwork`; `catena.training.chain` builds it and trains its tails in turn.
    """

    name = "chain"
    heads = frozenset(
        {
            "sequence-classification",
            "multi-label-classification",
            "regression",
            "token-classification",
            "token-chain",
            "image-classification",
        }
    )

    def check(self, problem: str, head: Head) -> None:
        if self.heads is not None and head.kind not in self.heads:
            why = (
                "embeds texts by themselves; use `architecture: cross_encoder`"
                if head.kind == "pair-embedding"
                else "writes texts"
            )
            raise SettingsError(f"The problem {problem} cannot be a tail of a chain, because it {why}.")

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        """Freeze what is not to move: the backbone at rate 0, of a chain that is kept all but new tails."""
        chain, network = self.settings.chain, _network(model)
        keeps = bool(network.earlier) and chain.earlier == "keep"
        network.requires_grad_(True)
        network.body.requires_grad_(False)
        network.uncertainty.requires_grad_(chain.weighting == "uncertainty")
        if keeps:
            network.links.requires_grad_(False)
            for name, tail in network.tails.items():
                tail.requires_grad_(name not in network.earlier)
        elif chain.backbone_rate > 0:
            network.body.base_model.requires_grad_(True)
        return model

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        chain = self.settings.chain
        rates = {"body.": chain.backbone_rate, "uncertainty": chain.uncertainty_rate}
        return {
            name: rate
            for name, _ in model.named_parameters()
            for part, rate in rates.items()
            if name.startswith(part)
        }

    def weighed(self, model: Any, tail: str, loss: torch.Tensor) -> torch.Tensor:
        """A tail's loss as it counts: times its weight, and by its uncertainty (Kendall et al. 2018).

        With s = log σ² that is w · (exp(-s) · loss + s / 2), which is least where σ² = 2 · loss.
        """
        network = _network(model)
        chain = self.settings.chain
        weight = chain.weights.get(tail, 1.0)
        if chain.weighting == "uncertainty":
            log_variance = network.uncertainty[list(network.tails).index(tail)]
            loss = loss * (-log_variance).exp() + log_variance / 2
        return weight * loss

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        _network(model).save(folder)

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        raise SettingsError("A chain is loaded whole, with all its tails; see `catena.chain_predictor`.")


def _network(model: Any) -> Any:
    """The chain's network, out of whatever training wraps around it."""
    return getattr(model, "module", model)

"""AdaLoRA: updates whose ranks go to the layers that need them (Zhang et al. 2023, arXiv 2303.10512)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from catena.errors import SettingsError
from catena.methods.tuner import ADAPTER_NAME, Tuned, check_rank

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

#: Running means, by peft's names, from which the importance of a rank follows.
_MEANS = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_PATTERN = "rank_pattern"


class AdaLora(Tuned):
    """Updates as LoRA's whose ranks go to the layers that need them; merged into the weights in the end.

    `W + α/r · B diag(e) A` with r the rank in the beginning: values of `e` are set to zero, the least
    important first, until the mean rank is `rank`; `A` and `B` are kept near orthogonal by a term of the
    loss. Where weights from before that end were better on the validation part, they are what is kept, with
    the ranks they had.
    """

    name = "adalora"

    def tuner(self, model: PreTrainedModel, layers: dict[str, nn.Module], common: dict[str, Any]) -> Any:
        from peft import AdaLoraConfig
        from peft.tuners.adalora import AdaLoraModel

        initial = self.peft.initial_rank or math.ceil(1.5 * self.peft.rank)
        if initial <= self.peft.rank:
            raise SettingsError(
                f"`method.peft.initial_rank` is {initial}, but must be above `method.peft.rank` "
                f"({self.peft.rank}), so that ranks can be taken away."
            )
        check_rank(initial, layers, "initial_rank" if self.peft.initial_rank else "rank (times 1.5)")
        config = AdaLoraConfig(
            init_r=initial,
            target_r=self.peft.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.peft.dropout,
            deltaT=self.peft.interval,
            total_step=1,  # until the first step says
            **common,
        )
        tuner = AdaLoraModel(model, config, ADAPTER_NAME)
        self._factors = [
            weight for name, weight in model.named_parameters() if ".lora_A." in name or ".lora_B." in name
        ]
        return tuner

    @property
    def _config(self) -> Any:
        return self._tuner.peft_config[ADAPTER_NAME]

    def before_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        first = round(self.peft.full_rank_share * steps)
        last = max(1, round(self.peft.final_rank_share * steps))
        if first >= steps - last:
            raise SettingsError(
                f"`method.name` adalora needs more steps than {steps} to take ranks away between "
                "`method.peft.full_rank_share` and `method.peft.final_rank_share`; lower one, or train "
                "longer."
            )
        config = self._config
        config.total_step, config.tinit, config.tfinal = steps, first, last

    def after_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        self._tuner.update_and_allocate(step)

    def loss(
        self, outputs: Any, labels: torch.Tensor, of_logits: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The problem's own, and the mean distance of `A Aᵀ` and `Bᵀ B` from the identity."""
        import torch

        distances = []
        for factor in self._factors:
            product = factor @ factor.T if factor.shape[0] < factor.shape[1] else factor.T @ factor
            distances.append(torch.linalg.matrix_norm(product - torch.eye(len(product)).to(product)))
        return of_logits(outputs.logits) + self.peft.orthogonality * torch.stack(distances).mean()

    def state(self) -> dict[str, torch.Tensor]:
        """The means behind each weight's importance, and which ranks are left."""
        import torch

        allocator = self._tuner.rankallocator
        means = {
            f"{kind}/{name}": values for kind in _MEANS for name, values in getattr(allocator, kind).items()
        }
        pattern = self._config.rank_pattern or {}
        return means | {f"{_PATTERN}/{name}": torch.tensor(left) for name, left in pattern.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        allocator = self._tuner.rankallocator
        allocator.reset_ipt()
        pattern: dict[str, list[bool]] = {}
        for key, values in state.items():
            kind, _, name = key.partition("/")
            if kind == _PATTERN:
                pattern[name] = values.tolist()
            else:
                getattr(allocator, kind)[name] = values.to(self._factors[0].device)
        self._config.rank_pattern = pattern or None

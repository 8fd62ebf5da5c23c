"""LoRA: an update of low rank beside each of some layers (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catena.methods.tuner import ADAPTER_NAME, Tuned, check_rank

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Lora(Tuned):
    """An update of low rank, `α/r · B A`, beside each of some layers; merged into their weights in the end.

    `B` is zero in the beginning. With `rank_stabilized` α/√r in place of α/r (Kalajdzievski 2023, arXiv
    2312.03732); with `dora` the length of every column is learned apart from its direction (Liu et al. 2024,
    arXiv 2402.09353).
    """

    name = "lora"

    def tuner(self, model: PreTrainedModel, layers: dict[str, nn.Module], common: dict[str, Any]) -> Any:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        check_rank(self.peft.rank, layers, "rank")
        config = LoraConfig(
            r=self.peft.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.peft.dropout,
            use_rslora=self.peft.rank_stabilized,
            use_dora=self.peft.dora,
            **common,
        )
        return LoraModel(model, config, ADAPTER_NAME)

"""Two towers: one encoder that embeds both texts of a pair, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

#: Key in `config.json` by which a stored network of this kind is known.
MARK = "catena_towers"


class TwoTowers(PreTrainedModel):  # type: ignore[misc]
    """Encoder → mean over the text's tokens → length 1; both texts of a pair through the same weights.

    After Reimers and Gurevych 2019 (Sentence-BERT, arXiv 1908.10084).
    """

    config_class = PretrainedConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # its weights would lie idle
        self.post_init()

    @classmethod
    def around(cls, folder: Path, config: PretrainedConfig, **options: Any) -> TwoTowers:
        """The pretrained encoder in `folder`, with nothing new on it."""
        setattr(config, MARK, "shared")
        model = cls(config)
        pretrained = AutoModel.from_pretrained(folder, config=config, **options)
        missing = model.encoder.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        if missing:
            raise ValueError(f"the encoder lacks {missing[0]}")
        return model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """Of pairs `(batch, 2, length)` both embeddings side by side `(batch, 2 · hidden)`."""
        batch, sides, length = input_ids.shape
        vectors = self.embed(input_ids.view(-1, length), attention_mask.view(-1, length))
        return SequenceClassifierOutput(logits=vectors.view(batch, sides * vectors.shape[-1]))

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Embeddings of length 1 `(batch, hidden)` of texts `(batch, length)`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return functional.normalize(mean, dim=-1)

"""A classifier on the mean of an encoder's outputs, the way sentence encoders were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

#: Key in `config.json` by which a stored network of this kind is known.
MARK = "catena_pooling"


class MeanPooledClassifier(PreTrainedModel):  # type: ignore[misc]
    """Encoder → mean of the last hidden states over the text's tokens → dropout → linear head.

    After Reimers and Gurevych 2019 (Sentence-BERT, arXiv 1908.10084), who found the mean better than
    the first token for networks that are to embed whole texts.
    """

    config_class = PretrainedConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # its weights would lie idle
        rate: float | None = getattr(config, "classifier_dropout", None)
        if rate is None:
            rate = float(getattr(config, "hidden_dropout_prob", 0.0))
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @classmethod
    def around(cls, folder: Path, config: PretrainedConfig, **options: Any) -> MeanPooledClassifier:
        """A new head on the pretrained encoder in `folder`."""
        setattr(config, MARK, "mean")
        model = cls(config)
        pretrained = AutoModel.from_pretrained(folder, config=config, **options)
        missing = model.encoder.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        if missing:
            raise ValueError(f"the encoder lacks {missing[0]}")
        return model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """Logits `(batch, labels)` of token ids and mask `(batch, length)`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

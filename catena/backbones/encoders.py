"""What the networks share that transformers lacks: first values of the weights, and a classifier on top."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput


class EncoderConfig(PretrainedConfig):  # type: ignore[misc]
    """Token embeddings, and an output of `hidden_size` for each token."""

    model_type = "catena-encoder"

    vocab_size: int = 8000
    embedding_size: int = 128
    hidden_size: int = 256
    hidden_dropout_prob: float = 0.1
    initializer_range: float = 0.1
    pad_token_id: int | None = 0


class Encoder(PreTrainedModel):  # type: ignore[misc]
    """A network of PyTorch's own layers in the form of transformers, so that it is stored like any other."""

    config_class = EncoderConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True  # it has no attention, so any kernel will do
    _no_split_modules: list[str] = []  # noqa: RUF012 - transformers declares it so

    def _init_weights(self, module: nn.Module) -> None:
        """Glorot and Bengio 2010 for matrices, orthogonal from one state to the next (Saxe et al. 2014)."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters():
                if name.startswith("weight_ih"):
                    initialization.xavier_uniform_(weight)
                elif name.startswith("weight_hh"):
                    initialization.orthogonal_(weight)
                else:
                    initialization.zeros_(weight)
        else:
            super()._init_weights(module)


class EncoderClassifier(Encoder):
    """Encoder → its own vector for the text (`pooler_output`) → dropout → linear head.

    Subclasses name the `config_class` and make the encoder.
    """

    def __init__(self, config: PretrainedConfig, encoder: Encoder) -> None:
        super().__init__(config)
        self.encoder = encoder
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """Logits `(batch, labels)` of token ids and mask `(batch, length)`."""
        output: BaseModelOutputWithPooling = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(output.pooler_output)))

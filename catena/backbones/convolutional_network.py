"""Filters of several widths over token embeddings, each reporting where it fits best."""

from __future__ import annotations

from dataclasses import field

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPooling

from catena.backbones.encoders import Encoder, EncoderClassifier, EncoderConfig


class ConvolutionalConfig(EncoderConfig):
    """`filters` of each of the `kernel_sizes`; `hidden_size`, that of the output, follows from them."""

    model_type = "catena-convolutional"

    filters: int = 128
    kernel_sizes: list[int] = field(default_factory=lambda: [1, 2, 3, 4])

    def __post_init__(self, **kwargs: object) -> None:
        self.hidden_size = self.filters * len(self.kernel_sizes)
        super().__post_init__(**kwargs)


class ConvolutionalModel(Encoder):
    """Embeddings → one layer of filters → the maximum over the text (Kim 2014, arXiv 1408.5882)."""

    config_class = ConvolutionalConfig
    #: Its `layers` stand side by side, so that none is above another.
    stacked = False

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, size) for size in config.kernel_sizes
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutputWithPooling:
        """Outputs `(batch, length, hidden)`, and their maxima over each text's tokens `(batch, hidden)`."""
        mask = attention_mask.unsqueeze(1).bool()
        # Padding is silent, so a text's outputs do not depend on the batch it is in.
        embedded = self.dropout(self.embeddings(input_ids)).transpose(1, 2) * mask
        found = []
        for size, layer in zip(self.config.kernel_sizes, self.layers, strict=True):
            before = (size - 1) // 2
            padded = nn.functional.pad(embedded, (before, size - 1 - before))
            found.append(torch.relu(layer(padded)))
        output = torch.cat(found, dim=1)
        best = output.masked_fill(~mask, 0.0).amax(dim=2)  # nothing is below 0 after the ReLU
        return BaseModelOutputWithPooling(last_hidden_state=output.transpose(1, 2), pooler_output=best)


class ConvolutionalForSequenceClassification(EncoderClassifier):
    """A convolutional network with a linear head on its maxima."""

    config_class = ConvolutionalConfig

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config, ConvolutionalModel(config))


def register() -> None:
    """Make transformers' Auto classes know the network."""
    AutoConfig.register(ConvolutionalConfig.model_type, ConvolutionalConfig, exist_ok=True)
    AutoModel.register(ConvolutionalConfig, ConvolutionalModel, exist_ok=True)
    AutoModelForSequenceClassification.register(
        ConvolutionalConfig, ConvolutionalForSequenceClassification, exist_ok=True
    )

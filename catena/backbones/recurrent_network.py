"""Recurrent layers over token embeddings, with every text read exactly as far as it goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPooling

from catena.backbones.encoders import Encoder, EncoderClassifier, EncoderConfig

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentConfig(EncoderConfig):
    """`cell_size` is the width of one direction; `hidden_size`, that of the output, follows from it."""

    model_type = "catena-recurrent"

    cell: str = "lstm"
    cell_size: int = 128
    num_hidden_layers: int = 1
    bidirectional: bool = True

    def __post_init__(self, **kwargs: object) -> None:
        self.hidden_size = self.cell_size * (2 if self.bidirectional else 1)
        super().__post_init__(**kwargs)


class RecurrentModel(Encoder):
    """Embeddings → RNN, LSTM or GRU layers (Elman 1990; Hochreiter and Schmidhuber 1997; Cho et al. 2014).

    Texts are packed by their lengths, so that padding is neither read nor computed, and the backward
    direction (Schuster and Paliwal 1997) begins at a text's own end.
    """

    config_class = RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        cell = CELLS[config.cell]
        widths = [config.embedding_size, *[config.hidden_size] * (config.num_hidden_layers - 1)]
        # One module a layer: dropout between them then draws from PyTorch's own stream on any device,
        # and the method `top_layers` can tell them apart.
        self.layers = nn.ModuleList(
            cell(width, config.cell_size, batch_first=True, bidirectional=config.bidirectional)
            for width in widths
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutputWithPooling:
        """Outputs `(batch, length, hidden)`, and each text's last states `(batch, hidden)`.

        Padding stands on the right. The last states are those after the whole text has been read: the
        forward direction's at its end, the backward direction's at its beginning.
        """
        lengths = attention_mask.sum(1).clamp(min=1).cpu()
        embedded = self.dropout(self.embeddings(input_ids))
        # Recurrent kernels keep float32, for small differences add up over the steps.
        with torch.autocast(embedded.device.type, enabled=False):
            packed = pack_padded_sequence(embedded.float(), lengths, batch_first=True, enforce_sorted=False)
            state = packed.data
            for number, layer in enumerate(self.layers):
                if number:
                    packed = PackedSequence(
                        self.dropout(packed.data),
                        packed.batch_sizes,
                        packed.sorted_indices,
                        packed.unsorted_indices,
                    )
                packed, state = layer(packed)
            hidden = state[0] if isinstance(state, tuple) else state  # an LSTM's state has a cell as well
            output, _ = pad_packed_sequence(packed, batch_first=True, total_length=input_ids.shape[1])
        return BaseModelOutputWithPooling(
            last_hidden_state=output, pooler_output=hidden.transpose(0, 1).flatten(1)
        )


class RecurrentForSequenceClassification(EncoderClassifier):
    """A recurrent network with a linear head on its last states."""

    config_class = RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config, RecurrentModel(config))


def register() -> None:
    """Make transformers' Auto classes know the network."""
    AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig, exist_ok=True)
    AutoModel.register(RecurrentConfig, RecurrentModel, exist_ok=True)
    AutoModelForSequenceClassification.register(
        RecurrentConfig, RecurrentForSequenceClassification, exist_ok=True
    )

"""A head over tokens, on an encoder that may also be told how the words are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from catena.backbones.segments import segment_ids
from catena.transitions import with_transitions

#: Key in `config.json` by which a stored network of this kind is known; its value is the number of shapes.
MARK = "catena_shapes"
#: Key in `config.json` that says whether scores of one label after another are learned.
TRANSITIONS = "catena_transitions"
#: How many ways of writing a word there is room for (`problems.word_pieces.SHAPES` names seven).
SHAPES = 8


class TokenTagger(PreTrainedModel):  # type: ignore[misc]
    """Encoder → dropout → linear head on the output of every token.

    Where tokens are lower-cased, a vector for the way their word is written (`shape_ids`) is added to
    their embedding, as Collobert et al. 2011 do with capitalization. These vectors begin at zero, so
    that the encoder first reads what it was pretrained on.

    Where the configuration says so (`chain_labels`), there are scores of one label after another as well.
    They are the same for every token and stand behind its own scores, so that all is in one tensor.
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
        width = self.encoder.get_input_embeddings().embedding_dim
        self.shapes = nn.Embedding(getattr(config, MARK), width)
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.transitions: nn.Parameter | None = None
        if getattr(config, TRANSITIONS, False):
            self.transitions = nn.Parameter(torch.zeros(config.num_labels, config.num_labels))
        self.post_init()
        nn.init.zeros_(self.shapes.weight)

    @classmethod
    def around(cls, folder: Path, config: PretrainedConfig, **options: Any) -> TokenTagger:
        """A new head on the pretrained encoder in `folder`."""
        setattr(config, MARK, SHAPES)
        model = cls(config)
        pretrained = AutoModel.from_pretrained(folder, config=config, **options)
        missing = model.encoder.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        if missing:
            raise ValueError(f"the encoder lacks {missing[0]}")
        return model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        shape_ids: torch.Tensor | None = None,
    ) -> TokenClassifierOutput:
        """Logits `(batch, length, labels)` of token ids, mask and shapes `(batch, length)`.

        With transitions they are `(batch, length, labels + labels²)`.
        """
        embedded = self.encoder.get_input_embeddings()(input_ids)
        if shape_ids is not None:
            embedded = embedded + self.shapes(shape_ids)
        told = segment_ids(self.config, input_ids)
        kinds = {} if told is None else {"token_type_ids": told}
        hidden = self.encoder(
            inputs_embeds=embedded, attention_mask=attention_mask, **kinds
        ).last_hidden_state
        logits = self.classifier(self.dropout(hidden))
        if self.transitions is not None:
            logits = with_transitions(logits, self.transitions)
        return TokenClassifierOutput(logits=logits)


def chain_labels(config: PretrainedConfig, chained: bool) -> None:
    """Write into a configuration whether scores of one label after another are learned."""
    if chained:
        setattr(config, TRANSITIONS, True)

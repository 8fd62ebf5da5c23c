"""Language models that answer as a problem's head would: they are asked about each record in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from catena.methods.prompt_asking import Asker
from catena.methods.prompt_examples import Example
from catena.methods.prompt_words import bare, words

#: Log-odds against a tag that cannot be meant.
_NEVER = -30.0


class Asked(PreTrainedModel):  # type: ignore[misc]
    """A language model, and how it is asked."""

    config_class = PretrainedConfig
    base_model_prefix = "network"
    _supports_sdpa = True

    def __init__(self, network: PreTrainedModel, asker: Asker) -> None:
        super().__init__(network.config)
        self.network = network
        self.asker = asker

    @property
    def base_model(self) -> Any:
        """The network without its head."""
        return self.network.base_model

    def rows(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[list[int]]:
        """The tokens of each row `(batch, length)`, without padding."""
        return [
            [int(token) for token, there in zip(ids, mask, strict=True) if there]
            for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True)
        ]


class PromptClassifier(Asked):
    """The label's word after, or in, a prompt about the text."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """Logits `(batch, labels)`, log-probabilities up to a constant, of token ids `(batch, length)`."""
        texts = [stripped(self.asker, ids) for ids in self.rows(input_ids, attention_mask)]
        return SequenceClassifierOutput(logits=self.asker([{"text": ids} for ids in texts]))


class PromptTagger(Asked):
    """The label of each word, asked for word by word; neighbours of one label are taken for one entity.

    Words are as `catena.methods.prompt_words.words` finds them.
    """

    def __init__(self, network: PreTrainedModel, asker: Asker, tags: Sequence[str]) -> None:
        super().__init__(network, asker)
        self.tags = tuple(tags)
        self.labels = asked_labels(tags)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any
    ) -> TokenClassifierOutput:
        """Logits `(batch, length, tags)`, log-probabilities, of token ids and mask `(batch, length)`."""
        rows = self.rows(input_ids, attention_mask)
        asked: list[dict[str, list[int]]] = []
        places: list[tuple[int, list[int]]] = []
        for row, ids in enumerate(rows):
            text, offset = stripped(self.asker, ids), inner_start(self.asker, ids)
            for word in words(self.asker, text):
                asked.append({"text": text, "word": bare(self.asker, text, word)})
                places.append((row, [offset + at for at in word]))
        logits = torch.full((*input_ids.shape, len(self.tags)), _NEVER, device=input_ids.device)
        logits[..., 0] = 0.0
        if asked:
            scores = torch.log_softmax(self.asker(asked), dim=-1)
            numbers = {tag: number for number, tag in enumerate(self.tags)}
            before = (-1, "O")
            for (row, tokens), likely in zip(places, scores, strict=True):
                label = self.labels[int(likely.argmax())]
                goes_on = before == (row, label)
                before = row, label
                for piece, at in enumerate(tokens):
                    logits[row, at] = _NEVER
                    logits[row, at, 0] = likely[0]
                    for number, name in enumerate(self.labels[1:], start=1):
                        inside = piece > 0 or (goes_on and name == label)
                        logits[row, at, numbers[f"{'I' if inside else 'B'}-{name}"]] = likely[number]
        return TokenClassifierOutput(logits=logits)


def asked_labels(tags: Sequence[str]) -> list[str]:
    """What is asked for where `tags` are the head's: `O`, and each label without its B or I."""
    return ["O", *dict.fromkeys(tag[2:] for tag in tags if tag.startswith("B-"))]


def stripped(asker: Asker, ids: Sequence[int]) -> list[int]:
    """A record's tokens without the special ones around them."""
    start = inner_start(asker, ids)
    after = asker.around[1]
    ends = bool(after) and list(ids[-len(after) :]) == after
    return list(ids[start : len(ids) - len(after) if ends else len(ids)])


def inner_start(asker: Asker, ids: Sequence[int]) -> int:
    """Where a record's own tokens begin."""
    before = asker.around[0]
    return len(before) if before and list(ids[: len(before)]) == before else 0


def tokens_of(values: Any) -> list[int]:
    """A feature with one number for each token, as a list."""
    return [int(value) for value in values]


def label_of(record: Mapping[str, Any]) -> int:
    """The number of a record's label; where it has a probability for each, of the likeliest."""
    label = record["labels"]
    return int(np.argmax(label)) if np.ndim(label) else int(label)


def text_examples(asker: Asker, records: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Records of a classification as examples."""
    return [
        Example({"text": stripped(asker, tokens_of(record["input_ids"]))}, label_of(record))
        for record in records
    ]


def word_examples(asker: Asker, records: Sequence[Mapping[str, Any]], tags: Sequence[str]) -> list[Example]:
    """Of each tagged record the first word of each label as an example."""
    labels = asked_labels(tags)
    found: list[Example] = []
    for record in records:
        ids, said = tokens_of(record["input_ids"]), tokens_of(record["labels"])
        offset = inner_start(asker, ids)
        text = stripped(asker, ids)
        seen: set[str] = set()
        for word in words(asker, text):
            number = said[offset + word[0]]
            label = "" if number < 0 else tags[number] if tags[number] == "O" else tags[number][2:]
            if label and label not in seen:
                seen.add(label)
                found.append(Example({"text": text, "word": bare(asker, text, word)}, labels.index(label)))
    return found

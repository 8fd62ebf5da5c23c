"""Asking a language model about records: prompts with examples in, calibrated scores of labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from catena.errors import SettingsError
from catena.methods.prompt_examples import Example, Nearest
from catena.methods.prompt_layout import (
    Layout,
    Overflow,
    Values,
    answer_space,
    domain_ids,
    frame,
    prompt_limit,
    special_tokens,
)
from catena.methods.prompt_scores import CausalScores, MaskedScores, calibrated, label_scores, right_padded
from catena.settings.prompt import PromptSettings, TemplateSettings

#: Tokens of a batch of texts that become vectors.
_BATCH_TOKENS = 4096


@dataclass
class Memory:
    """What is found out once, before the first record, and stored with the network.

    `examples` are those shown, or the pool that similar ones come from, then with their `vectors` where the
    embedding compares them. `domain` has each word's log-probability in the domain, `bias` the log of each
    label's probability after records without content.
    """

    examples: list[Example] = field(default_factory=list)
    vectors: np.ndarray | None = None
    domain: list[float] = field(default_factory=list)
    bias: list[float] | None = None


@dataclass(frozen=True)
class Verbalized:
    """The words that stand for labels as tokens, and the number of the label that each stands for."""

    words: list[list[int]]
    owners: list[int]
    #: The word of each label as examples show it.
    shown: list[str]


class Asker:
    """Puts records into prompts and scores what the network says of the labels.

    `labels` are those that the template's words stand for; `varying` the slots that a record fills.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        settings: PromptSettings,
        labels: Sequence[str],
        varying: tuple[str, ...],
        memory: Memory,
    ) -> None:
        template = settings.template
        if template is None:
            raise SettingsError("`method.prompt.template` is missing.")
        self.network = network
        self.settings = settings
        self.varying = varying
        self.memory = memory
        before, after = special_tokens(tokenizer)
        limit = prompt_limit(settings, tokenizer, network.config)
        if settings.chat:
            before = []  # the chat template writes them itself
        self.layout = Layout(
            tokenizer, frame(settings, tokenizer), before, after if template.masked else [], limit, varying
        )
        # records come with the special tokens, whatever is put around prompts
        self.around = special_tokens(tokenizer)
        self.pad = int(tokenizer.pad_token_id)
        self.mask = tokenizer.mask_token_id if template.masked else None
        if template.masked and self.mask is None:
            raise SettingsError("The template has a {mask}, but the backbone's tokenizer has no mask token.")
        self.verbalized = verbalize(template, settings, self.layout, labels) if labels else None
        # what is read once may be used again only while no weight moves
        keeps = not any(weight.requires_grad for weight in network.parameters())
        self.causal = CausalScores(network, self.pad, keeps)
        self.masked = MaskedScores(network, self.pad)
        self.nearest = self._nearest() if memory.examples else None

    # -- once, before the first record ---------------------------------------------------------

    @torch.no_grad()
    def prepare(self, examples: list[Example]) -> None:
        """Find out what `Memory` holds."""
        memory, settings = self.memory, self.settings
        memory.examples = examples
        if settings.choice == "similar" and settings.similarity == "embedding":
            memory.vectors = self.vectors([example.tokens for example in examples])
        self.nearest = self._nearest()
        if self.verbalized is None:
            return
        if settings.normalization == "pmi":
            memory.domain = self.domain()
        if settings.calibration == "contextual" and self.nearest is None:
            shown = memory.examples[: settings.shots]
            scores = self.labels(self.word_scores(self.content_free(), [shown] * len(settings.content_free)))
            memory.bias = torch.softmax(scores, dim=-1).mean(dim=0).log().tolist()
        # an empty record shows whether the template fits at all
        self.word_scores([dict.fromkeys(self.varying, ())], [[]])
        self.causal.forget()
        self.layout.overflow = Overflow()

    def _nearest(self) -> Nearest | None:
        """The search for similar examples, where there is one."""
        settings, memory = self.settings, self.memory
        if not settings.shots or settings.choice != "similar":
            return None
        vocabulary = max(int(self.network.config.vocab_size), len(self.layout.tokenizer))
        return Nearest(memory.examples, settings.similarity, vocabulary, memory.vectors)

    def domain(self) -> list[float]:
        """Log-probability of each word after the domain's text."""
        assert self.verbalized is not None and self.settings.template is not None  # noqa: S101
        words = self.verbalized.words
        found = [0.0] * len(words)
        for length, numbers in self._by_masks().items():
            masks = [self.mask] * length if self.mask is not None else []
            prompt = domain_ids(self.layout, self.settings.template, masks)
            scorer = self.causal if self.mask is None else self.masked
            row = scorer([prompt], [words[number] for number in numbers])[0]
            for number, score in zip(numbers, row.tolist(), strict=True):
                found[number] = score
        return found

    def content_free(self) -> list[Values]:
        """Records without content."""
        return [
            {slot: list(self.layout.literal(text)) for slot in self.varying}
            for text in self.settings.content_free
        ]

    # -- for each batch ------------------------------------------------------------------------

    def __call__(self, records: Sequence[Values]) -> torch.Tensor:
        """Scores of the labels `(records, labels)`: log-probabilities up to a constant."""
        shown = self.shown(records)
        if self.settings.calibration == "none":
            return self.labels(self.word_scores(records, shown))
        if self.memory.bias is not None:
            scores = self.labels(self.word_scores(records, shown))
            return torch.log_softmax(scores, dim=-1) - scores.new_tensor(self.memory.bias)
        scores, empty = self.with_content_free(records, shown)
        return calibrated(self.labels(scores), self.labels(empty.flatten(0, 1)).view(*empty.shape[:2], -1))

    def with_content_free(
        self, records: Sequence[Values], shown: Sequence[Sequence[Example]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of the words after the records `(records, words)`, and after records without content that
        follow the same examples `(records, without content, words)`. Each record's examples are read once."""
        content_free = self.content_free()
        count = 1 + len(content_free)
        asked = [one for record in records for one in (record, *content_free)]
        scores = self.word_scores(asked, [own for own in shown for _ in range(count)])
        scores = scores.view(len(records), count, -1)
        return scores[:, 0], scores[:, 1:]

    def shown(self, records: Sequence[Values]) -> list[list[Example]]:
        """The examples that each record's prompt shows; never the record itself."""
        shots = self.settings.shots
        if not shots:
            return [[] for _ in records]
        tokens = [[int(token) for slot in self.varying for token in record[slot]] for record in records]
        if self.nearest is not None:
            vectors = self.vectors(tokens) if self.settings.similarity == "embedding" else None
            return self.nearest.find(tokens, shots, vectors)
        fixed = self.memory.examples
        own = [example.tokens for example in fixed]
        return [
            [example for example, other in zip(fixed, own, strict=True) if other != text] for text in tokens
        ]

    def examples(self, shown: Sequence[Example]) -> list[Values]:
        """Examples as what fills the slots."""
        words = self.verbalized.shown if self.verbalized is not None else []
        return [{**example.slots, "label": example.said or words[example.label]} for example in shown]

    def labels(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of words `(rows, words)` as scores of labels `(rows, labels)`, not calibrated."""
        assert self.verbalized is not None  # noqa: S101
        words = self.verbalized
        lengths = [len(word) for word in words.words]
        return label_scores(scores, lengths, words.owners, self.settings.normalization, self.memory.domain)

    def word_scores(self, records: Sequence[Values], shown: Sequence[Sequence[Example]]) -> torch.Tensor:
        """Log-probabilities of the words `(records, words)`."""
        assert self.verbalized is not None  # noqa: S101
        words = self.verbalized.words
        columns: dict[int, torch.Tensor] = {}
        for length, numbers in self._by_masks().items():
            masks = [self.mask] * length if self.mask is not None else []
            reserve = 0 if self.mask is not None else max(map(len, words))
            prompts = [
                self.layout.prompt(record, self.examples(own), masks, reserve)
                for record, own in zip(records, shown, strict=True)
            ]
            scorer = self.causal if self.mask is None else self.masked
            found = scorer(prompts, [words[number] for number in numbers])
            columns |= {number: found[:, at] for at, number in enumerate(numbers)}
        return torch.stack([columns[number] for number in range(len(words))], dim=1)

    def _by_masks(self) -> dict[int, list[int]]:
        """Numbers of the words that can be scored in one pass: with masks, those of one length."""
        assert self.verbalized is not None  # noqa: S101
        if self.mask is None:
            return {0: list(range(len(self.verbalized.words)))}
        groups: dict[int, list[int]] = {}
        for number, word in enumerate(self.verbalized.words):
            groups.setdefault(len(word), []).append(number)
        return groups

    @torch.no_grad()
    def vectors(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Mean outputs of the network below its head `(texts, hidden)`, float32."""
        body = self.network.base_model
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        found: np.ndarray | None = None
        at = 0
        while at < len(order):
            count = max(1, _BATCH_TOKENS // max(len(texts[order[at]]), 1))
            rows = order[at : at + count]
            # an empty text still is a token
            cut = [list(texts[row])[: self.layout.limit] or [self.pad] for row in rows]
            ids, mask = right_padded(cut, self.pad, self.network.device)
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            weights = mask.unsqueeze(-1).float()
            means = ((hidden * weights).sum(1) / weights.sum(1)).cpu().numpy()
            if found is None:
                found = np.empty((len(texts), means.shape[1]), np.float32)
            found[rows] = means
            at += count
        return found if found is not None else np.empty((0, 1), np.float32)


def verbalize(
    template: TemplateSettings, settings: PromptSettings, layout: Layout, labels: Sequence[str]
) -> Verbalized:
    """The template's words as tokens.

    Raises `SettingsError` where a word is nothing to the tokenizer, or the same as another label's.
    """
    space = answer_space(layout.frame.query, layout.sensitive)
    unknown = layout.tokenizer.unk_token_id
    words: list[list[int]] = []
    owners: list[int] = []
    seen: dict[tuple[int, ...], str] = {}
    for number, label in enumerate(labels):
        for word in template.words[label]:
            ids = list(layout.literal(space + word))
            if not ids or (unknown is not None and unknown in ids):
                raise SettingsError(
                    f"The verbalizer's word {word!r} for {label!r} holds nothing, or something that the "
                    "backbone's tokenizer does not know; choose another word."
                )
            if template.masked and settings.masks == "first":
                ids = ids[:1]
            other = seen.setdefault(tuple(ids), label)
            if other != label:
                raise SettingsError(
                    f"The verbalizer's words for {other!r} and {label!r} are the same to the network "
                    f"({word!r}); choose others"
                    + (", or `method.prompt.masks: several`." if settings.masks == "first" else ".")
                )
            words.append(ids)
            owners.append(number)
    return Verbalized(words, owners, [template.words[label][0] for label in labels])


def memory_from_json(content: Mapping[str, Any]) -> Memory:
    """What `memory_as_json` gave. Raises `KeyError`, `TypeError` or `ValueError`."""
    from catena.methods.prompt_examples import example_from_json

    bias = content["bias"]
    return Memory(
        examples=[example_from_json(one) for one in content["examples"]],
        domain=[float(value) for value in content["domain"]],
        bias=None if bias is None else [float(value) for value in bias],
    )


def memory_as_json(memory: Memory) -> dict[str, Any]:
    """Everything but the vectors, ready for JSON."""
    return {
        "examples": [example.as_json() for example in memory.examples],
        "domain": memory.domain,
        "bias": memory.bias,
    }

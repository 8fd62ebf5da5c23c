"""How likely a language model finds words after a prompt, or at its mask: all words in one batched pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from catena.methods.prompt_layout import Prompt

#: Tokens of a batch, padding and what is kept of a shared beginning included.
BATCH_TOKENS = 8192
#: Tokens of a batch for whose places scores of the whole vocabulary are computed.
_BATCH_SCORED = 2048

Words = Sequence[Sequence[int]]


class CausalScores:
    """Log-probabilities of words that follow prompts.

    What prompts begin with alike (task and examples) is read once, and each prompt once for all words; the
    keys and values of attention are kept for what comes after. `keeps` says that the beginning is also kept
    for later calls, which is right only while no weight changes.
    """

    def __init__(self, network: Any, pad_token_id: int, keeps: bool) -> None:
        self.network = network
        self.pad = pad_token_id
        self.keeps = keeps
        self._kept: tuple[tuple[int, ...], Any] | None = None

    def forget(self) -> None:
        """Forget what is kept."""
        self._kept = None

    def __call__(self, prompts: Sequence[Prompt], words: Words) -> torch.Tensor:
        """Log-probabilities `(prompts, words)`, summed over each word's tokens, in nats."""
        if torch.is_grad_enabled() or not can_keep(self.network):
            return whole_scores(self.network, [prompt.ids for prompt in prompts], words, self.pad)
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            # one token at least is left to be read for each prompt
            shared = min(prompt.shared, len(prompt.ids) - 1)
            groups.setdefault(tuple(prompt.ids[:shared]), []).append(row)
        scores = torch.empty(len(prompts), len(words), device=self.network.device)
        alone: list[int] = []
        for shared_ids, rows in groups.items():
            known = self._kept is not None and self._kept[0] == shared_ids
            if not shared_ids or (len(rows) == 1 and not known):
                alone += rows
            else:
                self._group(prompts, rows, shared_ids, words, scores)
        self._group(prompts, alone, (), words, scores)
        if not self.keeps:
            self.forget()
        return scores

    def _group(
        self,
        prompts: Sequence[Prompt],
        rows: Sequence[int],
        shared: tuple[int, ...],
        words: Words,
        scores: torch.Tensor,
    ) -> None:
        """Scores of prompts that all begin with `shared`, into their rows of `scores`."""
        ordered = sorted(rows, key=lambda row: -len(prompts[row].ids))
        tail = max(len(word) for word in words)
        copies = len(words) if tail > 1 else 1
        at = 0
        while at < len(ordered):
            longest = len(prompts[ordered[at]].ids) + tail
            count = max(1, BATCH_TOKENS // (longest * copies))
            chosen = ordered[at : at + count]
            rests = [prompts[row].ids[len(shared) :] for row in chosen]
            scores[chosen] = self._batch(shared, rests, words)
            at += count

    def _beginning(self, shared: tuple[int, ...], count: int) -> Any:
        """Keys and values of a shared beginning, for `count` prompts."""
        if not shared:
            return None
        if self._kept is None or self._kept[0] != shared:
            ids = torch.tensor([shared], device=self.network.device)
            cache = self.network(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            self._kept = shared, cache
        cache = copy.deepcopy(self._kept[1])
        cache.batch_repeat_interleave(count)
        return cache

    def _batch(self, shared: tuple[int, ...], rests: list[list[int]], words: Words) -> torch.Tensor:
        device = self.network.device
        ids, mask = left_padded(rests, self.pad, device)
        before = mask.new_ones(len(rests), len(shared))
        seen = torch.cat([before, mask], dim=1)
        read = self.network(
            input_ids=ids,
            attention_mask=seen,
            position_ids=len(shared) + (mask.cumsum(1) - 1).clamp(min=0),
            past_key_values=self._beginning(shared, len(rests)),
            use_cache=True,
            logits_to_keep=1,
        )
        first = functional.log_softmax(read.logits[:, -1].float(), dim=-1)
        scores = first[:, [word[0] for word in words]]
        longer = [number for number, word in enumerate(words) if len(word) > 1]
        if not longer:
            return scores
        # every prompt goes on with each of the longer words
        read.past_key_values.batch_repeat_interleave(len(longer))
        tails, tail_mask = right_padded([list(words[number][:-1]) for number in longer], self.pad, device)
        lengths = seen.sum(1).repeat_interleave(len(longer))
        steps = torch.arange(tails.shape[1], device=device)
        after = self.network(
            input_ids=tails.repeat(len(rests), 1),
            attention_mask=torch.cat(
                [seen.repeat_interleave(len(longer), dim=0), tail_mask.repeat(len(rests), 1)], dim=1
            ),
            position_ids=lengths.unsqueeze(1) + steps,
            past_key_values=read.past_key_values,
            use_cache=True,
        )
        targets, target_mask = right_padded([list(words[number][1:]) for number in longer], 0, device)
        said = functional.log_softmax(after.logits.float(), dim=-1)
        said = said.gather(2, targets.repeat(len(rests), 1).unsqueeze(2)).squeeze(2)
        more = (said * target_mask.repeat(len(rests), 1)).sum(1).view(len(rests), len(longer))
        scores[:, longer] += more
        return scores


def can_keep(network: Any) -> bool:
    """Whether the network's keys and values can be read once and used again."""
    return not getattr(network, "_is_stateful", False) and bool(getattr(network.config, "use_cache", True))


def whole_scores(network: Any, prompts: Sequence[Sequence[int]], words: Words, pad: int) -> torch.Tensor:
    """Log-probabilities `(prompts, words)`, each text by itself and from its beginning; for training."""
    device = network.device
    longest = max(len(word) for word in words)
    distinct = [()] if longest == 1 else [tuple(word[:-1]) for word in words]
    texts = [[*prompt, *tail] for prompt in prompts for tail in distinct]
    ids, mask = left_padded(texts, pad, device)
    kept = network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=longest,
    ).logits
    scores = functional.log_softmax(kept.float(), dim=-1).view(len(prompts), len(distinct), longest, -1)
    columns = []
    for number, word in enumerate(words):
        own = scores[:, 0 if longest == 1 else number]
        places = range(longest - len(word), longest)
        each = [own[:, place, token] for place, token in zip(places, word, strict=True)]
        columns.append(torch.stack(each).sum(0))
    return torch.stack(columns, dim=1)


class MaskedScores:
    """Log-probabilities of words at the masks of cloze prompts; all masks of a prompt are filled at once."""

    def __init__(self, network: Any, pad_token_id: int) -> None:
        self.network = network
        self.pad = pad_token_id

    def __call__(self, prompts: Sequence[Prompt], words: Words) -> torch.Tensor:
        """Log-probabilities `(prompts, words)`, summed over the masks of each prompt, in nats.

        The words have as many tokens as the prompts have masks.
        """
        table = torch.tensor([list(word) for word in words], device=self.network.device)
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row].ids))
        found: list[torch.Tensor] = []
        at = 0
        while at < len(order):
            count = max(1, _BATCH_SCORED // len(prompts[order[at]].ids))
            chosen = [prompts[row] for row in order[at : at + count]]
            ids, mask = right_padded([prompt.ids for prompt in chosen], self.pad, self.network.device)
            logits = self.network(input_ids=ids, attention_mask=mask).logits
            rows = torch.arange(len(chosen), device=ids.device).unsqueeze(1)
            masks = torch.tensor([prompt.mask_at for prompt in chosen], device=ids.device).unsqueeze(1)
            places = masks + torch.arange(table.shape[1], device=ids.device)
            said = functional.log_softmax(logits[rows, places].float(), dim=-1)
            # (prompts, masks, vocabulary) → (prompts, words)
            each = [said[:, place, table[:, place]] for place in range(table.shape[1])]
            found.append(torch.stack(each).sum(0))
            at += count
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(found)[back.to(table.device)]


def left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask `(rows, length)` that end together."""
    width = max(len(row) for row in rows)
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def right_padded(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask `(rows, length)` that begin together."""
    width = max(len(row) for row in rows)
    ids = [list(row) + [pad] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def label_scores(
    scores: torch.Tensor,
    lengths: Sequence[int],
    owners: Sequence[int],
    normalization: str,
    domain: Sequence[float],
) -> torch.Tensor:
    """Log-probabilities of words `(rows, words)` → of labels `(rows, labels)`, which need not sum to 1.

    `owners` is each word's label; of several words the mean probability counts. `length` takes the mean over
    a word's tokens; `pmi` takes off what the word has in the domain (Holtzman et al. 2021, arXiv 2104.08315).
    """
    if normalization == "length":
        scores = scores / scores.new_tensor(list(lengths))
    elif normalization == "pmi":
        scores = scores - scores.new_tensor(list(domain))
    labels = torch.tensor(list(owners), device=scores.device)
    columns = []
    for label in range(max(owners) + 1):
        own = scores[:, labels == label]
        columns.append(own.logsumexp(dim=1) - torch.log(own.new_tensor(float(own.shape[1]))))
    return torch.stack(columns, dim=1)


def calibrated(scores: torch.Tensor, content_free: torch.Tensor) -> torch.Tensor:
    """Contextual calibration (Zhao et al. 2021, arXiv 2102.09690) of label scores `(rows, labels)`.

    `content_free` `(rows or 1, records, labels)` are scores after records without content. Each label's
    probability among the labels is divided by its mean probability there, so that a record without content
    has no preference. The results are log-probabilities up to a constant.
    """
    bias = functional.softmax(content_free, dim=-1).mean(dim=1).log()
    return functional.log_softmax(scores, dim=-1) - bias

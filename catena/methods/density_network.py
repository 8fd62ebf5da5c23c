"""A causal language model asked how likely a text is under each label: log P(x|y), token by token.

    log P(x|y) = Σ_t log P(x_t | x_<t, y)

A label is what stands before the text: words, learned soft tokens, or both. The text is tokenized by itself,
so that it is the same tokens whatever stands before it, and the first of them depends on the label, too. All
texts and labels go through the network in one batch, or in a few where that would be too large; what stands
before the texts is short and the same for all, so it is computed once for each label and its keys and values
are shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from catena.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Tokens, padding included, that go through the network at once; while training, fewer, because their
#: activations stay (those of further chunks are computed again).
_TOKENS, _TOKENS_IN_TRAINING = 8192, 2560
#: Tokens whose scores of the whole vocabulary are in memory at once where nothing is learned from them.
_SCORED = 1024


@dataclass(frozen=True)
class Wording:
    """What stands before a text for each condition, in tokens, and how texts begin and end.

    The conditions are the labels; where each label is there or not by itself (`sets`), they are all labels
    being there, then all being absent. `begins` and `ends` are how many tokens the tokenizer puts around a
    text; they are none of its own. `end` is the token that ends a text.
    """

    prefixes: tuple[tuple[int, ...], ...]
    begins: int
    ends: int
    end: int
    sets: bool
    score_end: bool
    length_normalized: bool

    @property
    def labels(self) -> int:
        return len(self.prefixes) // 2 if self.sets else len(self.prefixes)


@dataclass(frozen=True)
class Texts:
    """The tokens of texts `(batch, length)`, without what the tokenizer puts around them, and their numbers.

    `targets` `(batch, length + 1)` are the same with the end after them, `scored` those that count.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    scored: torch.Tensor


@dataclass(frozen=True)
class DensityOutput:
    """What a batch was given.

    `logits` `(batch, labels)` are joint scores, so that their softmax (of sets: their sigmoid) is P(y|x);
    `None` where only the true labels were looked at. `extras` `(batch, 2)` are log P(x) a token in nats, and
    the share of the validation texts that are less likely, in percent (not a number before calibration).
    `cost` `(batch,)` is -log P(x | true label) in the network's `unit`, in training; of sets the mean over
    the labels, each there or absent.
    """

    logits: torch.Tensor | None
    extras: torch.Tensor | None = None
    cost: torch.Tensor | None = None


class DensityNetwork(nn.Module):
    """Wraps a causal language model; `logits` are log P(x|y) + log P(y) of all labels.

    `soft_tokens` `(conditions, tokens, hidden)` stand after the words of each condition. `log_prior`
    `(conditions,)`, `temperature` `(1,)` by which the scores are divided, and `typical`, 101 percentiles of
    log P(x) a token, are no weights.
    """

    soft_tokens: nn.Parameter | None
    log_prior: torch.Tensor
    temperature: torch.Tensor
    typical: torch.Tensor

    def __init__(
        self,
        network: Any,
        wording: Wording,
        log_prior: Sequence[float] | torch.Tensor,
        soft_tokens: torch.Tensor | None = None,
        only_true: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.config = network.config
        self.wording = wording
        #: Whether the labels' scores are left out in training, because only the true one's text is learned.
        self.only_true = only_true
        #: What `cost` is counted in: nats, or nats times the mean number of tokens of a training text.
        self.unit = 1.0
        self.soft_tokens = None if soft_tokens is None else nn.Parameter(soft_tokens)
        self.register_buffer("log_prior", torch.as_tensor(log_prior, dtype=torch.float32))
        self.register_buffer("temperature", torch.ones(1))
        self.register_buffer("typical", torch.empty(0))
        self._separable = _is_separable(network)

    @property
    def base_model(self) -> Any:
        """The language model without what scores its vocabulary."""
        return _parts(self.network)[0]

    # -- scores --------------------------------------------------------------------------------

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> DensityOutput:
        texts = self.texts(input_ids, attention_mask)
        if labels is not None and self.only_true:
            true = self.token_scores(texts, self._true_conditions(labels)).sum(-1)
            return DensityOutput(None, cost=-true.mean(1) / self.unit)
        likelihoods = self.token_scores(texts, self._all_conditions(texts)).sum(-1)
        cost: torch.Tensor | None = None
        if labels is not None:
            cost = -likelihoods.gather(1, self._true_conditions(labels)).mean(1) / self.unit
        return DensityOutput(self._logits(likelihoods, texts), self._density(likelihoods, texts), cost)

    def _logits(self, likelihoods: torch.Tensor, texts: Texts) -> torch.Tensor:
        if self.wording.length_normalized:
            likelihoods = likelihoods / texts.scored.sum(1, keepdim=True).clamp(min=1)
        scores = (likelihoods + self.log_prior) / self.temperature
        if not self.wording.sets:
            return scores
        present, absent = scores.chunk(2, dim=1)
        return present - absent

    def _density(self, likelihoods: torch.Tensor, texts: Texts) -> torch.Tensor:
        """`extras`; log P(x) is over all labels, of sets the mean of what each label says of it."""
        joint = likelihoods + self.log_prior
        if self.wording.sets:
            joint = joint.view(len(joint), 2, -1)
        total = joint.logsumexp(1)
        total = total.mean(1) if self.wording.sets else total
        density = total / texts.scored.sum(1).clamp(min=1)
        return torch.stack([density, self._percentile(density)], dim=1)

    def _percentile(self, density: torch.Tensor) -> torch.Tensor:
        known = self.typical
        if not len(known):
            return torch.full_like(density, torch.nan)
        above = torch.searchsorted(known, density.contiguous()).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        part = ((density - low) / (high - low).clamp(min=1e-12)).clamp(0.0, 1.0)
        return (above - 1 + part) * (100.0 / (len(known) - 1))

    def _true_conditions(self, labels: torch.Tensor) -> torch.Tensor:
        """The conditions that hold `(batch, 1)`, or of sets one for each label `(batch, labels)`."""
        if not self.wording.sets:
            return labels.long().unsqueeze(1)
        count = self.wording.labels
        return torch.arange(count, device=labels.device) + count * (labels < 0.5).long()

    def _all_conditions(self, texts: Texts) -> torch.Tensor:
        count = len(self.wording.prefixes)
        return torch.arange(count, device=texts.ids.device).expand(len(texts.ids), count)

    # -- texts and what stands before them -----------------------------------------------------

    def texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Texts:
        """Records as the problem gives them, padded on the right, without what stands around them."""
        wording = self.wording
        lengths = (attention_mask.sum(1) - wording.begins - wording.ends).clamp(min=0)
        longest = max(int(lengths.max()), 1)
        ids = input_ids[:, wording.begins : wording.begins + longest]
        places = torch.arange(longest + 1, device=ids.device)
        targets = functional.pad(ids, (0, 1)).masked_fill(places == lengths.unsqueeze(1), wording.end)
        count = lengths + int(wording.score_end)
        return Texts(ids, lengths, targets, places < count.unsqueeze(1))

    def prefix(self, condition: int) -> torch.Tensor:
        """What stands before the texts of one condition, as embeddings `(tokens, hidden)`."""
        embeddings = self.network.get_input_embeddings()
        words = torch.tensor(self.wording.prefixes[condition], dtype=torch.long, device=self.log_prior.device)
        parts = [embeddings(words)]
        if self.soft_tokens is not None:
            parts.append(self.soft_tokens[condition].to(parts[0].dtype))
        return torch.cat(parts)

    # -- the network ---------------------------------------------------------------------------

    def token_scores(self, texts: Texts, conditions: torch.Tensor) -> torch.Tensor:
        """log P(x_t | x_<t, y) `(batch, m, length + 1)` for `conditions` `(batch, m)`; 0 where nothing
        counts.
        """
        rows, width = texts.targets.shape
        limit = _TOKENS_IN_TRAINING if torch.is_grad_enabled() else _TOKENS
        at_once = max(1, limit // (rows * width))
        chunks = [conditions[:, at : at + at_once] for at in range(0, conditions.shape[1], at_once)]
        if len(chunks) == 1:
            return self._scores(texts, conditions)
        if torch.is_grad_enabled():
            # all but one chunk's activations are computed again, so that memory does not grow with the labels
            found = [checkpoint(self._scores, texts, chunk, use_reentrant=False) for chunk in chunks]
        else:
            found = [self._scores(texts, chunk) for chunk in chunks]
        return torch.cat(found, dim=1)

    def _scores(self, texts: Texts, conditions: torch.Tensor) -> torch.Tensor:
        rows, width = texts.targets.shape
        asked, number = torch.unique(conditions, return_inverse=True)
        number = number.flatten()
        repeats = conditions.shape[1]
        prefixes = [self.prefix(condition) for condition in asked.tolist()]
        before = max(map(len, prefixes))
        self._check_room(before + width)
        # with an embedding that the network knows: what is masked must still be a number
        padded = torch.stack([torch.cat([one[:1].expand(before - len(one), -1), one]) for one in prefixes])
        sizes = torch.tensor([len(one) for one in prefixes], device=padded.device)
        cache, seen = self._before(padded[:, :-1], sizes - 1)
        cache.batch_select_indices(number) if before > 1 else None
        # the last token before a text says what its first is, so it is read together with the text
        embedded = self.network.get_input_embeddings()(texts.ids).repeat_interleave(repeats, 0)
        inputs = torch.cat([padded[number, -1:], embedded.to(padded.dtype)], dim=1)
        places = torch.arange(width, device=inputs.device)
        there = (places <= texts.lengths.unsqueeze(1)).repeat_interleave(repeats, 0)
        given = {
            "inputs_embeds": inputs,
            "attention_mask": torch.cat([seen[number], there.long()], dim=1),
            "position_ids": (sizes[number] - 1).unsqueeze(1) + places,
            "past_key_values": cache,
            "use_cache": True,
        }
        scored = texts.scored.repeat_interleave(repeats, 0)
        wanted = texts.targets.repeat_interleave(repeats, 0)[scored]
        found = torch.zeros(scored.shape, device=inputs.device)
        found = found.masked_scatter(scored, self._chosen(given, scored, wanted))
        return found.view(rows, repeats, width)

    def _before(self, padded: torch.Tensor, sizes: torch.Tensor) -> tuple[DynamicCache, torch.Tensor]:
        """Keys and values of what stands before the texts, padded on the left, and where it is no padding."""
        cache = DynamicCache()
        width = padded.shape[1]
        places = torch.arange(width, device=padded.device) - (width - sizes.unsqueeze(1))
        seen = (places >= 0).long()
        if width:
            self.base_model(
                inputs_embeds=padded,
                attention_mask=seen,
                position_ids=places.clamp(min=0),
                past_key_values=cache,
                use_cache=True,
            )
        return cache, seen

    def _chosen(self, given: dict[str, Any], scored: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the tokens `wanted` `(scored,)`, in float32."""
        if not self._separable:
            return -functional.cross_entropy(
                self.network(**given).logits[scored].float(), wanted, reduction="none"
            )
        body, head = _parts(self.network)
        hidden = body(**given).last_hidden_state[scored]
        if self.training:
            return -functional.cross_entropy(head(hidden).float(), wanted, reduction="none")
        # Rounded to bfloat16, scores of 16 and more are off by up to 0.06, which adds up over a text.
        with torch.autocast(hidden.device.type, enabled=False):
            parts = [slice(at, at + _SCORED) for at in range(0, max(len(wanted), 1), _SCORED)]
            return torch.cat(
                [
                    -functional.cross_entropy(
                        head(hidden[one].float()).float(), wanted[one], reduction="none"
                    )
                    for one in parts
                ]
            )

    def _check_room(self, tokens: int) -> None:
        room = getattr(self.config, "max_position_embeddings", None)
        if room and tokens > room:
            raise ModelError(
                f"A text and what stands before it are {tokens:,} tokens, and the language model reads "
                f"{room:,}; lower `tokenization.max_length`, or shorten `method.density.template`."
            )


def _parts(network: Any) -> tuple[Any, Any]:
    """What reads, and what scores the vocabulary; of a network with adapters, those of the network within."""
    plain = network.get_base_model() if hasattr(network, "get_base_model") else network
    return plain.base_model, plain.get_output_embeddings()


@torch.no_grad()
def _is_separable(network: Any) -> bool:
    """Whether the vocabulary's scores are its output layer on the last hidden states, and no more.

    Some networks scale or cap them; there all scores of a batch have to be computed by the network itself.
    """
    body, head = _parts(network)
    if head is None:
        return False
    training = network.training
    network.eval()
    try:
        ids = torch.arange(3, device=next(network.parameters()).device).unsqueeze(0)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        return bool(torch.allclose(network(**given).logits, head(body(**given).last_hidden_state)))
    finally:
        network.train(training)

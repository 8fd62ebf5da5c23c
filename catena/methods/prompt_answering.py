"""A language model that answers questions: it writes an answer, which is looked for in the passage."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.modeling_outputs import TokenClassifierOutput

from catena.data.scripts import UNSPACED
from catena.errors import ModelError
from catena.methods.prompt_asking import Asker
from catena.methods.prompt_examples import Example
from catena.methods.prompt_network import Asked, tokens_of
from catena.methods.prompt_scores import BATCH_TOKENS, left_padded
from catena.methods.prompt_words import Piece, pieces

#: The number by which features mark tokens of the question; those of the passage have higher ones.
_QUESTION = 1
#: Bits of a token's label in the features: an answer starts here, one ends here.
_STARTS, _ENDS = 1, 2
#: Where a script has no spaces between words, each of its characters counts as one.
_WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+")
#: Words that a stretch of the passage may have more or less than the answer.
_LONGER = 2


class PromptAnswerer(Asked):
    """Writes an answer greedily and says where in the passage its words stand closest together.

    The probability of a span is the mean probability of the tokens written (geometric) times the F1 of the
    words that span and answer share. Where they share none, the answer is not in this window.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        shape_ids: torch.Tensor | None = None,
    ) -> TokenClassifierOutput:
        """Logits `(batch, length, 2)` of starts and ends; the first token stands for no answer."""
        if shape_ids is None:
            raise ModelError("Questions are told from passages by `problem.hints`, which must be on.")
        asked, places = [], []
        rows = zip(input_ids.tolist(), attention_mask.tolist(), shape_ids.tolist(), strict=True)
        for ids, mask, shapes in rows:
            shown = [shape if there else 0 for shape, there in zip(shapes, mask, strict=True)]
            slots, place = divided(ids, shown)
            asked.append(slots)
            places.append(place)
        logits = input_ids.new_zeros((*input_ids.shape, 2), dtype=torch.float32)
        for row, (answer, sure) in enumerate(self.write(asked)):
            first, last, overlap = locate(answer, pieces(self.asker.layout.tokenizer, asked[row]["context"]))
            span = (places[row][first], places[row][last]) if overlap else (0, 0)
            chance = min(max(sure * overlap if overlap else sure, 1e-6), 1 - 1e-6) ** 0.5
            others = max(len(places[row]), 1)
            # softmax over the passage and the first token gives the span's ends this chance
            height = math.log(chance) - math.log1p(-chance) + math.log(others)
            logits[row, span[0], 0] = height
            logits[row, span[1], 1] = height
        return TokenClassifierOutput(logits=logits)

    @torch.no_grad()
    def write(self, records: Sequence[Mapping[str, list[int]]]) -> list[tuple[str, float]]:
        """What is written after each prompt, its first line, and how sure the network is of each token."""
        asker = self.asker
        most = asker.settings.answer_tokens
        shown = asker.shown(records)
        prompts = [
            asker.layout.prompt(record, asker.examples(own), reserve=most).ids
            for record, own in zip(records, shown, strict=True)
        ]
        found: list[tuple[str, float]] = [("", 0.0)] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        at = 0
        while at < len(order):
            count = max(1, BATCH_TOKENS // (len(prompts[order[at]]) + most))
            rows = order[at : at + count]
            ids, mask = left_padded([prompts[row] for row in rows], asker.pad, self.network.device)
            written = self.network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                pad_token_id=asker.pad,
                output_logits=True,
                return_dict_in_generate=True,
            )
            new = written.sequences[:, ids.shape[1] :]
            scores = torch.stack(written.logits, dim=1).float().log_softmax(-1)
            chosen = scores.gather(2, new.unsqueeze(2)).squeeze(2)
            for row, tokens, sure in zip(rows, new.tolist(), chosen.tolist(), strict=True):
                found[row] = self._first_line(tokens, sure)
            at += count
        return found

    def _first_line(self, tokens: list[int], scores: list[float]) -> tuple[str, float]:
        tokenizer = self.asker.layout.tokenizer
        ends = {tokenizer.eos_token_id, self.asker.pad}
        count = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
        kept = 0
        while kept < count and "\n" not in tokenizer.decode(tokens[: kept + 1]).lstrip():
            kept += 1
        text = tokenizer.decode(tokens[:kept], skip_special_tokens=True).strip()
        return text, math.exp(sum(scores[:kept]) / kept) if kept else 0.0


def divided(ids: Sequence[int], shapes: Sequence[int]) -> tuple[dict[str, list[int]], list[int]]:
    """A row's question and passage, and where the passage's tokens are."""
    question = [int(token) for token, shape in zip(ids, shapes, strict=True) if shape == _QUESTION]
    places = [at for at, shape in enumerate(shapes) if shape > _QUESTION]
    return {"question": question, "context": [int(ids[at]) for at in places]}, places


def locate(answer: str, passage: Sequence[Piece]) -> tuple[int, int, float]:
    """The stretch of tokens whose words are most like the answer's: first, last, and F1 of shared words.

    F1 is 0 where no word is shared. Of equal stretches the shortest counts, then the first.
    """
    said = Counter(_WORD.findall(answer.casefold()))
    text = "".join(piece for piece, _, _ in passage)
    owners = [place for piece, *place in passage for _ in piece]
    spans = [match.span() for match in _WORD.finditer(text)]
    names = [text[start:end].casefold() for start, end in spans]
    best = (0.0, 0, 0, 0)
    total = sum(said.values())
    for first, name in enumerate(names):
        if name not in said:
            continue
        left, shared = said.copy(), 0
        for last in range(first, min(first + total + _LONGER, len(names))):
            if left[names[last]] > 0:
                left[names[last]] -= 1
                shared += 1
            f1 = 2 * shared / (total + last - first + 1)
            best = max(best, (f1, first - last, -first, last))
    f1, _, first, last = best
    if not f1:
        return 0, 0, 0.0
    return owners[spans[-first][0]][0], owners[spans[last][1] - 1][1], f1


def answer_examples(asker: Asker, records: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Windows that hold an answer as examples."""
    found = []
    for record in records:
        ids, bits = tokens_of(record["input_ids"]), tokens_of(record["labels"])
        starts = [at for at, bit in enumerate(bits) if bit & _STARTS and at]
        ends = [at for at, bit in enumerate(bits) if bit & _ENDS and starts and at >= starts[0]]
        slots, _ = divided(ids, tokens_of(record["shape_ids"]))
        if starts and ends:
            said = asker.layout.tokenizer.decode(ids[starts[0] : ends[0] + 1]).strip()
            found.append(Example(slots, 0, said))
    return found

"""Conversations and texts as tokens: what is given, what is to be written, and which tokens are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catena.errors import ModelError
from catena.problems.conversations import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: How turns are written for a tokenizer that comes without a chat template.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Tokens:
    """`given` is what the network goes on from, `learned` which tokens of it are answers given before (1 or
    0 each), `wanted` what it is to write; `written_bytes` is the size of all that is learned, in UTF-8, and
    `total` the number of tokens before anything was cut."""

    given: list[int]
    learned: list[int]
    wanted: list[int]
    written_bytes: int
    total: int


class ChatTokens:
    """A tokenizer's chat template, and the tokens of conversations written by it.

    A conversation is tokenized in pieces that end where the network begins or ends to write, in training
    as in prediction, so that both see the same tokens. Only answers are learned, each with the token that
    ends it and nothing after that.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._template: str | None = None if tokenizer.chat_template else PLAIN_TEMPLATE
        self._max_length = max_length
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = [token for token in dict.fromkeys([*tokenizer.all_special_tokens, *added]) if token]
        if tokenizer.eos_token is None:
            raise ModelError("The tokenizer has no token that ends an answer (eos_token).")

    def encode(self, messages: Sequence[Message], answer: str | None) -> Tokens:
        """The tokens of `messages`, after which `answer` is written, if it is known.

        What is longer than `max_length` loses its oldest exchanges, then the beginning of the question and
        the end of the answer, which keeps half of the room; where the system message leaves none for a
        question, its own beginning. Raises `ModelError` where the template cannot write the conversation.
        """
        turns = [{**one, "content": self._harmless(one["content"])} for one in messages]
        answer = None if answer is None else self._harmless(answer)
        found = self._tokens(turns, answer)
        total = len(found.given) + len(found.wanted)
        opening = 1 if turns[0]["role"] == "system" else 0
        while len(found.given) + len(found.wanted) > self._max_length and len(turns) > opening + 2:
            turns = turns[:opening] + turns[opening + 2 :]
            found = self._tokens(turns, answer)
        if len(found.given) + len(found.wanted) > self._max_length:
            found = self._shortened(turns, answer, found)
        return fitted(found, total, self._max_length, self._tokenizer)

    def _shortened(self, turns: list[Message], answer: str | None, found: Tokens) -> Tokens:
        """The same after a question that has lost so much of its beginning that it fits."""
        room = _room(found, self._max_length)
        *before, question = turns

        def asking(content: str) -> Tokens:
            return self._tokens([*before, {**question, "content": content}], answer)

        content = question["content"]
        if len(asking(content[-1:]).given) > room:
            return found
        shorter = found
        while (excess := len(shorter.given) - room) > 0 and len(content) > 1:
            content = content[self._characters(content, excess) :] or content[-1:]
            shorter = asking(content)
        return shorter

    def _characters(self, text: str, tokens: int) -> int:
        """About how many characters the first `tokens` tokens are of, one at least."""
        if self._tokenizer.is_fast:
            places = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            starts = [start for start, _ in places["offset_mapping"]]
            return max(starts[tokens] if tokens < len(starts) else len(text), 1)
        return max(len(text) * tokens // max(len(self._ids(text)), 1), 1)

    def _harmless(self, text: str) -> str:
        """The text without what the tokenizer would take for the end of a turn, or the like."""
        while any(token in text for token in self._special):
            for token in self._special:
                text = text.replace(token, "")
        return text

    def _tokens(self, turns: list[Message], answer: str | None) -> Tokens:
        given: list[int] = []
        learned: list[int] = []
        size = 0
        before = ""
        for at, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            question, before = self._ask(turns[:at], before)
            reply, before = self._told(turns[: at + 1], before)
            ids = self._ids(question)
            said, rest = self._ended(self._ids(reply))
            given += ids + said + rest
            learned += [0] * len(ids) + [1] * len(said) + [0] * len(rest)
            size += len(turn["content"].encode())
        question, before = self._ask(turns, before)
        ids = self._ids(question)
        given, learned = given + ids, learned + [0] * len(ids)
        wanted: list[int] = []
        if answer is not None:
            reply, _ = self._told([*turns, {"role": "assistant", "content": answer}], before)
            wanted, _ = self._ended(self._ids(reply))
            size += len(answer.encode())
        return Tokens(given, learned, wanted, size, len(given) + len(wanted))

    def _ask(self, turns: list[Message], before: str) -> tuple[str, str]:
        return self._beyond(self._render(turns, True), before)

    def _told(self, turns: list[Message], before: str) -> tuple[str, str]:
        return self._beyond(self._render(turns, False), before)

    @staticmethod
    def _beyond(text: str, before: str) -> tuple[str, str]:
        if not text.startswith(before):
            raise ModelError(
                "The tokenizer's chat template writes earlier turns differently once others follow, so "
                "that training and prediction would not see the same; give it another chat_template."
            )
        return text[len(before) :], text

    def _render(self, turns: list[Message], asks: bool) -> str:
        from jinja2 import TemplateError

        options: dict[str, Any] = {"chat_template": self._template} if self._template else {}
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=asks, **options
            )
        except (TemplateError, TypeError) as error:
            raise ModelError(
                f"The tokenizer's chat template cannot write a conversation of the roles "
                f"{', '.join(one['role'] for one in turns[:4])} ({str(error).splitlines()[0][:120]})."
            ) from None
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, return_attention_mask=False)[
            "input_ids"
        ]
        return ids

    def _ended(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """An answer's tokens up to the one that ends it, and those that come after."""
        end = int(self._tokenizer.eos_token_id)
        at = ids.index(end) + 1 if end in ids else len(ids)
        return (ids[:at], ids[at:]) if end in ids else ([*ids, end], [])


def text_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, rest: str | None, ends: bool, max_length: int
) -> Tokens:
    """The tokens of a text that is learned from its first token on, and ends where `ends` says so.

    The first is learned too: before it stands the tokenizer's token for a beginning, or for an end.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ModelError("The tokenizer has no token for the beginning or the end of a text.")
    given = [int(start), *_plain(tokenizer, prompt)]
    wanted: list[int] = []
    if rest is not None:
        wanted = _plain(tokenizer, rest)
        if ends and tokenizer.eos_token_id is not None:
            wanted.append(int(tokenizer.eos_token_id))
    size = len(prompt.encode()) + len((rest or "").encode())
    learned = [0] + [1] * (len(given) - 1)
    found = Tokens(given, learned, wanted, size, len(given) + len(wanted))
    return fitted(found, found.total, max_length, tokenizer)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text in which nothing is taken for a special token."""
    ids: list[int] = tokenizer(
        text, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True
    )["input_ids"]
    return ids


def _room(found: Tokens, max_length: int) -> int:
    """Tokens that may be given: what is wanted leaves them, or half of all."""
    return max_length - min(len(found.wanted), max_length // 2)


def fitted(found: Tokens, total: int, max_length: int, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """At most `max_length` tokens: the end of what is given, half of it at least for what is wanted."""
    given, learned, wanted = found.given, found.learned, found.wanted
    if len(given) + len(wanted) <= max_length:
        return Tokens(given, learned, wanted, found.written_bytes, total)
    keep = _room(found, max_length)
    # nothing stands before the first token that is kept, so that it is not judged
    given, learned = given[-keep:], [0, *learned[-keep:][1:]]
    wanted = wanted[: max_length - len(given)]
    kept = [token for token, one in zip(given, learned, strict=True) if one]
    size = sum(len(tokenizer.decode(part, skip_special_tokens=True).encode()) for part in (kept, wanted))
    return Tokens(given, learned, wanted, size, total)

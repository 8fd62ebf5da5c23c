"""A template and a record → the tokens of a prompt: pieces in order, spaces in place, no overflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from catena.errors import SettingsError
from catena.settings.prompt import SAID, PromptSettings, TemplateSettings, parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Characters of the private use area, which stand for slots while a chat template is at work.
_FIRST_MARK = 0xE000
#: Tokens of a text among which its first word is sought.
_FIRST_WORD = 12

#: What is written, or the name of a slot in a tuple.
Part = str | tuple[str]
#: What fills the slots: token ids of the record, or a text.
Values = Mapping[str, Sequence[int] | str]


@dataclass(frozen=True)
class Frame:
    """What comes first, what each example is, and the question: texts and slots in order.

    The slot `label` in an example is filled with a word; in the question it is gone, or a `mask`.
    """

    opening: str
    example: tuple[Part, ...]
    query: tuple[Part, ...]


@dataclass
class Prompt:
    """One prompt: its tokens, how many at its beginning the record has no part in, where the masks begin."""

    ids: list[int]
    shared: int
    mask_at: int = -1


@dataclass
class Overflow:
    """How often something did not fit."""

    prompts: int = 0
    examples_dropped: int = 0
    texts_shortened: int = 0


def frame(settings: PromptSettings, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The frame of a template. Raises `SettingsError` where the chat template cannot hold it."""
    template = settings.template
    if template is None:
        raise SettingsError("`method.prompt.template` is missing.")
    return _chat(template, tokenizer) if settings.chat else _plain(template)


def _pieces(pattern: str, filled: bool) -> list[Part]:
    """The pattern's texts and slots; with `filled` what is said is in it, as the slot `label`."""
    found: list[Part] = []
    for text, slot in parts(pattern):
        if text:
            found.append(text)
        if slot in SAID and filled:
            found.append(("label",))
        elif slot is not None and slot != "label":
            found.append((slot,))
    return found


def _plain(template: TemplateSettings) -> Frame:
    opening = template.task + template.separator if template.task else ""
    example = (*_pieces(template.pattern, filled=True), template.separator)
    return Frame(opening, example, tuple(_pieces(template.pattern, filled=False)))


def _chat(template: TemplateSettings, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The same as turns of a chat: what stands before the label is asked, the label is answered."""
    if not getattr(tokenizer, "chat_template", None):
        raise SettingsError(
            "`method.prompt.chat` is set, but the backbone's tokenizer has no chat template; switch it off."
        )
    marks = {slot: chr(_FIRST_MARK + number) for number, slot in enumerate(template.slots)}
    asked = "".join(text + marks.get(slot or "", "") for text, slot in parts(template.pattern))
    asked = asked.replace(marks["label"], "").rstrip()
    turn = [{"role": "user", "content": asked}]
    answer = [{"role": "assistant", "content": marks["label"]}]
    system = [{"role": "system", "content": template.task}] if template.task else []
    none, one = (
        str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        for messages in ([*system, *turn], [*system, *turn, *answer, *turn])
    )
    same = 0
    while same < len(none) and none[-1 - same] == one[-1 - same]:
        same += 1
    at = len(none) - same  # an example's turns can be put in here
    if one[:at] != none[:at] or any(mark in none[:at] for mark in marks.values()):
        raise SettingsError(
            "The tokenizer's chat template does not repeat its turns alike, so examples cannot be put into "
            "it; switch `method.prompt.chat` off."
        )
    names = {mark: slot for slot, mark in marks.items()}
    return Frame(none[:at], _split(one[at : len(one) - same], names), _split(none[at:], names))


def _split(text: str, names: Mapping[str, str]) -> tuple[Part, ...]:
    found: list[Part] = []
    for character in text:
        if character in names:
            found.append((names[character],))
        elif found and isinstance(found[-1], str):
            found[-1] += character
        else:
            found.append(character)
    return tuple(found)


def answer_space(query: Sequence[Part], sensitive: bool) -> str:
    """The space that belongs to the word that is said: what stands before it, where spaces are tokens."""
    said = next((at for at, part in enumerate(query) if part == ("mask",)), len(query))
    before = query[said - 1] if said else ""
    return " " if sensitive and isinstance(before, str) and before.endswith(" ") else ""


@dataclass
class Layout:
    """Joins pieces of a frame and a record's tokens.

    `before` and `after` are the tokenizer's own special tokens around a text. `limit` is the longest prompt,
    in tokens.
    """

    tokenizer: Any
    frame: Frame
    before: list[int]
    after: list[int]
    limit: int
    varying: tuple[str, ...]
    overflow: Overflow = field(default_factory=Overflow)

    def __post_init__(self) -> None:
        self.literal = lru_cache(maxsize=4096)(self._literal)
        self.spaced = lru_cache(maxsize=65_536)(self._spaced)
        #: Whether a space belongs to the word that follows it, as in vocabularies of bytes.
        self.sensitive = self.literal("a") != self.literal(" a")

    def _literal(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _spaced(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The same tokens as if a space stood before them: those of the first word change."""
        for end in range(1, min(len(ids), _FIRST_WORD) + 1):
            if end < len(ids) and not self.tokenizer.decode(ids[end : end + 1])[:1].isspace():
                continue
            word = self.tokenizer.decode(ids[:end])
            again = self.literal(" " + word)
            if not word[:1].isspace() and self.tokenizer.decode(again) == " " + word:
                return (*again, *ids[end:])
            break
        return (*self.literal(" "), *ids)

    def prompt(
        self, values: Values, examples: Sequence[Values] = (), masks: Sequence[int] = (), reserve: int = 0
    ) -> Prompt:
        """The prompt of a record after `examples`; `masks` are the tokens at the mask, `reserve` those that
        are to follow. Raises `SettingsError` where even an empty record does not fit."""
        self.overflow.prompts += 1
        limit = self.limit - reserve
        kept = list(examples)
        made = self._join(values, kept, masks)
        while len(made.ids) > limit and kept:
            kept.pop(0)
            self.overflow.examples_dropped += 1
            made = self._join(values, kept, masks)
        if len(made.ids) > limit:
            self.overflow.texts_shortened += 1
            shorter = dict(values)
            for _ in range(4):  # the ends of pieces may join otherwise, so once is not always enough
                longest = max(shorter, key=lambda slot: len(shorter[slot]))
                ids = shorter[longest]
                room = len(ids) - (len(made.ids) - limit)
                if room < 0:
                    break
                shorter[longest] = ids[:room]
                made = self._join(shorter, kept, masks)
                if len(made.ids) <= limit:
                    return made
            raise SettingsError(
                f"The template alone takes more tokens than a prompt may have ({limit}); shorten it or raise "
                "`method.prompt.max_length`."
            )
        return made

    def _join(self, values: Values, examples: Sequence[Values], masks: Sequence[int]) -> Prompt:
        pieces: list[Sequence[int] | str] = [self.frame.opening]
        for example in examples:
            pieces += [example[part[0]] if isinstance(part, tuple) else part for part in self.frame.example]
        ids = list(self.before)
        pending = ""
        shared = mask_at = -1

        def flush(text: str) -> None:
            if text:
                ids.extend(self.literal(text))

        def add(piece: Sequence[int] | str) -> None:
            nonlocal pending
            if isinstance(piece, str):
                pending += piece
            elif len(piece):
                spaced = self.sensitive and pending.endswith(" ")
                flush(pending[:-1] if spaced else pending)
                pending = ""
                ids.extend(self.spaced(tuple(piece)) if spaced else piece)

        for piece in pieces:
            add(piece)
        for part in self.frame.query:
            if isinstance(part, str):
                add(part)
            elif part == ("mask",):
                if self.sensitive and pending.endswith(" "):
                    pending = pending[:-1]  # the space belongs to the word at the mask
                flush(pending)
                pending = ""
                mask_at = len(ids)
                ids.extend(masks)
            else:
                value = values[part[0]]
                if part[0] in self.varying and shared < 0:
                    spaced = self.sensitive and pending.endswith(" ")
                    literal = self.literal(pending[:-1] if spaced else pending)
                    # without a record the next piece is joined to this one, so that it is not the same
                    shared = len(ids) + len(literal) if len(value) else len(ids)
                add(value)
        if self.sensitive and mask_at < 0 and pending.endswith(" "):
            pending = pending[:-1]  # the space belongs to the word that is said
        flush(pending)
        ids.extend(self.after)
        return Prompt(ids, max(shared, 0), mask_at)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    around = tokenizer("a")["input_ids"]
    inside = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(around) - len(inside) + 1):
        if around[start : start + len(inside)] == inside:
            return list(around[:start]), list(around[start + len(inside) :])
    return [], []


def prompt_limit(settings: PromptSettings, tokenizer: PreTrainedTokenizerBase, config: Any) -> int:
    """The longest prompt, in tokens, that settings, tokenizer and network allow."""
    limits = [settings.max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        # RoBERTa and its like count positions from after the padding token's number
        offset = (
            config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        )
        limits.append(int(positions) - offset)
    if tokenizer.model_max_length and tokenizer.model_max_length < 1e6:
        limits.append(int(tokenizer.model_max_length))
    return min(limits)


def domain_ids(layout: Layout, template: TemplateSettings, masks: Sequence[int]) -> Prompt:
    """The prompt of the domain alone: `template.domain`, or what the question has after the record.

    Raises `SettingsError` where nothing is left to ask.
    """
    if template.domain is not None:
        query: tuple[Part, ...] = tuple(
            part for part in _pieces_of_domain(template.domain) if part != ("label",)
        )
    else:
        query = layout.frame.query
        last = max(
            (at for at, part in enumerate(query) if isinstance(part, tuple) and part != ("mask",)), default=-1
        )
        query = query[last + 1 :]
        if template.masked and ("mask",) not in query:
            query = tuple(part for part in layout.frame.query if isinstance(part, str) or part == ("mask",))
    if template.masked and ("mask",) not in query:
        raise SettingsError("`method.prompt.template.domain` needs a {mask} for a masked language model.")
    if query and isinstance(query[0], str):
        query = (query[0].lstrip(), *query[1:])
    alone = Layout(
        layout.tokenizer,
        Frame("", (), query),
        layout.before,
        layout.after,
        layout.limit,
        (),
    )
    made = alone.prompt({}, (), masks)
    if not made.ids:
        raise SettingsError(
            "`method.prompt.normalization: pmi` needs something to be said before the label without the "
            'record; set `method.prompt.template.domain`, for example "Sentiment: ".'
        )
    return made


def _pieces_of_domain(domain: str) -> list[Part]:
    found: list[Part] = []
    for text, slot in parts(domain):
        if text:
            found.append(text)
        if slot is not None:
            if slot not in SAID:
                raise SettingsError(
                    f"`method.prompt.template.domain` has the slot {{{slot}}}, but it is what is asked of no "
                    "record; it may have {mask} alone."
                )
            found.append((slot,))
    return found

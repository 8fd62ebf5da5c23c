"""The settings of prompts: the template, the words that stand for labels, examples, and what is scored."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from catena.settings.group import Group

_SLOT = re.compile(r"\{(\w*)\}")
#: Slots that the record fills.
GIVEN = ("text", "question", "context", "word")
#: Where the network says the label: in the middle of a text, or after it.
SAID = ("mask", "label")

Word = Annotated[str, Field(min_length=1)]


def parts(pattern: str) -> list[tuple[str, str | None]]:
    """A pattern as what is written, and the slot that follows it (none after the last)."""
    pieces = _SLOT.split(pattern)
    return [(text, slot) for text, slot in zip(pieces[::2], [*pieces[1::2], None], strict=True)]


class TemplateSettings(Group):
    """What the network is asked; given here, or as the name of a YAML file below `templates/`."""

    task: str = Field("", description="Description of the task, before everything else.")
    pattern: str = Field(
        "",
        description="The question, with slots: `{text}` (tagging: also `{word}`; answering: `{question}` and "
        "`{context}`) for the record, and for what the network is to say `{mask}` (masked language models) "
        "or, at its end, `{label}` (causal ones).",
    )
    verbalizer: dict[str, Word | Annotated[tuple[Word, ...], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="The word or words that stand for each label (tagging: also for `O`). Of several, the "
        "mean of their probabilities counts. Answering has none.",
    )
    separator: str = Field("\n\n", description="What stands between the task, examples and question.")
    domain: str | None = Field(
        None,
        description="`normalization: pmi`: the text after which a word's probability is that of the domain, "
        "not of the record; by default what the pattern has after the record. With `{mask}` for masked "
        "language models.",
    )

    @model_validator(mode="after")
    def _slots_are_in_order(self) -> TemplateSettings:
        slots = [slot for _, slot in parts(self.pattern) if slot is not None]
        known = ", ".join(f"{{{slot}}}" for slot in (*GIVEN, *SAID))
        for slot in slots:
            if slot not in (*GIVEN, *SAID):
                raise ValueError(f"the template has an unknown slot {{{slot}}}; there are {known}")
            if slots.count(slot) > 1:
                raise ValueError(f"the template has the slot {{{slot}}} more than once")
        if "text" not in slots and "context" not in slots:
            raise ValueError(
                "the template has no slot {text} (answering: {context}), so it asks of no record"
            )
        said = [slot for slot in slots if slot in SAID]
        if len(said) != 1:
            raise ValueError(
                "the template needs one slot for what the network says: {mask} where it fills in a masked "
                f"language model's mask, {{label}} where a causal one goes on; it has {len(said)}"
            )
        if said == ["label"] and not self.pattern.endswith("{label}"):
            raise ValueError(
                "the template's slot {label} must stand at its end, because a causal language model sees "
                "nothing of what comes after"
            )
        return self

    @model_validator(mode="after")
    def _words_tell_labels_apart(self) -> TemplateSettings:
        seen: dict[str, str] = {}
        for label, words in self.words.items():
            for word in words:
                if not word.strip():
                    raise ValueError(f"the verbalizer's word for {label!r} is white space")
                other = seen.setdefault(" ".join(word.split()), label)
                if other != label:
                    raise ValueError(f"the verbalizer has the word {word!r} for both {other!r} and {label!r}")
        return self

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """The words of each label."""
        return {
            label: (words,) if isinstance(words, str) else tuple(words)
            for label, words in self.verbalizer.items()
        }

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots, in their order."""
        return tuple(slot for _, slot in parts(self.pattern) if slot is not None)

    @property
    def masked(self) -> bool:
        """Whether the network fills in a mask."""
        return "mask" in self.slots


class PromptSettings(Group):
    """What `prompt` and `pattern` ask a language model, and how they read what it says."""

    template: TemplateSettings | None = Field(None, description="The template.")
    shots: int = Field(
        0, ge=0, le=256, description="Examples from the training part in each prompt; 0 is zero-shot."
    )
    choice: Literal["random", "balanced", "similar"] = Field(
        "balanced",
        description="Which examples: drawn by `seed`, the same number of each label, or for each record the "
        "most similar ones (the nearest stands last).",
    )
    similarity: Literal["bm25", "tfidf", "embedding"] = Field(
        "bm25",
        description="`similar`: by the tokens that texts share, or by the network's mean output.",
    )
    pool: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Training records among which examples are sought: `similar` ones, and in tagging and "
        "answering all.",
    )
    normalization: Literal["none", "length", "pmi"] = Field(
        "none",
        description="Score of a word: log-probability, its mean over the word's tokens, or what the record "
        "adds to the log-probability that the word has in the domain (Holtzman et al. 2021).",
    )
    calibration: Literal["none", "contextual"] = Field(
        "none",
        description="`contextual` divides each label's probability by that after records without content "
        "(Zhao et al. 2021).",
    )
    content_free: tuple[str, ...] = Field(
        ("N/A", "", "[MASK]"),
        min_length=1,
        description="Records without content; the mean of their probabilities counts.",
    )
    chat: bool = Field(
        False,
        description="Whether the prompt goes through the tokenizer's chat template: the task as the system's "
        "words, examples as earlier turns.",
    )
    masks: Literal["several", "first"] = Field(
        "several",
        description="Words of several tokens in a masked language model: one mask for each token, or only "
        "their first token.",
    )
    max_length: int = Field(
        1024,
        ge=8,
        le=131_072,
        description="Longest prompt, in tokens, or less where the network reads less. Where it is too long "
        "examples are left out, then the record is shortened.",
    )
    answer_tokens: int = Field(16, ge=1, le=512, description="Answering: longest answer, in tokens.")

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing beside the others."""
        sought = self.shots and self.choice == "similar"
        return [
            *([] if self.shots else self.given("choice")),
            *([] if sought else self.given("similarity")),
            *([] if self.shots else self.given("pool")),
            *([] if self.calibration == "contextual" else self.given("content_free")),
            *([] if self.template is None or self.template.masked else self.given("masks")),
        ]

    @field_validator("template", mode="before")
    @classmethod
    def _is_no_name(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(
                "the file of a template is named as `templates/<name>.yaml`, below the folder of params.yaml"
            )
        return value

    @model_validator(mode="after")
    def _calibrated_once(self) -> PromptSettings:
        if self.normalization == "pmi" and self.calibration == "contextual":
            raise ValueError(
                "`normalization: pmi` and `calibration: contextual` take away the same thing; choose one"
            )
        if self.chat and self.template is not None and self.template.masked:
            raise ValueError("`chat` is for causal language models, and the template has a {mask}")
        return self

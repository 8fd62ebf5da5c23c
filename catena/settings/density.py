"""The settings of Chain-of-Density: how a label is described, what is maximised, and what else is said."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from catena.settings.group import Fraction, Group

_SLOT = re.compile(r"\{(\w+)\}")


class DensitySettings(Group):
    """`density`: a causal language model learns log P(text | label), and Bayes' rule classifies."""

    template: str = Field(
        "{label}:\n",
        max_length=2000,
        description="Words before the text, with `{label}` for the label or its description; empty where "
        "soft tokens alone stand for the label.",
    )
    descriptions: dict[str, str] | None = Field(
        None, description="What each label is called in `template`, as `label: text`; by default its name."
    )
    absent: str = Field(
        "not {label}:\n",
        max_length=2000,
        description="`multilabel`: the words before a text that does not have the label.",
    )
    soft_tokens: int = Field(
        0, ge=0, le=100, description="Learned tokens of each label, between its words and the text."
    )
    soft_tokens_start: Literal["description", "random"] = Field(
        "description", description="What soft tokens begin as: the embeddings of the description, or noise."
    )
    soft_tokens_rate: float = Field(
        10.0, gt=0.0, le=10_000.0, description="Factor on the learning rate of soft tokens."
    )
    adapt: str = Field(
        "full",
        description="Which weights of the language model move: `full`, `top_layers`, `gradual`, `lora` or "
        "another parameter-efficient method but prefixes and prompts, each by its own settings; or none, "
        "`soft_tokens_only`.",
    )
    objective: Literal["generative", "hybrid", "discriminative"] = Field(
        "hybrid",
        description="What is maximised: log P(text | label), log P(label | text), or a mixture of both.",
    )
    generative_weight: Fraction = Field(
        0.5, description="`hybrid`: the share λ of log P(text | label); log P(label | text) has 1 - λ."
    )
    normalization: Literal["token", "text"] = Field(
        "token",
        description="-log P(text | label) in the objective: divided by the mean number of tokens of a "
        "training text, so that it is of the size of -log P(label | text), or of the whole text.",
    )
    score_end: bool = Field(
        True,
        description="Whether the end of the text counts as a token of it, without which log P(text | "
        "label) is no density over texts and generated texts do not know where to end.",
    )
    prior: Literal["learned", "uniform"] | dict[str, float] = Field(
        "learned",
        description="P(label): frequencies in the training part with one record added to each (altered "
        "copies, generated texts and pseudo-labels do not count), all equal, or as given.",
    )
    length_normalized: bool = Field(
        False,
        description="Scores are log P(text | label) / tokens + log P(label): long texts weigh no more than "
        "short ones, and it is no longer Bayes' rule.",
    )
    calibration: Literal["temperature", "none"] = Field(
        "temperature",
        description="Whether scores are divided by a temperature, fitted on the validation part after "
        "training, so that confidences can be believed; it changes no prediction but of `multilabel` with a "
        "`problem.threshold` other than 0.5.",
    )

    @property
    def generative_share(self) -> float:
        """λ, the share of log P(text | label) in what is maximised."""
        return {"generative": 1.0, "discriminative": 0.0}.get(self.objective, self.generative_weight)

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing beside the others."""
        weight = () if self.objective == "hybrid" else ("generative_weight",)
        soft = () if self.soft_tokens else ("soft_tokens_start", "soft_tokens_rate")
        unit = () if self.generative_share else ("normalization",)
        return self.given(*weight, *soft, *unit)

    @field_validator("descriptions")
    @classmethod
    def _descriptions_differ(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        seen: dict[str, str] = {}
        for label, text in (value or {}).items():
            words = " ".join(text.split()).casefold()
            if not words:
                raise ValueError(f"the description of {label!r} is empty; describe it, or leave all out")
            if words in seen:
                raise ValueError(
                    f"the labels {seen[words]!r} and {label!r} have the same description ({text!r}), so "
                    "nothing would tell them apart"
                )
            seen[words] = label
        return value

    @field_validator("prior")
    @classmethod
    def _prior_is_positive(cls, value: object) -> object:
        if isinstance(value, dict) and not all(0.0 < share < 1.0 for share in value.values()):
            raise ValueError("every share must be above 0 and below 1")
        return value

    @model_validator(mode="after")
    def _something_tells_labels_apart(self) -> DensitySettings:
        worded = "{label}" in self.template
        if self.template.strip() and not worded:
            raise ValueError("`template` has no `{label}`, so it says the same of every label")
        if not worded and not self.soft_tokens:
            raise ValueError(
                "nothing stands for a label: `template` is empty and `soft_tokens` is 0; give one of them"
            )
        for setting, words in (("template", self.template), ("absent", self.absent)):
            if strange := [slot for slot in _SLOT.findall(words) if slot != "label"]:
                raise ValueError(
                    f"`{setting}` has the slot {{{strange[0]}}}, but only {{label}} is filled in: the text "
                    "always follows"
                )
        if self.absent.strip() and "{label}" not in self.absent:
            raise ValueError("`absent` has no `{label}`, so it says the same of every label")
        if self.adapt == "soft_tokens_only" and not self.soft_tokens:
            raise ValueError(
                "`adapt` is soft_tokens_only and `soft_tokens` is 0, so nothing would be trained"
            )
        return self

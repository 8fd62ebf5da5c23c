"""The settings of what is learned. Those of one problem say so first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from catena.settings.decoding import DecodingSettings
from catena.settings.group import Group
from catena.settings.images import ImageAugmentationSettings, ImageSettings

ProblemName = Literal[
    "classification",
    "multilabel",
    "regression",
    "tagging",
    "ranking",
    "answering",
    "translation",
    "generation",
    "images",
]


class ProblemSettings(Group):
    """What is learned."""

    name: ProblemName = Field("classification", description="The problem's module in `catena/problems`.")
    separator: str = Field(
        "|",
        min_length=1,
        description="`multilabel`: what stands between the names of a text's classes, where they are not "
        "given as a JSON list.",
    )
    threshold: float = Field(
        0.5, gt=0.0, lt=1.0, description="`multilabel`: the least probability of a class that is said."
    )
    regression_loss: Literal["mse", "huber"] = Field(
        "mse",
        description="`regression`: squared errors, or Huber's, which far-off targets pull less.",
    )
    tag_scheme: Literal["auto", "IOB1", "IOB2", "BIOES"] = Field(
        "auto",
        description="`tagging`: how tags in the data name entities. `auto` reads all three (also BILOU and "
        "BMES); a scheme given rejects sentences that break its rules.",
    )
    words: Literal["spaces", "tokenizer"] = Field(
        "spaces",
        description="`tagging`: what an entity consists of: words between `spaces` (a script without them is "
        "divided as the tokenizer does), or the `tokenizer`'s own words, where entities end before "
        "punctuation.",
    )
    labelled_pieces: Literal["first", "all"] = Field(
        "first", description="`tagging`: which pieces of a word learn and say its tag."
    )
    crf: bool = Field(
        False,
        description="`tagging`: whether the network also learns which tag follows which, and whole sequences "
        "of tags are made likely (a conditional random field). Needs `labelled_pieces: first`.",
    )
    window_overlap: int = Field(
        32,
        ge=0,
        description="`tagging`, `answering`: tokens that two windows of a text longer than "
        "`tokenization.max_length` share (at most half of it).",
    )
    case_shapes: Literal["auto", "on", "off"] = Field(
        "auto",
        description="`tagging`: whether the network is told how words are written (lower, Capitalized, "
        "UPPER, …) beside their pieces; `auto` does so where the tokenizer drops case.",
    )
    architecture: Literal["cross_encoder", "two_towers"] = Field(
        "cross_encoder",
        description="`ranking`: read query and item together, which judges best, or embed each by itself, so "
        "that items can be embedded beforehand and the nearest be looked up.",
    )
    max_length_ratio: Annotated[float, Field(gt=1.0)] | None = Field(
        9.0,
        description="`translation`: pairs are rejected where one side has more words than this multiple of "
        "the other's (in scripts without spaces each character is a word); nothing keeps them.",
    )
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = Field(
        "13a",
        description="`translation`: how sacreBLEU finds words in the target language; `zh` for Chinese, "
        "`char` for other writing without spaces, `none` where texts are tokenized already.",
    )
    form: Literal["conversation", "document", "text"] = Field(
        "conversation",
        description="`generation`: what a record is: a `conversation`, whose answers are learned; a "
        "`document` that is written from its beginning to its end; or a block of running `text`, which "
        "ends nowhere.",
    )
    prompt_characters: int = Field(
        100,
        ge=1,
        le=100_000,
        description="`generation`, `document` and `text`: length of the beginning that is given when a test "
        "record is written on, about.",
    )
    decoding: DecodingSettings = Field(
        default_factory=lambda: DecodingSettings(),
        description="How text is written, where the problem is solved by writing.",
    )
    relevant_from: float = Field(
        1.0, gt=0.0, description="`ranking`: the least relevance (or rating) that counts as relevant."
    )
    images: ImageSettings = Field(
        default_factory=lambda: ImageSettings(), description="`images`: how pictures are read."
    )
    augmentation: ImageAugmentationSettings = Field(
        default_factory=lambda: ImageAugmentationSettings(),
        description="`images`: how training images are altered.",
    )
    max_answer_tokens: int = Field(
        30, ge=1, description="`answering`: the longest answer that is said, in tokens."
    )
    no_answer_threshold: float = Field(
        0.0,
        description="`answering`: how much likelier than the best answer it must be that there is none, as a "
        "difference of logarithms, before none is said. Only models that have seen unanswerable questions "
        "say so.",
    )
    hints: bool = Field(
        True,
        description="`answering`: whether the network is told which words of the passage the question has "
        "too, and which are capitalized or hold digits.",
    )
    other_passages: int = Field(
        0,
        ge=0,
        le=10,
        description="`answering`: passages shown with each training question that are like it and do not "
        "answer it, so that the model learns to say that a passage holds no answer; for knowledge bases.",
    )

    @model_validator(mode="after")
    def _chains_are_of_words(self) -> ProblemSettings:
        if self.crf and self.labelled_pieces == "all":
            raise ValueError("`crf` learns sequences of words, so `labelled_pieces` must be `first`")
        return self

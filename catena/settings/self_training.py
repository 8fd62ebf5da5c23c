"""The settings of learning from records without labels, by the model's own confident predictions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.group import Group


class SelfTrainingSettings(Group):
    """How the records of `data.unlabelled` are learned from; without such a file nothing of this counts."""

    rounds: int = Field(
        3, ge=1, le=20, description="Most times that unlabelled records are predicted and learned from."
    )
    threshold: float = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="Least confidence of a prediction that becomes a pseudo-label (Lee 2013; FixMatch's is "
        "0.95, arXiv:2001.07685).",
    )
    max_per_class: int | None = Field(
        None, ge=1, description="Most pseudo-labels of a class in a round, the most confident first."
    )
    balance: Literal["none", "labelled"] = Field(
        "none",
        description="`labelled` takes pseudo-labels of the classes in the shares that these have among the "
        "labelled records, so that no class crowds out the others.",
    )
    targets: Literal["hard", "soft"] = Field(
        "hard",
        description="What is learned of a pseudo-labelled record: the class said, or the probabilities of "
        "all classes.",
    )
    weight: float = Field(
        1.0,
        gt=0.0,
        le=10.0,
        description="Weight of a pseudo-labelled record in the loss; a labelled one has 1.",
    )
    epochs: float | None = Field(
        None,
        gt=0.0,
        le=1000.0,
        description="Passes over labelled and pseudo-labelled records together in a round; by default "
        "`training.epochs`.",
    )
    patience: int = Field(
        1, ge=1, le=20, description="Rounds without a gain on the validation part after which no more follow."
    )

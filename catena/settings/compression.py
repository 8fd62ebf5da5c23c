"""The settings of what makes a model smaller: a teacher to learn from, pruning, eight-bit weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from catena.settings.group import Fraction, Group


class DistillationSettings(Group):
    """A teacher whose probabilities are learned from as well as the labels, whatever the method."""

    teacher: str | None = Field(
        None,
        description="Model that teaches: models:/NAME/3, models:/NAME@champion, or a model folder (relative "
        "to the project); it must give probabilities for the same classes. Nothing: no teacher.",
    )
    tail: str | None = Field(None, description="Of a chain that teaches, the tail that is asked.")
    temperature: float = Field(
        2.0,
        ge=0.1,
        le=100.0,
        description="Both sides' logits are divided by it: the higher, the more the teacher's small "
        "probabilities say.",
    )
    weight: Fraction = Field(0.5, description="Share of the teacher in the loss; the labels have the rest.")

    @property
    def unread(self) -> list[str]:
        """Settings that were given without a teacher."""
        return [] if self.teacher is not None else self.given("temperature", "weight")


class CompressionSettings(Group):
    """What is cut out of a trained network, and how its weights are stored."""

    quantize: Literal["none", "int8"] = Field(
        "none",
        description="`int8`: matrices and embeddings of the stored model in eight bits, one scale a row; "
        "matrix products on CPUs in eight bits as well.",
    )
    prune_heads: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Share of the attention heads that is cut out, the least important first; each "
        "layer keeps one."
    )  # fmt: skip
    prune_layers: int = Field(0, ge=0, le=256, description="How many layers are cut out.")
    head_importance: Literal["sensitivity", "magnitude"] = Field(
        "sensitivity",
        description="How a head's importance is found: how much the loss on validation records would change "
        "without it, or the size of its weights.",
    )
    choose_layers: Literal["measured", "magnitude", "top", "alternate"] = Field(
        "measured",
        description="Which layers go: one after the other the one whose loss on validation records is "
        "smallest without it, those with the smallest weights, the last ones, or evenly spread ones.",
    )
    records: int = Field(
        256, ge=1, le=1_000_000, description="Most validation records on which importance is measured."
    )

    @property
    def prunes(self) -> bool:
        """Whether anything is cut out."""
        return bool(self.prune_heads or self.prune_layers)

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing to what is cut out."""
        heads = () if self.prune_heads else ("head_importance",)
        layers = () if self.prune_layers else ("choose_layers",)
        measured = (self.prune_heads and self.head_importance == "sensitivity") or (
            self.prune_layers and self.choose_layers == "measured"
        )
        return self.given(*heads, *layers, *(() if measured else ("records",)))

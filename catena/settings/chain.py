"""The settings of the method `chain`: how a shared backbone, links and tails are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from catena.settings.group import Group, OpenFraction


class LinkSettings(Group):
    """A trainable module after one of the backbone's layers, shared by all tails."""

    after: int = Field(ge=1, le=256, description="The layer that it follows, counted from 1.")
    kind: Literal["linear", "bottleneck", "lora", "attention"] = Field(
        "bottleneck",
        description="What is added to the layer's output h: W·h (`linear`); up(gelu(down(norm(h)))) "
        "(`bottleneck`, Houlsby et al. 2019); up(down(h)), a low-rank map (`lora`); self-attention over the "
        "text's tokens or the image's places (`attention`). All add nothing before they are trained.",
    )
    size: int = Field(64, ge=1, le=4096, description="Inner width; `linear` has none.")


class ContinuedPretrainingSettings(Group):
    """Self-supervised training of the backbone on the tails' own texts, before the tails are trained."""

    steps: int = Field(0, ge=0, description="Steps (of one batch each); 0 leaves it out.")
    objective: Literal["auto", "masked", "causal"] = Field(
        "auto",
        description="Fill in masked tokens, or say the next one; `auto` takes what the backbone can do.",
    )
    learning_rate: float = Field(5e-5, gt=0.0, le=1.0, description="Highest learning rate.")
    masked_share: OpenFraction = Field(
        0.15, gt=0.0, description="`masked`: share of the tokens that must be filled in (Devlin et al. 2019)."
    )

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing beside the others."""
        if not self.steps:
            return self.given("objective", "learning_rate", "masked_share")
        return self.given("masked_share") if self.objective == "causal" else []


class ChainSettings(Group):
    """How the backbone, the links and the tails of a chain are trained."""

    backbone_rate: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="The backbone's learning rate, as a factor on `training.learning_rate`; 0 freezes it.",
    )
    links: tuple[LinkSettings, ...] = Field((), description="Shared modules between the backbone's layers.")
    tail_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Width of a hidden layer in each tail (over three neighbouring tokens where a tail "
        "labels tokens); 0 makes tails linear.",
    )
    sampling: Literal["proportional", "temperature", "uniform"] = Field(
        "proportional",
        description="How often a tail has its turn: as its number of batches says, that number to the power "
        "1 / `temperature`, or all alike.",
    )
    temperature: float = Field(2.0, ge=1.0, le=100.0, description="For `sampling: temperature`.")
    weighting: Literal["fixed", "uncertainty"] = Field(
        "fixed",
        description="Weights w of the tails' losses: `weights`, or with a learned s for each tail "
        "w · (exp(-s) · loss + s / 2) (Kendall et al. 2018).",
    )
    uncertainty_rate: float = Field(
        100.0,
        gt=0.0,
        le=1e6,
        description="How many times as fast as other weights each s is learned: it has a long way to go, in "
        "numbers of the size of a loss's logarithm.",
    )
    weights: dict[str, Annotated[float, Field(gt=0.0, le=1e6)]] = Field(
        {}, description="Weight of each tail's loss, as `tail: weight`; those not named have 1."
    )
    l2_sp: float = Field(
        0.0,
        ge=0.0,
        le=1e3,
        description="Pull of the backbone and of links taken over towards the weights they start from: half "
        "of this times the squared distance is added to the loss (L2-SP, Li et al. 2018).",
    )
    earlier: Literal["keep", "replay"] = Field(
        "keep",
        description="Where the backbone is a chain itself, whose tails go on: `keep` trains nothing but the "
        "new tails, so that earlier ones answer as before, bit for bit; `replay` trains on, with a share of "
        "batches from the earlier tails.",
    )
    replay: OpenFraction = Field(
        0.3, gt=0.0, description="`replay`: share of the batches that come from the earlier tails."
    )
    pretraining: ContinuedPretrainingSettings = Field(
        default_factory=lambda: ContinuedPretrainingSettings(),
        description="Self-supervised training of the backbone on the tails' texts.",
    )

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing beside the others."""
        return [
            *([] if self.sampling == "temperature" else self.given("temperature")),
            *([] if self.weighting == "uncertainty" else self.given("uncertainty_rate")),
            *([] if self.earlier == "replay" else self.given("replay")),
            *(f"pretraining.{name}" for name in self.pretraining.unread),
        ]

"""The settings of how a network is adapted. Those of one method say so first, or are a group of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from catena.settings.chain import ChainSettings
from catena.settings.compression import CompressionSettings, DistillationSettings
from catena.settings.density import DensitySettings
from catena.settings.group import Group
from catena.settings.layers import GradualSettings
from catena.settings.peft import PeftSettings
from catena.settings.prompt import PromptSettings

#: Methods by which no weight moves.
NOT_TRAINED = ("prompt", "unchanged")
#: Settings that are some methods' own, and those methods; all others are for every method, or refused.
_OWN = {
    "layers": ("top_layers",),
    "gradual": ("gradual",),
    "density": ("density",),
    "peft": ("lora", "adalora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning"),
    "prompt": ("prompt", "pattern"),
    "chain": ("chain",),
}


class MethodSettings(Group):
    """Which weights move."""

    name: Literal[
        "full",
        "top_layers",
        "gradual",
        "lora", "adalora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning", "bitfit",
        "density",
        "prompt", "pattern",
        "chain",
        "unchanged",
    ] = Field("full", description="The method's module in `catena/methods`.")  # fmt: skip
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )
    layer_decay: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="`full`, `top_layers`, `gradual`: factor on the learning rate from each layer to the one "
        "below it; the head has the whole rate, the embeddings the lowest.",
    )
    gradual: GradualSettings = Field(
        default_factory=lambda: GradualSettings(), description="`gradual`: when layers join."
    )
    cache: bool = Field(
        False,
        description="`top_layers`: keep what the frozen layers say of each record on disk, so that later "
        "epochs cost only what trains.",
    )
    cache_gigabytes: float = Field(
        10.0,
        gt=0.0,
        description="`top_layers`: the most that kept outputs may take on disk, those of earlier trainings "
        "included; the oldest make room.",
    )

    store: Literal["merged", "adapter"] = Field(
        "merged",
        description="Parameter-efficient methods: a complete model folder, with what was learned merged into "
        "the weights where that can be, or only the `adapter`, the head and a reference to the backbone.",
    )
    density: DensitySettings = Field(
        default_factory=lambda: DensitySettings(),
        description="`density`: how it describes and learns labels.",
    )
    peft: PeftSettings = Field(PeftSettings(), description="Parameter-efficient methods.")
    prompt: PromptSettings = Field(
        default_factory=lambda: PromptSettings(), description="`prompt`, `pattern`: what is asked."
    )
    start: str | None = Field(
        None,
        description="Model with whose weights to begin instead of the backbone's: models:/NAME/3, "
        "models:/NAME@champion, or a model folder (relative to the project); `unchanged` needs one.",
    )
    distillation: DistillationSettings = Field(
        default_factory=lambda: DistillationSettings(), description="Learning from a teacher."
    )
    compression: CompressionSettings = Field(
        default_factory=lambda: CompressionSettings(), description="Making the network smaller."
    )
    chain: ChainSettings = Field(default_factory=lambda: ChainSettings(), description="`chain`.")

    @property
    def unread(self) -> list[str]:
        """Settings that were given and say nothing to this method, such as those of one tried before."""
        read_by = {self.name, self._moves}
        groups = [name for name, methods in _OWN.items() if not read_by & {*methods}]
        inner = {"peft": self.peft.unread(self._moves)} | {
            name: getattr(self, name).unread
            for name in ("density", "prompt", "chain", "distillation", "compression")
        }
        return [
            *self.given(*groups, *(() if self.cache else ("cache_gigabytes",))),
            *(f"{group}.{name}" for group, names in inner.items() if group not in groups for name in names),
        ]

    @property
    def _moves(self) -> str:
        """The method that moves the weights."""
        return self.density.adapt if self.name == "density" else self.name

    @model_validator(mode="after")
    def _settings_have_a_use(self) -> MethodSettings:
        by_layer = ("full", "top_layers", "gradual")
        moves = self._moves
        if self.layer_decay != 1.0 and moves not in by_layer:
            raise ValueError(f"`layer_decay` says nothing to {self.name}; it is for {', '.join(by_layer)}")
        for name in ("dora", "rank_stabilized"):
            if getattr(self.peft, name) and moves in _OWN["peft"] and moves != "lora":
                raise ValueError(f"`peft.{name}` says nothing to {moves}; it is for lora")
        if self.cache and self.name != "top_layers":
            raise ValueError(
                f"`cache` keeps what frozen layers say for `name` top_layers, and says nothing to {self.name}"
            )
        return self

    @model_validator(mode="after")
    def _chains_begin_with_the_backbone(self) -> MethodSettings:
        if self.name != "chain":
            return self
        asked = {
            "start": self.start is not None,
            "distillation.teacher": self.distillation.teacher is not None,
            "compression": self.compression.prunes or self.compression.quantize != "none",
        }
        for field, given in asked.items():
            if given:
                raise ValueError(f"`{field}` is for models of one problem, and `name` is chain; leave it out")
        return self

    @model_validator(mode="after")
    def _teachers_are_learned_from(self) -> MethodSettings:
        if self.name == "unchanged" and self.start is None:
            raise ValueError("`name` unchanged trains nothing, so `start` must name a model")
        if self.distillation.teacher is None:
            if self.distillation.tail is not None:
                raise ValueError("`distillation.tail` is that of a `distillation.teacher`; name one")
            return self
        if self.name in NOT_TRAINED:
            raise ValueError(
                f"`name` {self.name} trains nothing, so it has no use for `distillation.teacher`; leave that "
                "out or choose another method"
            )
        if self.name == "density" and self.density.generative_share == 1.0:
            raise ValueError(
                "`density.objective` generative does not tell labels apart in training (nor does a "
                "`generative_weight` of 1), so it has no use for `distillation.teacher`; choose hybrid or "
                "discriminative"
            )
        return self

    @model_validator(mode="after")
    def _prompts_have_a_template(self) -> MethodSettings:
        if self.name in ("prompt", "pattern") and self.prompt.template is None:
            raise ValueError(f"`name` {self.name} needs a template: `prompt.template`")
        return self

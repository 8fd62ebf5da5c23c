"""The settings of `params.yaml`: typed, documented, frozen, and closed to unknown keys."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, ValidationError, model_validator

from catena.settings.data import DataSettings, PreparationSettings
from catena.settings.group import Fraction, Group, SafeName
from catena.settings.method import NOT_TRAINED, MethodSettings
from catena.settings.network import BackboneSettings, TokenizationSettings
from catena.settings.tails import TailEvaluationSettings, WholeProblemSettings
from catena.settings.training import TrainingSettings


class EvaluationSettings(Group):
    """How good the model is, and where not."""

    bootstrap_samples: int = Field(
        1000, ge=100, le=100_000, description="Bootstrap resamples behind each confidence interval."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Coverage of the confidence intervals.")
    slices: tuple[str, ...] = Field(
        (), description="Columns (from `data.keep`) by whose values the scores are broken down."
    )
    baselines: tuple[str, ...] | None = Field(
        None,
        description="Simple rivals, by the names that the problem's manual page gives; by default the "
        "problem's own choice. For classification: `majority` (the most frequent class), `tfidf` (TF-IDF "
        "with logistic regression) and `backbone` (logistic regression on the mean-pooled output before "
        "fine-tuning).",
    )
    backbone_records: int = Field(
        2000, ge=10, description="Most training records the `backbone` baseline learns from."
    )
    worst_errors: int = Field(25, ge=0, le=1000, description="Most confident mistakes listed in the report.")
    behaviour: str | None = Field(None, description="YAML file of behaviour tests, relative to the project.")
    tails: dict[str, TailEvaluationSettings] = Field(
        {},
        # What is written down of a single problem says nothing of tails.
        exclude_if=lambda value: not value,
        description="A chain: `baselines`, `slices` and `behaviour` of each tail, as `tail: {…}`.",
    )


class RegistrySettings(Group):
    """Where finished models go."""

    model: SafeName | None = Field(
        None, description="Registered model in MLflow; by default the data set's name."
    )
    experiment: str | None = Field(
        None, description="MLflow experiment; by default the registered model's name."
    )


class GateSettings(Group):
    """What a challenger must show to become champion."""

    metric: str | None = Field(None, description="Metric that decides; by default the problem's own.")
    floors: dict[str, float] | None = Field(
        None,
        description="Lowest test metrics accepted, as `metric: value`, or `tail.metric: value` of a chain; "
        "by default the problem's own.",
    )
    significance: float = Field(
        0.05,
        gt=0.0,
        lt=1.0,
        description="Level of the paired bootstrap test against the champion on the same test records.",
    )
    require_improvement: bool = Field(
        False,
        description="Whether the challenger must be significantly better, or only not significantly worse.",
    )
    max_slice_drop: Fraction = Field(
        0.05,
        description="Largest drop of the score on any slice that is also significant at `significance`; "
        "where the score is an error, its largest rise as a share of it.",
    )
    min_slice_records: int = Field(30, ge=1, description="Slices with fewer test records do not decide.")
    max_calibration_increase: Fraction = Field(
        0.05, description="Largest rise of the expected calibration error."
    )
    max_latency_ratio: float | None = Field(
        2.0, gt=0.0, description="Largest median latency for one record, as a multiple of the champion's."
    )
    max_size_ratio: float | None = Field(
        2.0, gt=0.0, description="Largest model, as a multiple of the champion's bytes."
    )


class Settings(Group):
    """All of `params.yaml`."""

    seed: int = Field(42, ge=0, le=2**32 - 1, description="Seed of every random choice after the split.")
    data: DataSettings = Field(default_factory=lambda: DataSettings(), description="The records.")
    preparation: PreparationSettings = Field(
        default_factory=lambda: PreparationSettings(), description="Cleaning and splitting."
    )
    problem: WholeProblemSettings = Field(
        default_factory=lambda: WholeProblemSettings(), description="What is learned."
    )
    tokenization: TokenizationSettings = Field(
        default_factory=lambda: TokenizationSettings(), description="Text to tokens."
    )
    backbone: BackboneSettings = Field(default_factory=lambda: BackboneSettings(), description="The network.")
    method: MethodSettings = Field(
        default_factory=lambda: MethodSettings(), description="Which weights move."
    )
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(), description="How they move."
    )
    evaluation: EvaluationSettings = Field(
        default_factory=lambda: EvaluationSettings(), description="What is measured."
    )
    registry: RegistrySettings = Field(
        default_factory=lambda: RegistrySettings(), description="Where the model goes."
    )
    gate: GateSettings = Field(
        default_factory=lambda: GateSettings(), description="When it becomes champion."
    )

    @model_validator(mode="after")
    def _tails_fit(self) -> Settings:
        tails = self.problem.tails or {}
        if bool(tails) != (self.method.name == "chain"):
            raise ValueError(
                "`problem.tails` and `method.name: chain` go together: a chain joins several tails, and "
                "nothing else does"
            )
        images = [name for name, tail in tails.items() if tail.problem.name == "images"]
        if images and len(images) < len(tails):
            texts = next(name for name in tails if name not in images)
            raise ValueError(
                f"the tail {images[0]} sees images and the tail {texts} reads texts; one backbone cannot do "
                "both, so make two chains of them"
            )
        mentioned: dict[str, Iterator[str]] = {
            "method.chain.weights": iter(self.method.chain.weights),
            "evaluation.tails": iter(self.evaluation.tails),
            "gate.floors": (name.partition(".")[0] for name in self.gate.floors or {} if tails),
        }
        for where, names in mentioned.items():
            if (unknown := next((name for name in names if name not in tails), None)) is not None:
                known = f"the tails are {', '.join(tails)}" if tails else "there are no tails"
                raise ValueError(f"`{where}` names {unknown!r}, which is no tail; {known}")
        if tails and (self.training.metric or self.gate.metric):
            raise ValueError(
                "a chain is judged by each tail's own metric; leave out `training.metric` and `gate.metric`"
            )
        if tails and isinstance(self.training.class_weights, dict):
            raise ValueError("a chain's `training.class_weights` is none or balanced, for all tails alike")
        for name in tails:
            try:
                Settings.model_validate(
                    dict(self.tail(name).model_copy(update={"method": MethodSettings()})),
                )
            except ValidationError as error:
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"the tail {name}: {message}") from None
        return self

    @model_validator(mode="after")
    def _tokenizer_fits_the_backbone(self) -> Settings:
        if self.problem.tails:
            return self  # asked of each tail
        kind, tokenizer = self.backbone.type, self.tokenization.tokenizer
        if self.problem.name == "images":
            if kind not in ("pretrained", "resnet"):
                raise ValueError(
                    f"`backbone.type` {kind} reads tokens, and `problem.name` is images; choose resnet, or a "
                    "pretrained network for images"
                )
            return self
        if kind == "resnet":
            raise ValueError(
                f"`backbone.type` resnet sees images, and `problem.name` is {self.problem.name}; choose "
                "another"
            )
        if kind == "pretrained" and tokenizer != "backbone":
            raise ValueError(
                f"`tokenization.tokenizer` is {tokenizer}, but pretrained weights know only the tokens of "
                "their own tokenizer; leave it at `backbone`, or choose a `backbone.type` made from scratch"
            )
        if kind != "pretrained" and tokenizer == "backbone":
            raise ValueError(
                f"`backbone.type` {kind} is made from scratch and has no tokenizer of its own; set "
                "`tokenization.tokenizer` to characters, wordpiece or bpe"
            )
        return self

    @model_validator(mode="after")
    def _what_is_answered_is_read_whole(self) -> Settings:
        """A shorter input beside its whole target would teach to make up the rest."""
        if self.problem.name in ("generation", "translation") and self.training.max_length is not None:
            raise ValueError(
                f"`training.max_length` would cut off what is read in {self.problem.name}, and leave what is "
                "to be written for it; leave it out and set `tokenization.max_length`"
            )
        return self

    @model_validator(mode="after")
    def _what_is_not_told_apart_has_no_weights(self) -> Settings:
        if self.method.name == "density" and self.method.density.generative_share == 1.0:
            for name, unused in (("class_weights", "none"), ("label_smoothing", 0.0)):
                if getattr(self.training, name) != unused:
                    raise ValueError(
                        f"`training.{name}` says nothing to `method.density.objective` generative (or a "
                        "`generative_weight` of 1), which does not tell labels apart in training; set it to "
                        f"{unused}, or choose hybrid"
                    )
        return self

    @model_validator(mode="after")
    def _what_has_no_label_is_learned_from(self) -> Settings:
        tails = (self.problem.tails or {}).values()
        if not any(data.unlabelled for data in (self.data, *(tail.data for tail in tails))):
            return self
        if tails and not self.method.chain.pretraining.steps:
            raise ValueError(
                "a chain learns from the texts of `data.unlabelled` only in its pretraining; set "
                "`method.chain.pretraining.steps`, or leave them out"
            )
        if self.method.name in NOT_TRAINED:
            raise ValueError(
                f"`method.name` {self.method.name} trains nothing, so it has no use for `data.unlabelled`; "
                "leave that out or choose another method"
            )
        if self.method.distillation.teacher is not None:
            raise ValueError(
                "`method.distillation.teacher` is asked about labelled records alone; leave it out where "
                "`data.unlabelled` is learned from"
            )
        return self

    @model_validator(mode="after")
    def _layers_are_left_out_where_they_can_be(self) -> Settings:
        if self.backbone.keep_layers is None:
            return self
        if self.problem.tails:
            raise ValueError(
                "`backbone.keep_layers` is for models of one problem, not for chains; leave it out"
            )
        if self.method.store == "adapter":
            raise ValueError(
                "`method.store` adapter refers to the whole backbone, and `backbone.keep_layers` leaves some "
                "of it out; set `store` to merged"
            )
        return self

    @model_validator(mode="after")
    def _vocabularies_are_learned(self) -> Settings:
        chosen = self.tokenization
        if chosen.vocabularies == "separate" and (
            chosen.tokenizer == "backbone" or self.problem.name != "translation"
        ):
            raise ValueError(
                "`tokenization.vocabularies` separate is for the problem translation with a learned "
                "`tokenization.tokenizer`; set it to joint"
            )
        return self

    def tail(self, name: str) -> Settings:
        """The settings of one tail of a chain, as if it were learned alone."""
        tail = (self.problem.tails or {})[name]
        length = {} if tail.max_length is None else {"max_length": tail.max_length}
        own = self.evaluation.tails.get(name, TailEvaluationSettings())
        floors = {
            metric: value
            for whose, _, metric, value in (
                (*key.partition("."), v) for key, v in (self.gate.floors or {}).items()
            )
            if whose == name
        }
        return self.model_copy(
            update={
                "data": tail.data,
                "preparation": tail.preparation,
                "problem": WholeProblemSettings.model_validate(tail.problem.model_dump()),
                "tokenization": self.tokenization.model_copy(update=length),
                "evaluation": self.evaluation.model_copy(update={**dict(own), "tails": {}}),
                "registry": self.registry.model_copy(
                    update={"model": self.model_name, "experiment": self.experiment_name}
                ),
                "gate": self.gate.model_copy(update={"floors": floors or None}),
                "method": self.method,
            }
        )

    @property
    def problem_name(self) -> str:
        """Name of the problem, or of what joins several."""
        return self.method.name if self.problem.tails else self.problem.name

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self.registry.model or self.data.name

    @property
    def experiment_name(self) -> str:
        """Name of the MLflow experiment."""
        return self.registry.experiment or self.model_name

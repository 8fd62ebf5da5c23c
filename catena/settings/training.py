"""The settings of how weights are moved."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from catena.settings.group import Group, OpenFraction
from catena.settings.self_training import SelfTrainingSettings


class TrainingSettings(Group):
    """How the weights are moved."""

    epochs: float = Field(3.0, gt=0.0, le=1000.0, description="Passes over the training part.")
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimiser steps, whatever `epochs` says."
    )
    max_length: int | None = Field(
        None,
        ge=4,
        description="Longest input in training, in tokens, where it is to be shorter than "
        "`tokenization.max_length`: training gets faster, and prediction still reads on.",
    )
    batch_tokens: int = Field(
        2048,
        ge=16,
        description="Token budget of a batch, padding included; batches hold texts of similar length.",
    )
    batch_size: int = Field(32, ge=1, description="Most records in a batch.")
    packing: bool = Field(
        False,
        description="`generation`: several records share a row of a batch without seeing each other, in the "
        "order of the shuffle and not by length; then only `batch_tokens` limits a batch.",
    )
    gradient_accumulation: int = Field(
        1, ge=1, description="Batches whose gradients make one optimiser step."
    )
    optimizer: Literal["adamw", "adafactor", "sgd", "rmsprop", "adagrad", "nadam", "radam"] = Field(
        "adamw", description="Optimiser, by its name in PyTorch or transformers."
    )
    learning_rate: float = Field(2e-4, gt=0.0, le=10.0, description="Highest learning rate.")
    weight_decay: float = Field(
        0.01,
        ge=0.0,
        le=10.0,
        description="Weight decay: decoupled (adamw, adafactor, nadam, radam) or an L2 penalty (sgd, "
        "rmsprop, adagrad); biases and norms are exempt.",
    )
    momentum: OpenFraction = Field(0.9, description="Momentum of `sgd` and `rmsprop`.")
    schedule: Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "reduce_on_plateau"] = (
        Field("linear", description="Course of the learning rate after the warm-up.")
    )
    warmup_ratio: OpenFraction = Field(
        0.1, description="Share of the steps in which the learning rate rises from 0."
    )
    gradient_clipping: float | None = Field(
        1.0, gt=0.0, description="Largest norm of the gradient; nothing switches it off."
    )
    dropout: OpenFraction | None = Field(
        None,
        description="Dropout wherever the network has some, and where it has none outside the "
        "attention, as Llama, before its head; nothing leaves the backbone's own.",
    )
    label_smoothing: OpenFraction = Field(
        0.0, description="Share of the target spread evenly over all classes."
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="Weight of each class in the loss: equal, inverse to its frequency, or as given."
    )
    weight_averaging: OpenFraction = Field(
        0.0,
        description="Decay of a running mean of the weights (EMA), which is then what is measured and "
        "stored; "
        "0 switches it off.",
    )
    evaluations_per_epoch: int = Field(
        1, ge=1, le=1000, description="Evaluations on the validation part in each epoch."
    )
    metric: str | None = Field(
        None,
        description="Validation metric that chooses the best checkpoint; by default the problem's first.",
    )
    early_stopping: int | None = Field(
        None,
        ge=1,
        description="Stop after this many evaluations without improvement; nothing trains to the end.",
    )
    checkpoint_seconds: float = Field(
        120.0,
        ge=0.0,
        description="Least time between two checkpoints in the middle of an epoch, in seconds; "
        "0 makes one after every step.",
    )
    self_training: SelfTrainingSettings = Field(
        default_factory=lambda: SelfTrainingSettings(),
        description="How records without labels (`data.unlabelled`) are learned from.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to train.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Arithmetic of the matrix products; `auto` takes what the device is good at."
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        "auto", description="Attention kernel; `auto` takes the faster for the device."
    )

    @field_validator("class_weights")
    @classmethod
    def _weights_are_positive(cls, value: Any) -> Any:
        if isinstance(value, dict) and not all(0 < weight < math.inf for weight in value.values()):
            raise ValueError("class weights must be above 0, and finite")
        return value

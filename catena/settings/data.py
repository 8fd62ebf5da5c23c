"""The settings of the records: which there are, how files are read, and how they become clean parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from catena.settings.group import Fraction, Group, OpenFraction, SafeName

Format = Literal[
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
FileFormat = Literal["auto", Format]


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
    labelled: tuple[str, ...] = Field(
        (),
        description="Further training files: CSV or JSON Lines (UTF-8, with the names of the columns), such "
        "as `catena label-next` writes; records whose label is still empty are passed over.",
    )
    unlabelled: str | None = Field(
        None,
        description="File of records without labels, written as the training file is, to learn from as "
        "`training.self_training` says. A label column may be missing or empty; labels in it are not learned "
        "from, they only tell how many pseudo-labels are right.",
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
    conll_unit: Literal["sentence", "document"] = Field(
        "sentence",
        description="`conll`: what a record is: a sentence, or a document, from one line `-DOCSTART-` to the "
        "next, so that each word is read among its neighbours in other sentences too.",
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
    generated: str | None = Field(
        None,
        description="File in the data folder of records that a model wrote, as `catena generate` makes "
        "it; they join the training part alone.",
    )


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
        description="Jaccard similarity of character 5-grams of near duplicates, at least.",
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

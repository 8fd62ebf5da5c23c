"""Data sets and weights from a hub, through its own libraries, at a pinned commit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from catena.errors import DataError, ModelError, SettingsError
from catena.files import complete_folder

if TYPE_CHECKING:
    from datasets import Dataset

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: What a backbone's folder may hold: weights as safetensors, configuration and tokenizer. No pickle, no code.
BACKBONE_FILES = (
    "config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
)


def fetch_hub_data(dataset: str, revision: str, target: Path, cache: Path) -> None:
    """Save every split of a hub data set as `<split>.parquet` in `target`, class numbers as their names.

    Nothing is done when the folder is there. No code of the data set is run: version 5 of `datasets`
    cannot. Raises `DataError` when the hub cannot be reached or has no such data set or commit.
    """
    _check_commit(dataset, revision, "data.revision")
    if target.is_dir() and any(target.iterdir()):
        print(f"{target.name}: the folder is there", flush=True)
        return
    if Path(dataset).exists():
        raise SettingsError(
            f"`data.source`: there is a folder {dataset} here, which the `datasets` library would read "
            "instead of the hub; rename it."
        )
    from datasets import DatasetDict, load_dataset

    print(f"{dataset}: fetching commit {revision[:12]} from the hub", flush=True)
    with _hub_errors(dataset):
        loaded = load_dataset(dataset, revision=revision, cache_dir=str(cache))
    assert isinstance(loaded, DatasetDict)  # noqa: S101 - what load_dataset returns when no split is named
    with complete_folder(target) as partial:
        for split, rows in loaded.items():
            _with_class_names(rows).to_parquet(str(partial / f"{split}.parquet"))
            print(f"{target.name}: {split}.parquet ({len(rows):,} records)", flush=True)


def fetch_hub_backbone(model: str, revision: str, target: Path, cache: Path) -> None:
    """Make `target` hold the weights (safetensors only), configuration and tokenizer of a hub model.

    The hub's client checks each file's size and, for weights, its SHA-256. Raises `ModelError` when
    the model has no safetensors, `DataError` when the hub cannot be reached or does not know it.
    """
    _check_commit(model, revision, "backbone.revision")
    if target.is_dir() and any(target.iterdir()):
        check_backbone(target)
        print(f"{target.name}: the folder is there", flush=True)
        return
    from huggingface_hub import snapshot_download

    print(f"{model}: fetching commit {revision[:12]} from the hub", flush=True)
    with _hub_errors(model):
        snapshot = Path(
            snapshot_download(
                model, revision=revision, allow_patterns=list(BACKBONE_FILES), cache_dir=str(cache)
            )
        )
    check_backbone(snapshot)
    copy_backbone(snapshot, target)


def copy_backbone(source: Path, target: Path) -> None:
    """Copy the files of a pretrained model's folder that a backbone may hold."""
    wanted = sorted({path for pattern in BACKBONE_FILES for path in source.glob(pattern) if path.is_file()})
    with complete_folder(target) as partial:
        for path in wanted:
            shutil.copyfile(path, partial / path.name)
            print(f"{target.name}: {path.name} ({path.stat().st_size / 1e6:,.1f} MB)", flush=True)


def check_backbone(folder: Path) -> None:
    """Raise `ModelError` unless `folder` holds a configuration and weights as safetensors."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json, so it is not a pretrained model's folder.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors weights, and weights in other forms are not read; "
            "convert them with `save_pretrained`, or choose another model."
        )


def _with_class_names(rows: Dataset) -> Dataset:
    """The same records with numbered classes written out as their names."""
    from datasets import ClassLabel, Features, Value

    for column, feature in rows.features.items():
        if isinstance(feature, ClassLabel):

            def named(
                batch: dict[str, list[int | None]],
                column: str = column,
                names: tuple[str, ...] = tuple(feature.names),
            ) -> dict[str, list[str | None]]:
                return {column: [None if n is None or n < 0 else names[n] for n in batch[column]]}

            features = Features({**rows.features, column: Value("string")})
            rows = rows.map(named, batched=True, features=features, keep_in_memory=True)
    return rows


def _check_commit(name: str, revision: str, parameter: str) -> None:
    if not _COMMIT.fullmatch(revision):
        raise SettingsError(
            f"`{parameter}`: a full commit of {name} (40 hexadecimal digits) is needed, not {revision!r}, "
            "because branches and tags can move."
        )


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn what the hub's libraries raise when something is missing or out of reach into one sentence."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        DatasetsError,
        HFValidationError,
        ConnectionError,
        FileNotFoundError,
        # of `datasets`: a configuration is to be named, or the data set is a script
        ValueError,
        RuntimeError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
        raise DataError(
            f"{name} cannot be fetched from the hub ({reason}); check the name, the commit and the network, "
            "and `huggingface-cli login` where access is restricted."
        ) from error

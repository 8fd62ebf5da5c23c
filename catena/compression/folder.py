"""A finished model folder made smaller, without a training: read, cut, rounded, written, read again."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.backbones.smaller import count_weights
from catena.compression.sample import DESCRIBING, Sample, as_rows
from catena.compression.steps import check_plain, cut, remembered, round_off
from catena.errors import DataError, ModelError, SettingsError
from catena.files import check_replaceable, complete_folder, sha256_file
from catena.methods import get_method
from catena.model_folder import CARD, read_card, write_card
from catena.predictor import Predictor
from catena.settings import CompressionSettings, MethodSettings
from catena.training.embedding import row_lengths, run_batches

#: Predictions of one record that are timed.
_TIMED = 30
_NETWORK_FILES = ("config.json", "generation_config.json", CARD)


@dataclass(frozen=True)
class Figures:
    """What a model folder takes and gives; `scores` are the problem's validation metrics, if measured."""

    bytes: int
    weights: int
    scores: dict[str, float]
    milliseconds: float | None


@dataclass(frozen=True)
class Compressed:
    """What was done, and the figures before and after."""

    notes: tuple[str, ...]
    before: Figures
    after: Figures
    records: int


def read_labelled(path: Path, predictor: Predictor, targets: bool = True) -> pd.DataFrame:
    """Prepared records (Parquet, columns named by role), with their targets if these are wanted.

    Raises `DataError` for any others.
    """
    problem = predictor.problem
    columns = [*problem.input_roles, *([problem.target_role] if targets else [])]
    try:
        records = pd.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise DataError(f"There is no {path}; name prepared records with `--records`.") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(
            f"{path} holds no prepared records with the columns {', '.join(columns)} ({reason})."
        ) from None
    if records.empty:
        raise DataError(f"{path} holds no records.")
    if targets:
        problem.evaluation().check_targets(records, predictor.label_names)
    return records


def compress_folder(
    source: Path, target: Path, settings: CompressionSettings, records: Path | None = None
) -> Compressed:
    """Write a smaller model folder `target` of the one in `source`, which stays as it is.

    `records` are prepared ones with targets (Parquet), on which importance and scores are measured.
    Raises `SettingsError` where there is nothing to do or something else would be overwritten, `ModelError`
    where the model cannot be made smaller in this way.
    """
    if settings.quantize == "none" and not settings.prunes:
        raise SettingsError("Nothing is to be done; give `--quantize`, `--prune-heads` or `--prune-layers`.")
    check_replaceable(target, (CARD,), (source,))
    method = get_method(MethodSettings.model_validate(read_card(source)["method"]))
    check_plain(method)
    predictor = Predictor.load(source, device="cpu", precision="float32")
    labelled = None if records is None else read_labelled(records, predictor).head(10 * settings.records)
    sample = None if labelled is None else _sample(predictor, labelled, settings.records)
    before = _figures(predictor, source, labelled)
    notes = cut(predictor.model, settings, sample)
    notes += round_off(predictor.model, settings)
    card = predictor.card
    own = {name: value for name, value in card.items() if name not in ("format", "files")}
    own["compression"] = remembered(predictor.model, notes, card.get("compression")) | {
        "of": {"fingerprint": card["fingerprint"], "card_sha256": sha256_file(source / CARD)}
    }
    own["fingerprint"] = _fingerprint(own, settings)
    with complete_folder(target) as partial:
        for name in card["files"]:
            if name not in _NETWORK_FILES and not name.endswith(".safetensors"):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)
        method.save(predictor.model, partial)
        write_card(partial, own)
        _check(predictor, partial, labelled)
        after = _figures(Predictor.load(partial, device="cpu"), partial, labelled)
    return Compressed(tuple(notes), before, after, 0 if labelled is None else len(labelled))


def _sample(predictor: Predictor, labelled: pd.DataFrame, most: int) -> Sample:
    features = _features(predictor, labelled)
    rows = as_rows(features)
    return Sample.of(
        predictor.problem, rows, row_lengths(features), predictor.pad_token_id, most, predictor.device.kind
    )


def _features(predictor: Predictor, records: pd.DataFrame) -> dict[str, list[Any]]:
    return predictor.problem.encode(
        records, predictor.tokenizer, predictor.tokenization, predictor.label_names
    )


def _figures(predictor: Predictor, folder: Path, labelled: pd.DataFrame | None) -> Figures:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    weights = count_weights(predictor.model)
    if labelled is None:
        return Figures(size, weights, {}, None)
    return Figures(size, weights, _scores(predictor, labelled), _milliseconds(predictor, labelled))


def _scores(predictor: Predictor, labelled: pd.DataFrame) -> dict[str, float]:
    if predictor.problem.generates:
        return {}
    features = _features(predictor, labelled)
    outputs = _logits(predictor, features)
    labels = features["labels"]
    if isinstance(labels[0], list | np.ndarray):
        labels = [np.asarray(row) for row in labels]
    return predictor.problem.validation_metrics(outputs, labels)


def _logits(predictor: Predictor, features: dict[str, list[Any]]) -> Any:
    def collate(rows: Any) -> Any:
        return predictor.problem.collate(rows, predictor.pad_token_id)

    return run_batches(
        lambda batch: predictor.model(**batch).logits, features, collate, predictor.device,
        ("labels", *DESCRIBING),
    )  # fmt: skip


def _milliseconds(predictor: Predictor, labelled: pd.DataFrame) -> float:
    """Median time of a prediction of one record."""
    roles = list(predictor.problem.input_roles)
    taken = []
    for number in range(_TIMED + 3):
        record = labelled[roles].iloc[[number % len(labelled)]]
        started = time.perf_counter()
        predictor.predict(record, clean=False)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken[3:])


def _check(made: Predictor, folder: Path, labelled: pd.DataFrame | None) -> None:
    """Raise `ModelError` where what was written says something else than what was made."""
    read = Predictor.load(folder, device="cpu", precision="float32")
    ours, theirs = made.model.state_dict(), read.model.state_dict()
    same = ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    if same and labelled is not None and not made.problem.generates:
        features = _features(made, labelled.head(8))
        one, other = _logits(made, features), _logits(read, features)
        same = all(np.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))
    if not same:
        raise ModelError(
            "The smaller network cannot be stored so that it is read again; nothing was written."
        )


def _fingerprint(card: dict[str, Any], settings: CompressionSettings) -> str:
    content = json.dumps([card["compression"], settings.model_dump()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]

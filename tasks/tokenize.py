"""Tokenize: prepared records → token ids in memory-mapped Arrow, and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from catena.backbones import get_backbone
from catena.errors import DataError
from catena.files import complete_folder, write_json
from catena.layout import Layout
from catena.problems import get_problem
from catena.settings import Settings
from catena.training.tokens import write_tokens
from tasks.stage import run_stage
from tasks.tails import tokenize_tails

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PARTS = ("train", "validation", "test")
#: What is there only with `data.unlabelled`.
UNLABELLED = "unlabelled"


def tokenize(settings: Settings, layout: Layout) -> dict[str, object]:
    """Write `data/tokenized`: one Arrow file a part, the tokenizer, and `statistics.json`.

    Where there are records without labels, `unlabelled.arrow` holds their inputs, and `given.parquet` what
    their file said of them, which is only compared with.
    """
    problem = get_problem(settings.problem)
    tokenizer = _tokenizer(settings, layout) if problem.tokenizes else None
    labels_file = layout.prepared / "labels.json"
    if not labels_file.is_file():
        raise DataError(f"{labels_file} is missing; run the prepare stage first.")
    label_names = tuple(json.loads(labels_file.read_text(encoding="utf-8"))["labels"])
    cleaning = json.loads((layout.prepared / "cleaning.json").read_text(encoding="utf-8"))
    limit = settings.tokenization.max_length
    parts: dict[str, Any] = {}
    with complete_folder(layout.tokenized) as folder:
        unlabelled = layout.prepared / f"{UNLABELLED}.parquet"
        for part in (*PARTS, UNLABELLED) if unlabelled.is_file() else PARTS:
            counts: list[np.ndarray] = []
            unknown: list[int] = []

            def features(
                part: str = part, counts: list[np.ndarray] = counts, unknown: list[int] = unknown
            ) -> Iterator[dict[str, list[Any]]]:
                for batch in _batches(layout.prepared / f"{part}.parquet", problem.records_at_once):
                    encoded = problem.encode(batch, tokenizer, settings.tokenization, label_names)
                    counts.append(np.asarray(encoded["n_tokens"]))
                    if tokenizer is not None:
                        unknown.append(_occurrences(tokenizer.unk_token_id, encoded["input_ids"]))
                    about = {name: batch[name].tolist() for name in ("id", "augmented") if name in batch}
                    if (windows := encoded.get("record")) is not None:
                        about = {name: [values[row] for row in windows] for name, values in about.items()}
                    yield {**about, **encoded}

            rows = write_tokens(folder / f"{part}.arrow", features())
            tokens = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
            parts[part] = _statistics(rows, tokens, limit, sum(unknown))
        if unlabelled.is_file():
            given = pq.read_table(unlabelled, columns=["id", "given"])
            pq.write_table(given, folder / "given.parquet")
        if tokenizer is not None:
            tokenizer.save_pretrained(folder / "tokenizer")
        write_json(
            folder / "statistics.json",
            {
                "label_names": label_names,
                "cleaning": cleaning,
                "max_length": limit,
                "vocabulary": 0 if tokenizer is None else len(tokenizer),
                "parts": parts,
            },
        )
    if tokenizer is None:
        return {part: f"{values['records']:,} records" for part, values in parts.items()}
    learned = settings.tokenization.tokenizer
    origin = settings.backbone.name if learned == "backbone" else f"{learned}, learned from the training part"
    summary: dict[str, object] = {"tokenizer": f"{origin}, {len(tokenizer):,} entries"}
    for part, values in parts.items():
        summary[part] = (
            f"{values['records']:,} records, {values['tokens']:,} tokens, "
            f"{values['truncated']:,} cut to {limit} tokens ({values['truncated_share']:.1%}), "
            f"{values['unknown_share']:.2%} unknown"
        )
    return summary


def _tokenizer(settings: Settings, layout: Layout) -> PreTrainedTokenizerBase:
    """The backbone's own tokenizer, or one learned from the training part."""
    if settings.tokenization.tokenizer == "backbone":
        return get_backbone(settings.backbone.type).tokenizer(layout.backbone(settings.backbone.name))
    from catena.training.tokenizer import learn_tokenizer

    problem = get_problem(settings.problem)
    roles = problem.tokenized_roles or problem.input_roles
    chosen = settings.tokenization

    def learned(*roles: str) -> PreTrainedTokenizerBase:
        batches = _batches(layout.prepared / "train.parquet", problem.records_at_once)
        texts = (text for batch in batches for role in roles for text in batch[role])
        return learn_tokenizer(texts, chosen, begins=not problem.generates)

    if chosen.vocabularies == "joint":
        return learned(*roles)
    from catena.backbones.two_vocabularies import TwoVocabularies

    source, target = map(learned, roles)
    return TwoVocabularies.around(source, target.backend_tokenizer)


def _batches(file: Path, records: int) -> Iterator[Any]:
    if not file.is_file():
        raise DataError(f"{file} is missing; run the prepare stage first.")
    for batch in pq.ParquetFile(file).iter_batches(records):
        yield batch.to_pandas()


def _occurrences(token: int | None, input_ids: Iterable[list[int]]) -> int:
    return 0 if token is None else sum(ids.count(token) for ids in input_ids)


def _statistics(rows: int, tokens: np.ndarray, limit: int, unknown: int) -> dict[str, Any]:
    """Counts and length percentiles, in tokens before truncation; `unknown` ones after it."""
    cut = int((tokens > limit).sum())
    kept = int(np.minimum(tokens, limit).sum())
    quantiles = np.percentile(tokens, [50, 90, 95, 99, 100]) if rows else np.zeros(5)
    return {
        "records": rows,
        "tokens": kept,
        "unknown": unknown,
        "unknown_share": round(unknown / kept, 6) if kept else 0.0,
        "truncated": cut,
        "truncated_share": round(cut / rows, 6) if rows else 0.0,
        "tokens_lost": int(np.maximum(tokens - limit, 0).sum()),
        "length_percentiles": dict(
            zip(("p50", "p90", "p95", "p99", "max"), map(int, quantiles), strict=True)
        ),
    }


if __name__ == "__main__":
    run_stage("tokenize", tokenize, partial(tokenize_tails, tokenize))

"""Texts written for validation records, to measure a network by what it is to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from catena.decoding.writing import write_texts
from catena.problems import Problem
from catena.settings import DecodingSettings
from catena.training.devices import Device
from catena.training.tokens import TokenTable

#: Validation records for which texts are written, at most.
_RECORDS = 500


def validation_writer(
    problem: Problem,
    tokenizer: PreTrainedTokenizerBase,
    validation: TokenTable,
    device: Device,
) -> Callable[[PreTrainedModel], dict[str, float]] | None:
    """What measures the texts that a network writes for the first validation records, if the problem asks.

    Written greedily, whatever `problem.decoding` says, because that is quick and orders models alike.
    """
    if not problem.writes_in_validation:
        return None
    rows = [validation[row] for row in range(min(len(validation), _RECORDS))]
    targets = [
        tokenizer.decode(labels[labels >= 0], skip_special_tokens=True).strip()
        for labels in (np.asarray(row["labels"]) for row in rows)
    ]
    settings = DecodingSettings(
        max_new_tokens=problem.settings.decoding.max_new_tokens,
        max_length_ratio=problem.settings.decoding.max_length_ratio,
    )
    inputs = [row["input_ids"].tolist() for row in rows]

    def measured(model: PreTrainedModel) -> dict[str, float]:
        written = write_texts(model, tokenizer, inputs, settings, device)
        return problem.written_metrics(written.texts, targets)

    return measured

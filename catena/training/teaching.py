"""What a teacher says of the training records: asked once, kept on disk, and learned from in training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional

from catena.errors import DataError, SettingsError
from catena.files import complete_file
from catena.predictor import Predictor
from catena.problems import Problem, get_problem
from catena.settings import DistillationSettings, ProblemSettings
from catena.training.frozen_outputs import Part

#: What the probabilities of a problem's classes add up to: one (`softmax`), or each by itself (`sigmoid`).
KINDS = {
    "sequence-classification": "softmax",
    "image-classification": "softmax",
    "multi-label-classification": "sigmoid",
}
#: Feature and part of a batch that holds the teacher's logits.
FEATURE = "teacher_logits"
_LEAST = 1e-7  # below it a float32 cannot tell 1 − p from 1


@dataclass(frozen=True)
class Teaching:
    """The teacher's logits `(training records, classes)`, and how they are learned from.

    After Hinton, Vinyals and Dean 2015 (arXiv 1503.02531): the divergence of the student's probabilities
    from the teacher's, both at a temperature T, times T², so that its gradients keep their size.
    """

    logits: np.ndarray
    kind: str
    settings: DistillationSettings

    def table(self, training: Part) -> TaughtTable:
        """The training records with the teacher's logits."""
        return TaughtTable(training, self.logits)

    def join(self, batch: dict[str, torch.Tensor], features: Sequence[Mapping[str, Any]]) -> None:
        """Add the teacher's logits of the batch's records to it."""
        batch[FEATURE] = torch.from_numpy(np.stack([feature[FEATURE] for feature in features]))

    def blend(self, loss: torch.Tensor, logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """The labels' mean `loss` of a batch and the teacher's, each by its weight."""
        weight, temperature = self.settings.weight, self.settings.temperature
        divergence = teacher_loss(logits, taught, temperature, self.kind)
        return (1.0 - weight) * loss + weight * divergence


def teacher_loss(logits: torch.Tensor, taught: torch.Tensor, temperature: float, kind: str) -> torch.Tensor:
    """Mean divergence, in nats, of student from teacher at a temperature, times its square.

    Logits are `(batch, classes)`; where each class is decided by itself, the mean over classes too.
    """
    student, teacher = logits.float() / temperature, taught.float() / temperature
    if kind == "softmax":
        value = functional.kl_div(
            student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True
        )
    else:
        there = teacher.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(student, there)
        value = cross - functional.binary_cross_entropy_with_logits(teacher, there)
    return value * temperature**2


class TaughtTable:
    """Training records with what the teacher says of each."""

    def __init__(self, table: Part, logits: np.ndarray) -> None:
        self._table, self._logits = table, logits
        self.lengths = table.lengths

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self._table[row], FEATURE: self._logits[row]}


def taught_card(card: Mapping[str, Any], tail: str | None) -> Mapping[str, Any]:
    """What a model's card says of what teaches: of the model, or of the `tail` asked where it is a chain.

    Raises `SettingsError` where there is no such tail, or none is named.
    """
    tails = card.get("tails")
    if tails is None:
        if tail is not None:
            raise SettingsError(
                "`method.distillation.teacher` is no chain, so it has no tails; leave "
                "`method.distillation.tail` out."
            )
        return card
    if tail not in tails:
        has = "does not say which" if tail is None else f"names {tail!r}, which is none"
        raise SettingsError(
            f"`method.distillation.teacher` is a chain with the tails {', '.join(tails)}, and "
            f"`method.distillation.tail` {has} of them."
        )
    return {**card, **tails[tail]}


def check_teacher(card: Mapping[str, Any], problem: Problem, label_names: Sequence[str]) -> str:
    """How the classes' probabilities add up (one of `KINDS`).

    `card` is that of the teacher, or of its tail (`taught_card`). Raises `SettingsError` where it solves
    another problem, or knows other classes.
    """
    teacher = get_problem(ProblemSettings.model_validate(card["problem"]))
    kind = KINDS.get(problem.head(label_names).kind)
    if kind is None or problem.generates or not label_names:
        raise SettingsError(
            f"`method.distillation.teacher`: the problem {problem.name} has no probabilities of classes to "
            "learn from; leave it out."
        )
    if teacher.name != problem.name:
        raise SettingsError(
            f"`method.distillation.teacher` solves the problem {teacher.name}, not {problem.name}; choose "
            "another teacher."
        )
    known, wanted = set(card["label_names"]), set(label_names)
    if known != wanted:
        missing, other = sorted(wanted - known), sorted(known - wanted)
        what = (
            f"does not know the class {missing[0]!r}" if missing else f"knows the class {other[0]!r}, which "
            "the data do not have"
        )  # fmt: skip
        raise SettingsError(
            f"`method.distillation.teacher` {what}; it must have learned the same classes as the student."
        )
    return kind


def learn_from(
    teacher: Path,
    identity: str,
    card: Mapping[str, Any],
    problem: Problem,
    label_names: Sequence[str],
    tokens: Path,
    records: Path,
    cache: Path,
    settings: DistillationSettings,
) -> Teaching:
    """What the model in `teacher` says of the records of `tokens`, whose inputs are in `records` (Parquet).

    Kept in `cache`, by the teacher's `identity` and the records' identifiers, which are hashes of their
    content. Raises `DataError` where the texts are not those that were tokenized.
    """
    tail = settings.tail
    kind = check_teacher(taught_card(card, tail), problem, label_names)
    ids = _identifiers(tokens)
    digest = hashlib.sha256(json.dumps([identity, tail, list(label_names), ids]).encode()).hexdigest()
    file = cache / f"{digest[:32]}.arrow"
    logits = _cached(file, (len(ids), len(label_names)))
    if logits is None:
        texts = _inputs(records, problem, ids)
        print(f"asking the teacher about {len(texts):,} training records", flush=True)
        logits = _ask(Predictor.load(teacher, tail=tail), texts, label_names, kind)
        _keep(file, logits)
    return Teaching(logits, kind, settings)


def _ask(predictor: Predictor, texts: pd.DataFrame, label_names: Sequence[str], kind: str) -> np.ndarray:
    """Logits from probabilities: their logarithms differ from the network's by what no softmax sees."""
    parts = []
    step = min(predictor.problem.records_at_once, 2000)
    for start in range(0, len(texts), step):
        table = predictor.predict(texts.iloc[start : start + step], clean=False)
        columns = [f"p:{name}" for name in label_names]
        missing = [column for column in columns if column not in table]
        if missing:
            raise SettingsError(
                "`method.distillation.teacher` gives no probabilities of classes; choose another teacher."
            )
        parts.append(table[columns].to_numpy(dtype=np.float64))
        if len(texts) > step:
            print(f"progress step={min(start + step, len(texts))}/{len(texts)}", flush=True)
    chances = np.clip(np.concatenate(parts), _LEAST, 1.0 - _LEAST)
    logits: np.ndarray = np.log(chances)
    if kind == "sigmoid":
        logits = logits - np.log1p(-chances)
    return np.asarray(logits, dtype=np.float32)


def _identifiers(tokens: Path) -> list[str]:
    with pa.memory_map(str(tokens)) as source:
        table = pa.ipc.open_stream(source).read_all()
        if "id" not in table.column_names:
            raise DataError(f"{tokens} has no column `id`; run the tokenize stage again.")
        return [str(value) for value in table.column("id").to_pylist()]


def _inputs(records: Path, problem: Problem, ids: Sequence[str]) -> pd.DataFrame:
    """The inputs of the records with these identifiers, in their order."""
    try:
        table = pq.read_table(records, columns=["id", *problem.input_roles]).to_pandas()
    except FileNotFoundError:
        raise DataError(f"There is no {records} for the teacher to read; run the prepare stage.") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{records} cannot be read ({reason}); run the prepare stage again.") from None
    table = table.drop_duplicates("id").set_index("id")
    if not set(ids) <= set(table.index):
        raise DataError(
            f"{records} does not hold the records that were tokenized; run the tokenize stage again."
        )
    ordered: pd.DataFrame = table.loc[list(ids)].reset_index(drop=True)
    return ordered


def _cached(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The logits in `file`; nothing where it is absent or not whole, for they can be asked for again."""
    try:
        with pa.memory_map(str(file)) as source:
            column = pa.ipc.open_file(source).read_all().column("logits")
        values = np.asarray(column.combine_chunks().values.to_numpy(), dtype=np.float32)
        logits: np.ndarray = values.reshape(shape).copy()
    except (pa.ArrowException, OSError, ValueError):
        return None
    return logits


def _keep(file: Path, logits: np.ndarray) -> None:
    flat = pa.array(logits.reshape(-1), pa.float32())
    column = pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])
    table = pa.table({"logits": column})
    with complete_file(file) as partial, pa.ipc.new_file(str(partial), table.schema) as writer:
        writer.write_table(table)

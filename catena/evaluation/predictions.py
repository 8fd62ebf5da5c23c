"""`predictions.parquet`: every test record with what was predicted, the one source of all figures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catena.errors import DataError
from catena.files import complete_file
from catena.problems import Problem, get_problem
from catena.settings import ProblemSettings

if TYPE_CHECKING:
    from catena.evaluation.base import Evaluation

_KEY = b"catena"


@dataclass(frozen=True)
class EvaluationPlan:
    """What belongs to the predictions beside the records: whose they are and how to score them."""

    label_names: tuple[str, ...]
    fingerprint: str
    problem: dict[str, Any] = field(default_factory=dict)
    samples: int = 1000
    confidence: float = 0.95
    seed: int = 42
    metric: str | None = None
    slices: tuple[str, ...] = ()
    worst_errors: int = 25

    def with_changes(self, **changes: Any) -> EvaluationPlan:
        return replace(self, **changes)


@dataclass(frozen=True)
class Predictions:
    """The test records with their predictions, and the plan to score them by."""

    records: pd.DataFrame
    plan: EvaluationPlan

    @cached_property
    def problem(self) -> Problem:
        """The problem that the predictions solve."""
        return get_problem(ProblemSettings.model_validate(self.plan.problem))

    @cached_property
    def evaluation(self) -> Evaluation:
        """How such predictions are judged."""
        return self.problem.evaluation()

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines whose predictions are in the file, in the order of its columns."""
        names = [str(column).split(":") for column in self.records if str(column).startswith("baseline:")]
        return tuple(parts[1] for parts in names if len(parts) == 2)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the file whole or not at all; the plan goes into its metadata."""
    table = pa.Table.from_pandas(predictions.records, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _KEY: plan_text(predictions.plan).encode()}
    )
    with complete_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read and check the file.

    Raises `DataError` when it is missing, cut off, of another kind, empty, or lacks a column.
    """
    table = read_table(path)
    return checked_predictions(path, table.to_pandas(), (table.schema.metadata or {}).get(_KEY))


def read_table(path: Path) -> pa.Table:
    """The file as it is. Raises `DataError` when it is missing or cut off."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"There is no {path}; run the evaluate stage first.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} is not a complete Parquet file ({str(error).splitlines()[0][:120]}); "
            "run the evaluate stage again."
        ) from None


def checked_predictions(path: Path, records: pd.DataFrame, plan_as_text: bytes | None) -> Predictions:
    """Predictions out of `path`. Raises `DataError` where plan, records or columns are missing."""
    plan = _plan(path, plan_as_text)
    predictions = Predictions(records, plan)
    predictions.evaluation.check_columns(records, plan.label_names, path)
    return predictions


def plan_text(plan: EvaluationPlan) -> str:
    """A plan as it is stored."""
    return json.dumps(asdict(plan), sort_keys=True, ensure_ascii=False)


def _plan(path: Path, metadata: bytes | None) -> EvaluationPlan:
    try:
        values: dict[str, Any] = json.loads(metadata or b"")
        lists: dict[str, Any] = {
            key: tuple(value) for key, value in values.items() if isinstance(value, list)
        }
        plan = EvaluationPlan(**{**values, **lists})
        ProblemSettings.model_validate(plan.problem)
        return plan
    except (ValueError, TypeError, AttributeError):
        raise DataError(
            f"{path} was not written by the evaluate stage of this version (no plan in its metadata); "
            "run the evaluate stage again."
        ) from None

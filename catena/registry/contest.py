"""Challenger and champion on the same test records: collects what the gate decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catena.errors import RegistryError
from catena.evaluation.base import Evaluation
from catena.evaluation.predictions import Predictions
from catena.layout import Layout
from catena.model_folder import read_card
from catena.registry.gate import Check, Contender, Decision, Resampling, decide, floors
from catena.registry.latency import ROUNDS, latencies
from catena.registry.lineage import PREDICTIONS
from catena.registry.packaging import LINEAGE
from catena.registry.prediction import predict_apart
from catena.registry.versions import Registry, mlflow_model, model_folder
from catena.settings import GateSettings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

RATIO = "catena.latency_ratio"
COMPARED = "catena.compared_with"


@dataclass(frozen=True)
class Contest:
    """The gate's decision, the version it compared with, and the latencies measured for it (seconds)."""

    decision: Decision
    champion: str | None
    latency_ratio: float | None
    latencies: tuple[float, float] | None = None


def hold_contest(
    layout: Layout,
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    predictions: Predictions,
    settings: GateSettings,
) -> Contest:
    """Let the gate decide between two versions on the challenger's test records.

    The champion's predictions come from its own version where it was tested on the same records,
    and are made anew otherwise. Raises `RegistryError` or `ModelError` when the champion's files
    are gone or damaged.
    """
    records, plan, evaluation = predictions.records, predictions.plan, predictions.evaluation
    own = Contender(str(challenger.version), records, plan.label_names, folder_size(layout.candidate))
    if champion is None:
        return Contest(
            decide(own, None, settings, Resampling(plan.samples, plan.seed), evaluation=evaluation),
            None,
            None,
        )
    uri = f"models:/{registry.name}/{champion.version}"
    folder = model_folder(uri, layout)
    card, rival_card = read_card(layout.candidate), read_card(folder)
    if card["problem"]["name"] != rival_card["problem"]["name"]:
        return Contest(
            _another_problem(own, settings, card, rival_card, evaluation), str(champion.version), None
        )
    rival = Contender(
        str(champion.version),
        champion_predictions(mlflow_model(uri, layout), folder, predictions),
        tuple(rival_card["label_names"]),
        folder_size(folder),
    )
    ratio, measured = _latency_ratio(layout, challenger, champion, folder, predictions, settings)
    decision = decide(
        own,
        rival,
        settings,
        Resampling(plan.samples, plan.seed),
        evaluation=evaluation,
        slices=evaluation.slices(records, plan.slices),
        latency_ratio=ratio,
    )
    return Contest(decision, str(champion.version), ratio, measured)


def champion_predictions(packaged: Path, folder: Path, predictions: Predictions) -> pd.DataFrame:
    """The champion's predictions for `records`, in their order: stored ones, or new ones.

    Record identifiers are hashes of content and label, so the same identifiers mean the same
    records. Only when one is missing does a process of its own predict them all.
    """
    records = predictions.records
    path = packaged / LINEAGE / PREDICTIONS
    if path.is_file():
        try:
            stored = pd.read_parquet(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise RegistryError(
                f"The champion's stored predictions {path} are damaged "
                f"({str(error).splitlines()[0][:100]}); remove the file to have them made again."
            ) from None
        if set(records["id"]) <= set(stored["id"]):
            return stored.set_index("id").loc[records["id"]].reset_index()
    problem = predictions.problem
    wanted = ["id", problem.target_role, *problem.input_roles]
    return predict_apart(folder, records[wanted].reset_index(drop=True))


def stored_predictions(predictions: Predictions) -> bytes:
    """What of the predictions travels with a version: only what a contest needs, no inputs."""
    columns = ["id", *predictions.evaluation.stored_columns(predictions.plan.label_names)]
    table = pa.Table.from_pandas(predictions.records[columns], preserve_index=False)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def folder_size(folder: Path) -> int:
    """Bytes of all files of a model folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _another_problem(
    own: Contender,
    settings: GateSettings,
    card: Mapping[str, Any],
    rival_card: Mapping[str, Any],
    evaluation: Evaluation,
) -> Decision:
    text = (
        f"The model solves the problem {card['problem']['name']!r} and the champion "
        f"{rival_card['problem']['name']!r}, so they cannot be compared; promote it by hand if it is meant."
    )
    return Decision((*floors(own, settings, evaluation), Check("problem", False, text)))


def _latency_ratio(
    layout: Layout,
    challenger: ModelVersion,
    champion: ModelVersion,
    folder: Path,
    predictions: Predictions,
    settings: GateSettings,
) -> tuple[float | None, tuple[float, float] | None]:
    """Measured once for a pair of versions, so that deciding again does not depend on the day."""
    if settings.max_latency_ratio is None:
        return None, None
    tags = challenger.tags or {}
    if tags.get(COMPARED) == str(champion.version) and RATIO in tags:
        return float(tags[RATIO]), None
    records = typical_records(predictions.records, predictions.problem.input_roles)
    if not records:
        return None, None
    own, other = latencies(layout.candidate, folder, records)
    return own / other, (own, other)


def typical_records(records: pd.DataFrame, roles: Sequence[str]) -> list[dict[str, str]]:
    """The inputs of records whose length in characters is around the median, in the order of the file."""
    if not len(records) or any(role not in records for role in roles):
        return []
    lengths = sum((records[role].str.len() for role in roles), start=pd.Series(0, index=records.index))
    nearest = (lengths - lengths.median()).abs().sort_values(kind="stable").index[:ROUNDS]
    chosen = records.loc[sorted(nearest), list(roles)]
    return [{role: str(row[role]) for role in roles} for row in chosen.to_dict("records")]

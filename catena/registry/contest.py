"""Challenger and champion on the same test records: collects what the gate decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catena.errors import RegistryError
from catena.evaluation.base import Evaluation
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.layout import Layout
from catena.methods.base_reference import base_of
from catena.model_folder import read_card
from catena.registry.gate import Check, Contender, Decision, Resampling, decide, floors
from catena.registry.latency import ROUNDS, latencies
from catena.registry.lineage import PREDICTIONS
from catena.registry.packaging import LINEAGE
from catena.registry.prediction import predict_apart
from catena.registry.versions import Registry, mlflow_model, model_folder
from catena.settings import GateSettings, Settings

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
    tail: str = "",
) -> Contest:
    """Let the gate decide between two versions on the challenger's test records; of a chain, on one `tail`.

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
    card, rival_card = _part(read_card(layout.candidate), tail), _part(read_card(folder), tail)
    if card is None or rival_card is None:
        return _new_tail(own, settings, folder, plan, evaluation, str(champion.version), tail)
    if card["problem"]["name"] != rival_card["problem"]["name"]:
        return Contest(
            _another_problem(own, settings, card, rival_card, evaluation), str(champion.version), None
        )
    rival = Contender(
        str(champion.version),
        champion_predictions(mlflow_model(uri, layout), folder, predictions, tail),
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


def champion_predictions(
    packaged: Path, folder: Path, predictions: Predictions, tail: str = ""
) -> pd.DataFrame:
    """The champion's predictions for `records`, in their order: stored ones, or new ones.

    Record identifiers are hashes of content and label, so the same identifiers mean the same
    records. Only when one is missing does a process of its own predict them all.
    """
    records, problem = predictions.records, predictions.problem
    path = packaged / LINEAGE / predictions_name(tail)
    if path.is_file():
        try:
            stored = pd.read_parquet(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise RegistryError(
                f"The champion's stored predictions {path} are damaged "
                f"({str(error).splitlines()[0][:100]}); remove the file to have them made again."
            ) from None
        if set(records["id"]) <= set(stored["id"]):
            found = stored.set_index("id").loc[records["id"]].reset_index()
            # inputs do not travel with a version, and some scores count what is in them
            return found.assign(**{role: records[role].array for role in problem.input_roles})
    wanted = ["id", problem.target_role, *problem.input_roles]
    return predict_apart(folder, records[wanted].reset_index(drop=True), tail)


def predictions_name(tail: str = "") -> str:
    """Name of the file with which the predictions of a model, or of a tail, travel with a version."""
    return f"{tail}.{PREDICTIONS}" if tail else PREDICTIONS


def stored_predictions(predictions: Predictions) -> bytes:
    """What of the predictions travels with a version: only what a contest needs, no inputs."""
    columns = ["id", *predictions.evaluation.stored_columns(predictions.plan.label_names)]
    table = pa.Table.from_pandas(predictions.records[columns], preserve_index=False)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def folder_size(folder: Path) -> int:
    """Bytes of all files of a model folder; with those of the backbone's weights where it needs one."""
    base = base_of(folder)
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return own + (base.bytes if base is not None else 0)


def hold_contests(
    layout: Layout,
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    tests: Mapping[str, Predictions],
    settings: Settings,
) -> Contest:
    """`hold_contest` for each of the tests: the tails of a chain, or under "" the one problem of a model.

    A chain is promoted when every tail passes. Latency and size are those of the whole and compared once.
    """
    if "" in tests:
        return hold_contest(layout, registry, challenger, champion, tests[""], settings.gate)
    checks: list[Check] = []
    notes: list[str] = []
    first: Contest | None = None
    rivals = _tails(layout, registry, champion)
    for tail, predictions in tests.items():
        gate = settings.tail(tail).gate
        if first is not None:
            gate = gate.model_copy(update={"max_latency_ratio": None, "max_size_ratio": None})
        contest = hold_contest(layout, registry, challenger, champion, predictions, gate, tail)
        # a tail that the champion has not is compared with nothing, so another must be
        first = contest if first is None and (tail in rivals or not rivals) else first
        checks += [
            replace(check, name=f"{tail}:{check.name}", text=f"{tail}: {check.text}")
            for check in contest.decision.checks
        ]
        notes += [note for note in contest.decision.notes if note not in notes]
    if lost := [name for name in rivals if name not in tests]:
        text = f"The champion answers for {', '.join(lost)} as well, which this chain does not."
        checks.append(Check("tails", False, text))
    decision = Decision(tuple(checks), tuple(notes))
    if first is None:  # no tail is the champion's
        return Contest(decision, None if champion is None else str(champion.version), None)
    return Contest(decision, first.champion, first.latency_ratio, first.latencies)


def _tails(layout: Layout, registry: Registry, champion: ModelVersion | None) -> tuple[str, ...]:
    """The champion's tails; none where it is no chain, or there is no champion."""
    if champion is None:
        return ()
    card = read_card(model_folder(f"models:/{registry.name}/{champion.version}", layout))
    return tuple(card.get("tails", {}))


def _part(card: Mapping[str, Any], tail: str) -> Mapping[str, Any] | None:
    """What a card says of one tail, or of a model's one problem; nothing where it has none such."""
    part = card.get("tails", {}).get(tail) if tail else card
    return part if part is not None and "problem" in part else None


def _new_tail(
    own: Contender,
    settings: GateSettings,
    folder: Path,
    plan: EvaluationPlan,
    evaluation: Evaluation,
    champion: str,
    tail: str,
) -> Contest:
    """A tail that a chain in production has not, or a model in place of a chain."""
    if tail and "tails" in read_card(folder):
        decision = decide(own, None, settings, Resampling(plan.samples, plan.seed), evaluation=evaluation)
        note = f"The champion has no tail {tail}, so only its floors count."
        return Contest(Decision(decision.checks, (note,)), champion, None)
    text = (
        f"One of the model and the champion, version {champion}, is a chain and the other is not, so they "
        "cannot be compared; promote it by hand if it is meant."
    )
    checks = (*floors(own, settings, evaluation), Check("problem", False, text))
    return Contest(Decision(checks), champion, None)


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

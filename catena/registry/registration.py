"""The candidate into the registry: a version, its lineage, the gate's decision, the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catena.errors import DataError, RegistryError
from catena.evaluation.joined import read_tests
from catena.evaluation.predictions import Predictions
from catena.files import write_json
from catena.layout import Layout
from catena.model_folder import check_files, read_card, weights_sha256
from catena.registry.contest import (
    COMPARED,
    RATIO,
    Contest,
    hold_contests,
    predictions_name,
    stored_predictions,
)
from catena.registry.gate import Check, Decision
from catena.registry.lineage import lineage_documents
from catena.registry.packaging import log_model
from catena.registry.promotion import LostRaceError, lost_champion, move_champion
from catena.registry.run import TrackedRun
from catena.registry.store import default_store, registry_errors
from catena.registry.tracking import continue_run, update_run_record
from catena.registry.versions import CHALLENGER, CHAMPION, Registry
from catena.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_ATTEMPTS = 3
_EXAMPLES = 3
ROLLED_BACK = "catena.rolled_back"


@dataclass(frozen=True)
class Registration:
    """What registering came to; `report` is the content of `reports/registry.json`."""

    report: dict[str, Any]
    contest: Contest
    reused: bool
    uri: str

    @property
    def promoted(self) -> bool:
        return bool(self.report["decision"] == "promoted")


def register_candidate(settings: Settings, layout: Layout) -> Registration:
    """Register `models/candidate`, let the gate decide, write `reports/registry.json`.

    A model that is registered already (same fingerprint and weights) keeps its version and is
    decided on again. Raises `ModelError` or `DataError` for an incomplete or outdated candidate,
    `RegistryError` when the registry cannot be used or its champion was deleted; nothing is
    promoted then.
    """
    card = read_card(layout.candidate)
    check_files(layout.candidate, card)
    tests = read_tests(layout.predictions)
    if any(one.plan.fingerprint != card["fingerprint"] for one in tests.values()):
        raise DataError(
            f"{layout.predictions} was made by another model than {layout.candidate} holds; "
            "run the evaluate stage again."
        )
    metrics = headline_metrics(tests)
    with continue_run(settings, layout, card["fingerprint"]) as run:
        registry = Registry(run.client, run.uri, settings.model_name)
        _require_champion(registry)
        found = find_version(registry, card)
        version = found or _create_version(settings, layout, run, registry, card, tests, metrics)
        contest = _settle(settings, layout, registry, version, tests)
        report = _report(registry, version, contest)
        _record(run, registry, version, report, contest, metrics)
        run.log_text(json.dumps(report, indent=2, ensure_ascii=False), layout.registry_report.name)
        write_json(layout.registry_report, report)
        update_run_record(
            layout, card["fingerprint"],
            model=registry.name, version=str(version.version), latencies=contest.latencies,
        )  # fmt: skip
        uri = run.uri
    return Registration(report, contest, found is not None, uri)


def read_report(layout: Layout) -> dict[str, Any]:
    """`reports/registry.json`. Raises `RegistryError` when it is missing or damaged."""
    path = layout.registry_report
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if (
            isinstance(report, dict)
            and {"model", "version", "decision", "reasons", "checks"} <= report.keys()
        ):
            return report
    except FileNotFoundError:
        raise RegistryError(f"There is no {path}; run the register stage first.") from None
    except ValueError:
        pass
    raise RegistryError(f"{path} is damaged; run the register stage again (`dvc repro --force register`).")


def headline_metrics(tests: Mapping[str, Predictions]) -> dict[str, float]:
    """Every metric the predictions allow, by name; of a chain, by `<tail>.<name>`."""
    return {
        f"{tail}.{metric}" if tail else metric: round(value, 6)
        for tail, one in tests.items()
        for metric, value in one.evaluation.values(one.records, one.plan).items()
    }


def find_version(registry: Registry, card: dict[str, Any]) -> ModelVersion | None:
    """The latest version of exactly this model, or `None`."""
    wanted = {"catena.fingerprint": card["fingerprint"], "catena.weights_sha256": weights_sha256(card)}
    same = [
        version
        for version in registry.versions()
        if version.status == "READY" and wanted.items() <= (version.tags or {}).items()
    ]
    return same[-1] if same else None


def _require_champion(registry: Registry) -> None:
    """Do not let a deleted champion pass for "no champion yet": anything would be promoted then."""
    number = registry.aliased(CHAMPION)
    known = {str(version.version) for version in registry.versions()}
    gone = number if number is not None and number not in known else lost_champion(registry)
    if gone is not None and known:
        what = "has lost its alias" if gone in known else "was deleted"
        raise RegistryError(
            f"The champion of {registry.name}, version {gone}, {what} in the registry; choose another with "
            f"`catena promote {registry.name} VERSION` (there are {', '.join(sorted(known, key=int))})."
        )


def _create_version(
    settings: Settings,
    layout: Layout,
    run: TrackedRun,
    registry: Registry,
    card: dict[str, Any],
    tests: Mapping[str, Predictions],
    metrics: dict[str, float],
) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    inputs = {
        role: one.records[role]
        for one in tests.values()
        for role in one.problem.input_roles
        if role in one.records
    }
    shown = min([_EXAMPLES, *map(len, inputs.values())]) if inputs else 0
    examples = [{role: str(values.iloc[row]) for role, values in inputs.items()} for row in range(shown)]
    documents = lineage_documents(settings, layout, metrics)
    git = json.loads(documents["lineage.json"])["git"]
    documents |= {predictions_name(tail): stored_predictions(one) for tail, one in tests.items()}
    model_id = log_model(run, layout.candidate, registry.name, examples=examples, documents=documents)
    with registry_errors(run.uri):
        try:
            run.client.create_registered_model(registry.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with default_store(run.uri):
            version = run.client.create_model_version(
                registry.name,
                source=f"models:/{model_id}",
                run_id=run.run_id,
                model_id=model_id,
                tags={
                    "catena.fingerprint": card["fingerprint"],
                    "catena.weights_sha256": weights_sha256(card),
                    "catena.git_commit": git["commit"] or "none",
                    "catena.git_dirty": str(git["dirty"]).lower(),
                },
            )
    return version


def _settle(
    settings: Settings,
    layout: Layout,
    registry: Registry,
    version: ModelVersion,
    tests: Mapping[str, Predictions],
) -> Contest:
    """Hold the contest and move the alias; if the champion changes meanwhile, meet the new one."""
    number = str(version.version)
    for attempt in range(_ATTEMPTS):
        version = registry.version(number)
        current = registry.aliased(CHAMPION)
        if current == number:
            opponent = _former_opponent(registry, version)
        else:
            with registry_errors(registry.uri):
                registry.client.set_registered_model_alias(registry.name, CHALLENGER, number)
            opponent = registry.champion()
        contest = hold_contests(layout, registry, version, opponent, tests, settings)
        # Before the alias moves: a run cut off in between must find out whom it was compared with.
        _remember(registry, number, contest)
        if (version.tags or {}).get(ROLLED_BACK) == "true" and current != number:
            contest = _kept_back(contest, registry.name, number)
        if current == number:
            return contest if contest.decision.promoted else _stays(contest, registry.name)
        if not contest.decision.promoted:
            return contest
        try:
            reason = contest.decision.reasons[0] if contest.decision.reasons else ""
            move_champion(layout, registry, number, current, event="promoted", by="gate", reason=reason)
            return contest
        except LostRaceError:
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _remember(registry: Registry, number: str, contest: Contest) -> None:
    client, name = registry.client, registry.name
    with registry_errors(registry.uri):
        # the ratio is of the champion that is named last: killed in between, neither is believed
        client.delete_model_version_tag(name, number, COMPARED)
        client.delete_model_version_tag(name, number, RATIO)
        if contest.latency_ratio is not None:
            client.set_model_version_tag(name, number, RATIO, f"{contest.latency_ratio:.4f}")
        client.set_model_version_tag(name, number, COMPARED, contest.champion or "")


def _former_opponent(registry: Registry, version: ModelVersion) -> ModelVersion | None:
    """Whom the present champion was compared with, so that deciding again says the same again."""
    number = (version.tags or {}).get(COMPARED)
    known = {str(each.version): each for each in registry.versions()}
    return known.get(number) if number else None


def _kept_back(contest: Contest, name: str, number: str) -> Contest:
    text = (
        f"Version {number} was rolled back from; the gate does not promote it again by itself "
        f"(`catena promote {name} {number}` does)."
    )
    decision = Decision((*contest.decision.checks, Check("rolled_back", False, text)), contest.decision.notes)
    return Contest(decision, contest.champion, contest.latency_ratio, contest.latencies)


def _stays(contest: Contest, name: str) -> Contest:
    note = f"It is the champion already and stays so; `catena rollback {name}` brings the one before it back."
    decision = Decision(contest.decision.checks, (*contest.decision.notes, note))
    return Contest(decision, contest.champion, contest.latency_ratio, contest.latencies)


def _report(registry: Registry, version: ModelVersion, contest: Contest) -> dict[str, Any]:
    champion = registry.aliased(CHAMPION)
    return {
        "model": registry.name,
        "version": str(version.version),
        "decision": "promoted" if contest.decision.promoted else "kept",
        "reasons": contest.decision.reasons,
        "compared_with": contest.champion,
        "checks": [check.as_dict() for check in contest.decision.checks],
        "aliases": {CHAMPION: champion, CHALLENGER: registry.aliased(CHALLENGER)},
    }


def _record(
    run: TrackedRun,
    registry: Registry,
    version: ModelVersion,
    report: dict[str, Any],
    contest: Contest,
    metrics: dict[str, float],
) -> None:
    """The decision as tags of version and run, and as the version's description."""
    tags = {
        "catena.decision": report["decision"],
        "catena.reasons": json.dumps(report["reasons"]),
        **{f"catena.metric.{name}": f"{value:.6f}" for name, value in metrics.items()},
    }
    with registry_errors(run.uri):
        for key, value in tags.items():
            registry.client.set_model_version_tag(registry.name, str(version.version), key, value)
        description = "\n".join(f"- {reason}" for reason in report["reasons"])
        registry.client.update_model_version(
            registry.name, str(version.version), f"**{report['decision']}**\n\n{description}"
        )
    run.set_tags(
        {
            "catena.decision": report["decision"],
            "catena.reasons": " ".join(report["reasons"]),
            "catena.version": str(version.version),
        }
    )
    if contest.latencies is not None:
        own, other = contest.latencies
        run.log_metrics({"gate/latency_seconds": own, "gate/champion_latency_seconds": other})

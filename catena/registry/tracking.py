"""One MLflow run for each pipeline run: train opens it, evaluate and register continue it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from catena.errors import RegistryError
from catena.files import write_json
from catena.layout import Layout
from catena.registry.provenance import SourceState, data_inputs, environment, source_state, user
from catena.registry.run import TrackedRun
from catena.registry.store import artifact_location, connect, registry_errors, tracking_uri
from catena.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["TrackedRun", "continue_run", "open_run", "tracking_uri"]

_SAMPLING_SECONDS = 5


@contextmanager
def open_run(settings: Settings, layout: Layout, fingerprint: str, *, resume: bool) -> Iterator[TrackedRun]:
    """The run of a training: parameters, sources, data sets and system metrics are recorded.

    With `resume` it goes on with the run recorded in `.catena/runs/<fingerprint>.json`, if that
    never finished. An exception in the block closes the run as failed and passes on.
    """
    client = connect(layout)
    uri = tracking_uri(layout)
    with registry_errors(uri):
        run = _recorded(client, layout, uri, fingerprint) if resume else None
    resumed = run is not None and run.info.status != "FINISHED"
    if run is None or not resumed:
        tracked = _create(client, settings, layout, uri, fingerprint)
    else:
        tracked = _continue(client, run, uri, resumed=True)
    with _recording(layout, fingerprint, tracked, "train"), _system_metrics(tracked, resumed):
        yield tracked


@contextmanager
def continue_run(settings: Settings, layout: Layout, fingerprint: str) -> Iterator[TrackedRun]:
    """The run that trained the model with this fingerprint, for a later stage to add to.

    Where this store does not have it (the model came from DVC's cache or another machine), a
    run is created and described like a training's.
    """
    client = connect(layout)
    uri = tracking_uri(layout)
    with registry_errors(uri):
        run = _recorded(client, layout, uri, fingerprint) or _tagged(client, settings, fingerprint)
    if run is None:
        tracked = _create(client, settings, layout, uri, fingerprint)
    else:
        tracked = _continue(client, run, uri, resumed=False)
    with _recording(layout, fingerprint, tracked, None):
        yield tracked


def read_run_record(layout: Layout, fingerprint: str) -> dict[str, Any]:
    """What `.catena/runs/<fingerprint>.json` says; empty when it is absent or damaged."""
    try:
        record = json.loads(layout.run_record(fingerprint).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def update_run_record(layout: Layout, fingerprint: str, **values: object) -> None:
    """Add `values` to the run record."""
    write_json(layout.run_record(fingerprint), {**read_run_record(layout, fingerprint), **values})


@contextmanager
def _recording(layout: Layout, fingerprint: str, run: TrackedRun, opened_by: str | None) -> Iterator[None]:
    """Keep the run record up to date and close the run however the block ends."""
    known: dict[str, object] = {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "tracking_uri": run.uri,
    }
    if opened_by:
        known |= {"host": platform.node(), "started": _now(), "environment": environment()}
    update_run_record(layout, fingerprint, **known, status="RUNNING")
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        update_run_record(layout, fingerprint, status=status, **({"finished": _now()} if opened_by else {}))
        try:
            run.finish(status)
        except RegistryError:
            # After a failure the first error is the one to show.
            if status == "FINISHED":
                update_run_record(layout, fingerprint, status="FAILED")
                raise


@contextmanager
def _system_metrics(run: TrackedRun, resumed: bool) -> Iterator[None]:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    untyped: Any = SystemMetricsMonitor
    monitor = untyped(
        run.run_id, sampling_interval=_SAMPLING_SECONDS, resume_logging=resumed, tracking_uri=run.uri
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _recorded(client: MlflowClient, layout: Layout, uri: str, fingerprint: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    record = read_run_record(layout, fingerprint)
    if record.get("tracking_uri") != uri or not isinstance(record.get("run_id"), str):
        return None
    try:
        run = client.get_run(record["run_id"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _tagged(client: MlflowClient, settings: Settings, fingerprint: str) -> Run | None:
    experiment = client.get_experiment_by_name(settings.experiment_name)
    if experiment is None or experiment.lifecycle_stage != "active":
        return None
    query = f"tags.`catena.fingerprint` = '{fingerprint}'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1)
    return runs[0] if runs else None


def _continue(client: MlflowClient, run: Run, uri: str, *, resumed: bool) -> TrackedRun:
    with registry_errors(uri):
        client.update_run(run.info.run_id, status="RUNNING")
    return TrackedRun(client, run, uri, resumed)


def _create(
    client: MlflowClient, settings: Settings, layout: Layout, uri: str, fingerprint: str
) -> TrackedRun:
    source = source_state(layout.root)
    with registry_errors(uri):
        experiment = experiment_id(client, settings.experiment_name, artifact_location(layout, uri))
        name = f"{settings.data.name}-{settings.method.name}-{fingerprint[:8]}"
        run = client.create_run(experiment, run_name=name, tags=_tags(settings, source, fingerprint))
    tracked = TrackedRun(client, run, uri)
    tracked.log_params(flatten(settings.model_dump(mode="json")))
    tracked.log_inputs(data_inputs(settings, layout))
    for file in (layout.params, layout.root / "dvc.lock", layout.root / "dvc.yaml"):
        if file.is_file():
            tracked.log_artifact(file, "sources")
    if source.patch:
        tracked.log_text(source.patch, "sources/worktree.patch")
    return tracked


def experiment_id(client: MlflowClient, name: str, location: str | None) -> str:
    """Identifier of the experiment `name`, made if need be (also when two processes make it at once)."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        known = f" (experiment {experiment.experiment_id})" if experiment else ""
        raise RegistryError(
            f"The MLflow experiment {name!r} has been deleted{known}; bring it back with "
            "`mlflow experiments restore`, or set `registry.experiment` to another name."
        )
    return str(experiment.experiment_id)


def _tags(settings: Settings, source: SourceState, fingerprint: str) -> dict[str, str]:
    tags = {
        "catena.fingerprint": fingerprint,
        "catena.problem": settings.problem_name,
        "catena.backbone": settings.backbone.name,
        "catena.method": settings.method.name,
        "mlflow.user": user(),
        "mlflow.source.name": "dvc repro",
    }
    if source.commit:
        tags |= {"mlflow.source.git.commit": source.commit, "catena.git_dirty": str(source.dirty).lower()}
    if source.patch_sha256:
        tags["catena.patch_sha256"] = source.patch_sha256
    if source.omitted:
        tags["catena.patch_omitted"] = ", ".join(source.omitted)[:5000]
    return tags


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """`{"training": {"epochs": 2}}` → `{"training.epochs": 2}`; unset values are left out."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

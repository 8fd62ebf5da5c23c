"""A model folder as an MLflow model: loader, code, signature, example, requirements, lineage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import catena
from catena.errors import RegistryError
from catena.methods import get_method
from catena.model_folder import check_files, read_card, weights_sha256
from catena.problems import get_problem
from catena.registry.run import TrackedRun
from catena.registry.store import registry_errors
from catena.settings import MethodSettings, ProblemSettings

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

#: What loading and predicting imports, besides MLflow itself.
REQUIREMENTS = (
    "torch", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "pandas", "pyarrow",
    "pydantic", "ruamel.yaml", "scikit-learn", "pillow", "jinja2", "peft",
)  # fmt: skip

#: Folder of the MLflow model that holds where it comes from.
LINEAGE = "lineage"


def requirements() -> list[str]:
    """The installed versions, as `name==version` without local parts (`2.13.0+cpu` → `2.13.0`)."""
    found = []
    for name in ("mlflow", *REQUIREMENTS):
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found


def signature(card: Mapping[str, Any]) -> ModelSignature:
    """Input and output columns, from the model's card: nothing has to be predicted to know them."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    tails: Mapping[str, Mapping[str, Any]] = card.get("tails", {})
    solved = [
        (f"{name}." if name else "", part, get_problem(ProblemSettings.model_validate(part["problem"])))
        for name, part in (tails or {"": card}).items()
    ]
    roles = dict.fromkeys(role for _, _, problem in solved for role in problem.input_roles)
    inputs: list[ColSpec | TensorSpec] = [
        # what only some of a chain's tails read may be missing where others are asked
        ColSpec("string", role, required=all(role in problem.input_roles for _, _, problem in solved))
        for role in roles
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(kind, f"{prefix}{name}")
        for prefix, part, problem in solved
        for name, kind in problem.output_columns(part["label_names"])
    ]
    method = get_method(MethodSettings.model_validate(card.get("method", {})))
    outputs += [ColSpec("double", name) for name in method.extras]
    # which tails are asked, by commas; without it all are
    params = ParamSchema([ParamSpec("tails", "string", "")]) if tails else None
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=params)


def save_model(
    folder: Path,
    destination: Path,
    *,
    examples: Sequence[Mapping[str, str]] = (),
    documents: Mapping[str, bytes] | None = None,
    run_id: str | None = None,
    model_id: str | None = None,
) -> None:
    """Write the MLflow model of the model folder `folder` to `destination` (absent or empty).

    `examples` are real records, shown as input example; `documents` are kept below `lineage/`.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    card = read_card(folder)
    shown = pd.DataFrame([dict(example) for example in examples]) if examples else None
    description = {"fingerprint": card["fingerprint"], "weights_sha256": weights_sha256(card)}
    pyfunc.save_model(
        path=str(destination),
        loader_module="catena.registry.loader",
        data_path=str(folder),
        code_paths=[str(Path(catena.__file__).parent)],
        signature=signature(card),
        input_example=shown,
        pip_requirements=requirements(),
        mlflow_model=Model(
            run_id=run_id, model_id=model_id, model_uuid=model_id, metadata={"catena": description}
        ),
        model_config={"device": "auto", "precision": "auto"},
    )
    for name, content in (documents or {}).items():
        target = destination / LINEAGE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def log_model(
    run: TrackedRun,
    folder: Path,
    name: str,
    *,
    examples: Sequence[Mapping[str, str]] = (),
    documents: Mapping[str, bytes] | None = None,
) -> str:
    """Upload the model folder as a logged model of `run` and return its identifier (`m-…`).

    It becomes ready when it is complete. When that fails (a full disk, a lost connection), what
    was uploaded is deleted and the error passes on. Raises `ModelError` for a model folder that
    is not complete.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    check_files(folder, read_card(folder))
    with registry_errors(run.uri):
        logged = run.client.create_logged_model(
            run.experiment_id, name=name, source_run_id=run.run_id, model_type="catena"
        )
    complete = False
    try:
        with registry_errors(run.uri), tempfile.TemporaryDirectory(prefix="catena-") as scratch:
            save_model(
                folder,
                Path(scratch, "model"),
                examples=examples,
                documents=documents,
                run_id=run.run_id,
                model_id=logged.model_id,
            )
            run.client.log_model_artifacts(logged.model_id, f"{scratch}/model")
            run.client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            run.client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        complete = True
    finally:
        if not complete:
            _discard(run, logged.model_id, logged.artifact_location)
    return str(logged.model_id)


def _discard(run: TrackedRun, model_id: str, location: str) -> None:
    """Leave nothing half-uploaded behind, as far as the store can still be reached."""
    local = local_path(location)
    if local is not None:
        shutil.rmtree(local, ignore_errors=True)
    try:
        with registry_errors(run.uri):
            run.client.finalize_logged_model(model_id, "FAILED")
            run.client.delete_logged_model(model_id)
    except RegistryError:
        # The first error, which is passing through, is the one to show.
        return


def local_path(location: str) -> Path | None:
    """The folder of an artifact location on this machine, `None` for a remote one."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    return None

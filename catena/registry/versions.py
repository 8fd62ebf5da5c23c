"""Registered versions: finding them, by number or alias, and the model folder behind a URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from catena.errors import ModelError, RegistryError
from catena.files import complete_folder
from catena.layout import Layout
from catena.model_folder import CARD, read_card, weights_sha256
from catena.registry.packaging import local_path
from catena.registry.store import connect, registry_errors, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION = "champion"
CHALLENGER = "challenger"

_VERSION = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_LOGGED = re.compile(r"models:/(?P<model_id>m-[0-9a-f]+)")
_RUN = re.compile(r"runs:/(?P<run_id>[0-9a-f]+)(?:/(?P<name>.+))?")


@dataclass(frozen=True)
class Registry:
    """One registered model in the project's MLflow store."""

    client: MlflowClient
    uri: str
    name: str

    @classmethod
    def open(cls, layout: Layout, name: str, *, write: bool = True) -> Registry:
        """Connect to the store. Raises `RegistryError` when it is locked, missing or unreachable."""
        return cls(connect(layout, write=write), tracking_uri(layout), name)

    def model(self) -> RegisteredModel:
        """The registered model. Raises `RegistryError` when there is none."""
        found = self.find_model()
        if found is None:
            with registry_errors(self.uri):
                others = [model.name for model in self.client.search_registered_models(max_results=5)]
            known = f"; it has {', '.join(others)}" if others else ""
            raise RegistryError(
                f"There is no registered model {self.name!r} in the registry at {self.uri}{known}; "
                "run the pipeline to register one, or correct the name."
            )
        return found

    def find_model(self) -> RegisteredModel | None:
        """The registered model, or `None`."""
        from mlflow.exceptions import MlflowException

        with registry_errors(self.uri):
            try:
                return self.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def version(self, number: str) -> ModelVersion:
        """Version `number`. Raises `RegistryError` when it does not exist or was deleted."""
        from mlflow.exceptions import MlflowException

        self.model()
        with registry_errors(self.uri):
            try:
                return self.client.get_model_version(self.name, number)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        raise RegistryError(
            f"{self.name} has no version {number} (it may have been deleted); {self._choices()}."
        )

    def aliased(self, alias: str) -> str | None:
        """Number of the version with this alias, or `None`. The version itself may be gone."""
        model = self.find_model()
        number = (model.aliases or {}).get(alias) if model is not None else None
        return None if number is None else str(number)

    def by_alias(self, alias: str) -> ModelVersion:
        """The version with this alias. Raises `RegistryError` when there is none or it was deleted."""
        self.model()
        number = self.aliased(alias)
        if number is None:
            raise RegistryError(f"{self.name} has no version with the alias {alias!r}; {self._choices()}.")
        return self.version(number)

    def champion(self) -> ModelVersion | None:
        """The version in production, or `None` when there is none yet.

        Raises `RegistryError` when the alias points to a version that was deleted.
        """
        number = self.aliased(CHAMPION)
        return None if number is None else self.version(number)

    def versions(self) -> list[ModelVersion]:
        """All versions, the oldest first."""
        with registry_errors(self.uri):
            found = self.client.search_model_versions(f"name='{self.name}'", max_results=10_000)
        return sorted(found, key=lambda version: int(version.version))

    def _choices(self) -> str:
        versions = self.versions()
        if not versions:
            return "it has no versions at all; run the pipeline to register one"
        listed = ", ".join(str(version.version) for version in versions[-10:])
        more = "…, " if len(versions) > 10 else ""
        return f"it has {more}{listed} (choose one with `catena promote {self.name} VERSION`)"


def resolve(uri: str, layout: Layout) -> tuple[Registry, ModelVersion]:
    """The version behind `models:/NAME/3` or `models:/NAME@alias`.

    Raises `RegistryError` for any other form and for what does not exist.
    """
    match = _VERSION.fullmatch(uri)
    if match is None:
        raise RegistryError(
            f"{uri!r} does not name a registered version; write models:/NAME@champion or models:/NAME/3."
        )
    registry = Registry.open(layout, match["name"], write=False)
    if match["alias"]:
        return registry, registry.by_alias(match["alias"])
    return registry, registry.version(match["version"])


def model_folder(uri: str | Path, layout: Layout) -> Path:
    """The complete model folder behind a URI, on this machine.

    `uri` is `models:/NAME@champion`, `models:/NAME/3`, `runs:/<run>`, or a folder (a model
    folder, or an MLflow model that Catena packaged). From a remote store it is downloaded once
    and kept in `.catena/models`. Raises `RegistryError` or `ModelError` when there is no such model.
    """
    text = str(uri)
    if not text.startswith(("models:", "runs:")):
        return _inside(Path(text))
    return _inside(mlflow_model(text, layout))


def mlflow_model(uri: str, layout: Layout) -> Path:
    """The MLflow model (the folder with `MLmodel`) behind a `models:/` or `runs:/` URI, on this machine."""
    if match := _LOGGED.fullmatch(uri):
        return _fetched(connect(layout, write=False), tracking_uri(layout), match["model_id"], uri, layout)
    if match := _RUN.fullmatch(uri):
        client = connect(layout, write=False)
        model_id = _of_run(client, tracking_uri(layout), match["run_id"], match["name"])
        return _fetched(client, tracking_uri(layout), model_id, uri, layout)
    registry, version = resolve(uri, layout)
    source = _LOGGED.fullmatch(str(version.source))
    packaged = version.model_id or (source["model_id"] if source else None)
    if packaged is None:
        raise RegistryError(
            f"Version {version.version} of {registry.name} was not registered by Catena "
            f"(its source is {version.source})."
        )
    return _fetched(registry.client, registry.uri, str(packaged), uri, layout)


def _fetched(client: MlflowClient, store: str, model_id: str, uri: str, layout: Layout) -> Path:
    with registry_errors(store):
        location = client.get_logged_model(model_id).artifact_location
        local = local_path(location)
        if local is not None:
            if not local.is_dir():
                raise RegistryError(
                    f"The files of {uri} are gone from {local}; bring them back from a copy, "
                    "or run the pipeline again to register the model anew."
                )
            return local
        target = layout.private / "models" / model_id
        if not target.is_dir():
            from mlflow.artifacts import download_artifacts

            with complete_folder(target) as partial:
                download_artifacts(
                    artifact_uri=f"models:/{model_id}", dst_path=str(partial), tracking_uri=store
                )
        return target


def _of_run(client: MlflowClient, store: str, run_id: str, name: str | None) -> str:
    """The last model that a run logged (called `name`, when given)."""
    with registry_errors(store):
        run = client.get_run(run_id)
        outputs = run.outputs.model_outputs if run.outputs else []
        models = [client.get_logged_model(output.model_id) for output in outputs]
    wanted = [model for model in models if name is None or model.name == name]
    if not wanted:
        raise RegistryError(f"Run {run_id} has logged no model{f' called {name!r}' if name else ''}.")
    return str(max(wanted, key=lambda model: model.creation_timestamp).model_id)


def _inside(folder: Path) -> Path:
    """The Catena model folder in `folder`: itself, or the data of the MLflow model it is."""
    if (folder / CARD).is_file():
        return folder
    described = folder / "MLmodel"
    if described.is_file():
        try:
            content: Any = YAML(typ="safe").load(described.read_text(encoding="utf-8"))
            data = str(content["flavors"]["python_function"].get("data", ""))
        except (YAMLError, UnicodeDecodeError):
            raise ModelError(f"{described} is damaged; restore it, or log the model again.") from None
        except (AttributeError, KeyError, TypeError):
            data = ""
        if data and (folder / data / CARD).is_file():
            return folder / data
        raise ModelError(f"The MLflow model in {folder} was not packaged by Catena.")
    read_card(folder)
    return folder


def weights_of(version: ModelVersion, layout: Layout) -> str:
    """SHA-256 of a version's weights."""
    return weights_sha256(read_card(model_folder(f"models:/{version.name}/{version.version}", layout)))

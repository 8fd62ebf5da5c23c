"""Where a registered version comes from: sources, data, parameters, figures, environment."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from catena.errors import RegistryError
from catena.layout import Layout
from catena.methods.base_reference import base_of
from catena.model_folder import read_card, weights_sha256
from catena.registry.packaging import LINEAGE
from catena.registry.provenance import data_hashes, environment, source_state
from catena.registry.tracking import read_run_record
from catena.registry.versions import mlflow_model, resolve
from catena.settings import Settings

DOCUMENT = "lineage.json"
PATCH = "worktree.patch"
PREDICTIONS = "predictions.parquet"
#: Files of the project that are kept beside the document, if they exist.
SOURCES = ("params.yaml", "dvc.yaml", "dvc.lock")


def lineage(uri: str, layout: Layout) -> dict[str, Any]:
    """Everything recorded about `models:/NAME/3` or `models:/NAME@champion`.

    Keys: `model`, `version`, `aliases`, `registered` (UTC), `decision`, `reasons`, `run_id`,
    `fingerprint`, `weights_sha256`, `git` (commit, dirty, patch_sha256, omitted), `data` (DVC's
    MD5 of every file and folder), `backbone`, `predecessors` (models that training began with or learned
    from), `params`, `metrics`, `environment`, and `adapter_for` (name, source and SHA-256 of the backbone's
    weights) where the version holds only an adapter. Raises `RegistryError` when the version does not exist
    or was not registered by Catena.
    """
    registry, version = resolve(uri, layout)
    # Asked for after the version is known, so that an alias that moves meanwhile cannot mix two.
    exact = f"models:/{registry.name}/{version.version}"
    document = read_document(mlflow_model(exact, layout), exact)
    tags = version.tags or {}
    aliases = (registry.model().aliases or {}).items()
    return {
        "model": registry.name,
        "version": str(version.version),
        "aliases": sorted(alias for alias, number in aliases if str(number) == str(version.version)),
        "registered": _utc(version.creation_timestamp),
        "decision": tags.get("catena.decision"),
        "reasons": json.loads(tags.get("catena.reasons", "[]")),
        "run_id": version.run_id,
        **document,
    }


def read_document(packaged: Path, uri: str) -> dict[str, Any]:
    """The lineage inside an MLflow model. Raises `RegistryError` when there is none."""
    path = packaged / LINEAGE / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegistryError(f"{uri} carries no lineage; it was not registered by Catena.") from None
    except ValueError:
        raise RegistryError(f"{path} is damaged; register the model again.") from None
    return dict(document)


def lineage_documents(settings: Settings, layout: Layout, metrics: dict[str, Any]) -> dict[str, bytes]:
    """The files that travel with a version in `lineage/`, made from the project as it is now."""
    card = read_card(layout.candidate)
    source = source_state(layout.root)
    data = data_hashes(settings, layout)
    backbone = f"models/backbones/{settings.backbone.name}"
    trained = read_run_record(layout, card["fingerprint"])
    document = {
        "fingerprint": card["fingerprint"],
        "weights_sha256": weights_sha256(card),
        "git": {
            "commit": source.commit,
            "dirty": source.dirty,
            "patch_sha256": source.patch_sha256,
            "omitted": list(source.omitted),
            "folder": source.prefix,
        },
        "data": data,
        "backbone": {
            **settings.backbone.model_dump(mode="json"),
            "md5": next((paths[backbone] for paths in data.values() if backbone in paths), None),
        },
        **({"adapter_for": asdict(base)} if (base := base_of(layout.candidate)) is not None else {}),
        "predecessors": card.get("predecessors", {}),
        "params": settings.model_dump(mode="json"),
        "metrics": metrics,
        "environment": trained.get("environment") or environment(),
    }
    documents = {DOCUMENT: json.dumps(document, indent=2, ensure_ascii=False).encode()}
    for name in SOURCES:
        if (layout.root / name).is_file():
            documents[name] = (layout.root / name).read_bytes()
    if source.patch:
        documents[PATCH] = source.patch
    return documents


def _utc(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

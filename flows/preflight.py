"""What must lie in the folder before a stage is worth starting."""

from __future__ import annotations

from ruamel.yaml import YAML

from catena.errors import DataError, ModelError, SettingsError
from catena.known_names import check_names
from catena.layout import Layout
from catena.settings import Settings, load_settings


def read_project(layout: Layout) -> Settings:
    """The settings of a project that a flow can run in.

    Raises `SettingsError` where a group of settings is missing or names what its problem does not know, and
    `DataError` or `ModelError` where the raw data or the backbone is missing. DVC would refuse much of that,
    too, but cannot know what helps.
    """
    settings = load_settings(layout.params)
    given = YAML(typ="safe").load(layout.params.read_text(encoding="utf-8")) or {}
    if missing := [name for name in Settings.model_fields if name not in given]:
        lines = [f"{name}: {settings.seed if name == 'seed' else '{}'}" for name in missing]
        are, it = ("is", "it; add a line") if len(missing) == 1 else ("are", "them; add lines")
        named, asked = (", ".join(f"`{one}`" for one in some) for some in (missing, lines))
        raise SettingsError(f"params.yaml: {named} {are} missing, and DVC compares {it} {asked}.")
    for group in ("data", "backbone"):
        if "name" not in (given[group] or {}):
            raise SettingsError(
                f"params.yaml: `{group}.name` is missing, and dvc.yaml refers to it; "
                f"add `name: {getattr(settings, group).name}` to `{group}`."
            )
    check_names(settings)
    _check_inputs(settings, layout)
    return settings


def _check_inputs(settings: Settings, layout: Layout) -> None:
    raw = layout.raw(settings.data.name)
    if not raw.is_dir():
        versioned = raw.with_name(f"{raw.name}.dvc").exists()
        pull = f" or `dvc pull {raw.relative_to(layout.root)}.dvc`" if versioned else ""
        get = f"`catena fetch`{pull}" if settings.data.source or versioned else "put its files there"
        raise DataError(f"There is no folder {raw} with the data set `{settings.data.name}`; {get} first.")
    backbone = layout.backbone(settings.backbone.name)
    if not backbone.is_dir():
        raise ModelError(f"There is no backbone in {backbone}; `catena fetch` gets it.")

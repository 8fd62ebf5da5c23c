"""The project at hand, and the model that `--model` names in every command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catena.layout import Layout
    from catena.settings import Settings


def project() -> tuple[Settings, Layout]:
    """The project at hand and its settings."""
    from catena.layout import Layout
    from catena.settings import load_settings

    layout = Layout.find()
    return load_settings(layout.params), layout


def chosen_folder(model: str | None) -> Path:
    """The folder behind `--model`: by default the champion. Only names from the registry need a project."""
    from catena.layout import Layout
    from catena.registry import model_folder

    if model is not None and ":" not in model and not model.isdecimal():
        return model_folder(model, Layout(Path.cwd()))
    settings, layout = project()
    if model is None:
        model = f"models:/{settings.model_name}@champion"
    elif model.isdecimal():
        model = f"models:/{settings.model_name}/{model}"
    return model_folder(model, layout)

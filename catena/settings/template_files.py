"""Templates of prompts in files of their own, below `templates/` beside `params.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catena.errors import SettingsError
from catena.settings.yaml_files import read_yaml

FOLDER = "templates"
#: Longest file that is read, in bytes: a template is a page at most.
_LARGEST = 100_000


def with_template(values: Any, params: Path) -> Any:
    """The values of `params.yaml` with the template's content in place of its file's name.

    So whatever depends on the settings depends on what the file says. Raises `SettingsError` where it cannot
    be read.
    """
    try:
        name = values["method"]["prompt"]["template"]
    except (TypeError, KeyError):
        return values
    if not isinstance(name, str) or not name.startswith(f"{FOLDER}/"):
        return values
    prompt = {**values["method"]["prompt"], "template": _read(name, params)}
    return {**values, "method": {**values["method"], "prompt": prompt}}


def _read(name: str, params: Path) -> dict[str, Any]:
    # a preset lies one folder below the project
    places = [folder / name for folder in (params.parent, params.resolve().parent.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise SettingsError(f"{params.name}: `method.prompt.template` {name} is not there.")
    if not path.resolve().is_relative_to((path.parents[len(Path(name).parts) - 1] / FOLDER).resolve()):
        raise SettingsError(f"{params.name}: `method.prompt.template` {name} lies outside of {FOLDER}/.")
    if path.stat().st_size > _LARGEST:
        raise SettingsError(f"{name} is larger than {_LARGEST:,} bytes, which no template is.")
    content = read_yaml(path, name)
    if not isinstance(content, dict):
        raise SettingsError(f"{name}: a mapping was expected (task, pattern, verbalizer, separator).")
    return content

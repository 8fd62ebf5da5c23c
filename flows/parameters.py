"""Change parameters in `params.yaml` without touching its comments."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from catena.errors import SettingsError
from catena.files import complete_file
from catena.layout import Layout
from catena.settings import load_settings, parse_settings


def apply_overrides(layout: Layout, overrides: Mapping[str, Any]) -> None:
    """Set dotted parameters, such as `{"training.epochs": 1}`, in `params.yaml`.

    Like `dvc exp run -S`, the file keeps the new values, so that it describes what was run. It is
    written only when the whole is valid; otherwise `SettingsError` says which parameter is wrong.
    """
    load_settings(layout.params)  # a file that was wrong before is reported as such
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), _null)  # by default it leaves `key:` with nothing
    values = yaml.load(layout.params.read_text(encoding="utf-8"))
    if values is None:
        values = CommentedMap()
    changed = False
    for name, value in overrides.items():
        changed |= _set(values, name, value)
    parse_settings(YAML(typ="safe").load(_dump(yaml, values)), "parameters of the flow")
    if changed:
        with complete_file(layout.params) as partial:
            partial.write_text(_dump(yaml, values), encoding="utf-8")


def _null(representer: Any, value: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _set(values: CommentedMap, name: str, value: Any) -> bool:
    """Set one dotted name; whether that changed anything."""
    *groups, key = name.split(".")
    group = values
    for part in groups:
        inner = group.setdefault(part, CommentedMap())
        if not isinstance(inner, CommentedMap):
            raise SettingsError(f"parameters of the flow: `{name}`: `{part}` is a value, not a group.")
        group = inner
    if key in group and group[key] == value and isinstance(group[key], bool) is isinstance(value, bool):
        return False
    group[key] = value
    return True


def _dump(yaml: YAML, values: CommentedMap) -> str:
    stream = StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()

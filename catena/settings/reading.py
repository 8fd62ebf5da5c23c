"""`params.yaml` read whole and exactly, or refused in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from catena.errors import SettingsError
from catena.settings.group import Group
from catena.settings.groups import Settings
from catena.settings.template_files import with_template
from catena.settings.yaml_files import read_yaml


def load_settings(path: Path) -> Settings:
    """Read a `params.yaml`.

    Raises `SettingsError`, naming the parameter and the nearest known one, for anything that
    is not exactly what `Settings` describes.
    """
    values = read_yaml(path)
    if values is None:
        values = {}
    return parse_settings(with_template(values, path), path.name)


def parse_settings(values: Any, source: str = "params.yaml") -> Settings:
    """Validate a mapping of settings; `source` names it in the error."""
    if not isinstance(values, dict):
        raise SettingsError(f"{source}: a mapping of settings was expected, not {type(values).__name__}.")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, source)) from None


def _sentence(error: ValidationError, source: str) -> str:
    """The first thing wrong, in words."""
    first = error.errors()[0]
    location = [part for part in first["loc"] if isinstance(part, str | int)]
    name = ".".join(str(part) for part in location)
    others = error.error_count() - 1
    more = f" ({others} more after this one)" if others else ""
    if first["type"] == "extra_forbidden":
        near = _nearest(name)
        hint = f"; did you mean `{near}`?" if near else "."
        return f"{source}: unknown parameter `{name}`{hint}{more}"
    given = first.get("input")
    shown = "" if isinstance(given, dict | BaseModel) else f", not {given!r:.60}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    where = f"`{name}`: " if name else ""  # several groups together have no name
    return f"{source}: {where}{message}{shown}.{more}"


def _nearest(name: str) -> str | None:
    """The known group or parameter that `name` was most likely meant to be."""
    known = [*Settings.model_fields, *known_parameters()]
    whole = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if whole:
        return whole[0]
    last = {parameter.rpartition(".")[2]: parameter for parameter in reversed(known)}
    similar = difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    return last[similar[0]] if similar else None


def known_parameters() -> list[str]:
    """Dotted names of all parameters, in the order of the reference."""
    return [name for name, _ in walk_parameters()]


def walk_parameters(group: type[Group] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each parameter's dotted name and its pydantic field, depth first."""
    for key, field in group.model_fields.items():
        annotation = field.annotation
        candidates = (annotation, *get_args(annotation)) if get_origin(annotation) else (annotation,)
        nested = next((c for c in candidates if isinstance(c, type) and issubclass(c, Group)), None)
        if nested is not None:
            yield from walk_parameters(nested, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", field

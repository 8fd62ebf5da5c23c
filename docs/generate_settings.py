"""Write docs/settings.md, the reference of `params.yaml`, from the settings themselves.

`python -m docs.generate_settings` writes the page; with `--check` it only says whether it is up to date.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from catena.settings import Group, Settings

PAGE = Path(__file__).with_name("settings.md")
_INTRODUCTION = """\
# Settings

All of `params.yaml`, group by group. The file is the only one to edit; a parameter that is left out
has its default. Unknown parameters, wrong types and values out of range stop a run before anything is
done, with one sentence that names the parameter and the nearest known one.

The groups themselves stay in the file even when empty (`preparation: {}`), because DVC compares them to
know which stages an edit concerns; so do `data.name` and `backbone.name`, which `dvc.yaml` refers to.

This page is generated: `python -m docs.generate_settings`.
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *_group(Settings, "")]).rstrip() + "\n"


def _group(group: type[Group], name: str) -> Iterator[str]:
    """The parameters of one group as a table, then the groups inside it."""
    inner: list[tuple[str, type[Group]]] = []
    rows: list[str] = []
    for key, field in group.model_fields.items():
        nested = _nested(field.annotation)
        if nested is not None:
            inner.append((f"{name}.{key}" if name else key, nested))
            continue
        cells = (f"`{key}`", _type(field), _default(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if name:
        yield from (f"## `{name}`", "", (group.__doc__ or "").strip().splitlines()[0], "")
    if rows:
        yield from ("| parameter | type and range | default | meaning |", "|---|---|---|---|", *rows, "")
    for path, nested in inner:
        yield from _group(nested, path)


def _nested(annotation: Any) -> type[Group] | None:
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Group)), None)


def _type(field: FieldInfo) -> str:
    """The type in words, with the range its constraints leave."""
    return _words(field.annotation) + _range(field.metadata)


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        nothing = " or nothing" if type(None) in get_args(annotation) else ""
        return " or ".join(map(_words, parts)) + nothing
    if origin is tuple:
        return f"list of {_words(get_args(annotation)[0])}"
    if origin is dict:
        key, value = get_args(annotation)
        return f"mapping of {_words(key)} to {_words(value)}"
    if hasattr(annotation, "__metadata__"):
        return _words(get_args(annotation)[0]) + _range(annotation.__metadata__)
    if isinstance(annotation, type) and issubclass(annotation, Group):
        return "a group"
    return {str: "text", int: "whole number", float: "number", bool: "yes or no"}.get(annotation, "any value")


def _range(metadata: Any) -> str:
    """` ≥ 0, ≤ 1` and the like, from pydantic's constraints."""
    limits: list[str] = []
    for constraint in _flat(metadata):
        for kind, sign in (
            (annotated_types.Ge, "≥"),
            (annotated_types.Gt, ">"),
            (annotated_types.Le, "≤"),
            (annotated_types.Lt, "<"),
        ):
            if isinstance(constraint, kind):
                value = getattr(constraint, kind.__name__.lower())
                limits.append(f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}")
        if pattern := getattr(constraint, "pattern", None):
            limits.append(f"matching `{pattern}`")
    if "> 0" in limits and "≥ 0" in limits:
        limits.remove("≥ 0")
    return f" {', '.join(dict.fromkeys(limits))}" if limits else ""


def _flat(metadata: Any) -> Iterator[Any]:
    for constraint in metadata:
        if isinstance(constraint, FieldInfo):
            yield from _flat(constraint.metadata)
        else:
            yield constraint


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "none: required"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}`"
    if isinstance(value, tuple):
        # Texts in quotes, so that an empty one is seen.
        quoted = (json.dumps(one, ensure_ascii=False) if isinstance(one, str) else str(one) for one in value)
        return f"`[{', '.join(quoted)}]`"
    if isinstance(value, str) and (not value or "\n" in value):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; the exit status."""
    wanted = reference()
    if "--check" not in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    print("docs/settings.md is out of date; run `python -m docs.generate_settings`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A YAML file read whole, or what is wrong with it in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from catena.errors import SettingsError


def read_yaml(path: Path, name: str | None = None, missing: str | None = None) -> Any:
    """The values in a file that people write; `name` is what the sentences call it.

    Raises `SettingsError`: where the file is not there (`missing` says so in other words), is no UTF-8 text,
    or no YAML, with the line.
    """
    name = name or path.name
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(missing or f"There is no {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SettingsError(f"{name}{where}: {problem}.") from None

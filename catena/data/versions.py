"""Whether raw data is what its `.dvc` file says, told without importing DVC."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from catena.errors import DataError

_CHUNK = 1 << 20


def recorded_md5(folder: Path) -> str | None:
    """The MD5 that `<folder>.dvc` records for the folder, or None where DVC does not version it."""
    record = folder.with_name(f"{folder.name}.dvc")
    if not record.is_file():
        return None
    try:
        content: Any = YAML(typ="safe").load(record.read_text(encoding="utf-8"))
        return str(content["outs"][0]["md5"])
    except (YAMLError, UnicodeDecodeError, KeyError, IndexError, TypeError):
        raise DataError(
            f"data/raw/{record.name} is not a file that `dvc add` wrote; "
            f"restore it with `git checkout -- data/raw/{record.name}`."
        ) from None


def folder_md5(folder: Path) -> tuple[str, dict[str, str]]:
    """The MD5 DVC gives a folder, and those of its files by relative name.

    DVC hashes the JSON list of names and MD5s, sorted by path, and adds `.dir`.
    """
    files: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[path.relative_to(folder).as_posix()] = _md5(path)
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir", files


def check_version(folder: Path) -> str | None:
    """Return the folder's recorded MD5 (None where DVC does not version it).

    Raises `DataError` when the folder's files are not those recorded, naming what changed where
    DVC's cache still knows.
    """
    recorded = recorded_md5(folder)
    if recorded is None:
        return None
    present, files = folder_md5(folder)
    if present == recorded:
        return recorded
    changed = _changes(folder, recorded, files)
    shown = f"data/raw/{folder.name}"
    raise DataError(
        f"{shown} changed without DVC knowing{changed}: run `dvc add {shown}` to record the change "
        f"or `dvc checkout {shown}.dvc` to undo it."
    )


def _changes(folder: Path, recorded: str, files: dict[str, str]) -> str:
    """The names of the changed files, in brackets, as far as DVC's local cache tells."""
    for parent in folder.parents:
        listing = parent / ".dvc" / "cache" / "files" / "md5" / recorded[:2] / recorded[2:]
        if listing.is_file():
            break
    else:
        return ""
    before = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text(encoding="utf-8"))}
    names = sorted(name for name in before.keys() | files.keys() if before.get(name) != files.get(name))
    words = [
        f"{name} {'is new' if name not in before else 'is gone' if name not in files else 'differs'}"
        for name in names
    ]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f" ({', '.join(words[:3])}{more})" if words else ""


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""The model folder: weights, tokenizer and `catena.json`, complete and checked. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from catena.errors import ModelError
from catena.files import sha256_file

CARD = "catena.json"
#: All that was trained, where it is not part of the network's weights.
ADAPTER = "adapter.safetensors"
#: What methods find out and keep beside the network's weights, where they do.
_BESIDE = ("density.json", "density.safetensors", "prompt.json", "prompt_vectors.safetensors")
FORMAT = 1


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `catena.json` with the checksum and size of every other file in `folder`."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CARD
    }
    text = json.dumps({"format": FORMAT, **card, "files": files}, indent=2, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """The content of `catena.json`.

    Raises `ModelError` when the folder is none of Catena's, or of a newer version.
    """
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}.")
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no {CARD}, so it is not a finished Catena model.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder / CARD} is damaged: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{folder / CARD} is of a format this version does not read; update Catena.")
    return card


def check_files(folder: Path, card: dict[str, Any]) -> None:
    """Raise `ModelError` when a file of the folder is missing, cut off or altered."""
    for name, expected in card["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{folder / CARD} names a file outside the model folder: {name}.")
        if not path.is_file():
            raise ModelError(f"{path} is missing; the model folder is incomplete.")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ModelError(
                f"{path} is cut off or altered: {size:,} bytes instead of {expected['bytes']:,}; "
                "fetch the model again (`dvc checkout`, or from the registry)."
            )
        if sha256_file(path) != expected["sha256"]:
            raise ModelError(
                f"{path} is not the file that was trained (its SHA-256 differs); "
                "fetch the model again (`dvc checkout`, or from the registry)."
            )


def weights_sha256(card: dict[str, Any]) -> str:
    """SHA-256 of the weights, the model's identity; of what was trained, where that lies apart.

    Where a method keeps more beside the weights, such as soft tokens or examples, it is of all their hashes.
    """
    files = card["files"]
    value: str = files[ADAPTER if ADAPTER in files else "model.safetensors"]["sha256"]
    if beside := [files[name]["sha256"] for name in _BESIDE if name in files]:
        value = hashlib.sha256("".join([value, *beside]).encode()).hexdigest()
    return value

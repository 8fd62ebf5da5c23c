"""A fetched GGUF file → the form all other backbones have, checked from then on by what it was made into."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from catena.data.packages import Package
from catena.errors import ChecksumError, ModelError
from catena.files import sha256_file, write_json

#: What a folder was converted from, by what, and the SHA-256 of each file that came out.
RECORD = "converted.json"


def convert_gguf(package: Package, folder: Path) -> None:
    """Turn the package's one file in `folder` into configuration, tokenizer and safetensors; remove it.

    A process of its own does it, so that fetching anything else needs no torch. Raises `ModelError` when it
    fails.
    """
    (name,) = package.files
    source = folder / name
    command = [sys.executable, "-m", "catena.backbones.gguf_conversion", str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"{name} cannot be converted ({reason[:200]}); is `gguf` installed?")
    source.unlink()
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    record = {
        "from": {"package": package.requirement, "file": name, "sha256": package.files[name].sha256},
        "with": {library: version(library) for library in ("gguf", "transformers")},
        "files": files,
    }
    write_json(folder / RECORD, record)


def check_converted(package: Package, folder: Path) -> None:
    """Raise `ChecksumError` where `folder` was not made from the package, or has changed since."""
    again = f"remove {folder} and run `catena fetch`"
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files: dict[str, str] = record["files"]
        origin = record["from"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ChecksumError(
            f"{folder} does not say what it was converted from ({RECORD} is missing or damaged); {again}."
        ) from None
    if origin not in {wanted.sha256 for wanted in package.files.values()}:
        raise ChecksumError(f"{folder} was not converted from {package.requirement}; {again}.")
    for name, sha256 in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or sha256_file(path) != sha256:
            raise ChecksumError(f"{path} is missing or not what the conversion made; {again}.")

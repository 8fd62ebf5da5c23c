"""Data sets that come with a library that is installed anyway: nothing has to be fetched for them."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from catena.errors import ChecksumError
from catena.files import complete_folder, sha256_file


@dataclass(frozen=True)
class Installed:
    """A file of an installed library, pinned by the SHA-256 of its unpacked content, and the data made of it.

    `make` writes its one file, always the same bytes, whose SHA-256 is `made_sha256`.
    """

    requirement: str
    library: str
    member: str
    sha256: str
    file: str
    made_sha256: str
    make: Callable[[bytes, Path], None]
    about: str
    kind: Literal["data"] = "data"


def lay_out(source: Installed, target: Path) -> None:
    """Make `target` hold the data; nothing is done when it does.

    Raises `ChecksumError` when the library's file, or one that is in `target` already, is another one.
    """
    path = target / source.file
    if target.is_dir() and any(target.iterdir()):
        if not path.is_file() or sha256_file(path) != source.made_sha256:
            raise ChecksumError(
                f"{path} is not what `catena fetch` makes (its SHA-256 differs, or it is missing); remove "
                "the folder and run `catena fetch`, or give your own data a name of its own."
            )
        print(f"{target.name}: {source.file} is there and matches", flush=True)
        return
    content = _content(source)
    with complete_folder(target) as partial:
        source.make(content, partial / source.file)
        if sha256_file(partial / source.file) != source.made_sha256:
            raise ChecksumError(
                f"{source.file} came out otherwise than with the versions in requirements.lock; install "
                "those."
            )
    print(f"{target.name}: {source.file} (from {source.requirement}, checksum ok)", flush=True)


def _content(source: Installed) -> bytes:
    found = find_spec(source.library)  # without importing it
    places = list(found.submodule_search_locations or ()) if found is not None else []
    path = Path(places[0], source.member) if places else Path(source.member)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):
        content = b""
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ChecksumError(
            f"{path} is not the file that {source.requirement} holds; install that version again."
        )
    return content


def _write_digits(content: bytes, path: Path) -> None:
    """Images `(1797, 8, 8)` of 0 to 255 and their digits; in the source pixels are 0 to 16."""
    table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(path, images=images, labels=table[:, -1].astype(np.uint8))


#: By the key of `data.source: package:<key>`.
INSTALLED: dict[str, Installed] = {
    "digits": Installed(
        requirement="scikit-learn",
        library="sklearn",
        member="datasets/data/digits.csv.gz",
        sha256="6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
        file="digits.npz",
        made_sha256="bed1180e241652ea5162e616597a56dab3185ecf9f87529e9b09fb6d417b6686",
        make=_write_digits,
        about="Handwritten digits (UCI, test part): 1,797 grey images of 8 × 8 pixels",
    )
}

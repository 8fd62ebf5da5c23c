"""Images and labels from NumPy archives, read piece by piece and without unpickling anything."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from catena.data.formats import Batch, Wanted, broken_rows
from catena.data.pictures import as_uri, to_png
from catena.errors import DataError

#: Pixel values held in memory at once.
_BATCH_VALUES = 16 << 20
#: An archive whose images would take more bytes, unpacked, is refused.
_MOST_BYTES = 64 << 30
_MOST_LABELS = 100_000_000
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Header:
    """What the beginning of a `.npy` file says of the array in it."""

    name: str
    shape: tuple[int, ...]
    kind: np.dtype
    fortran: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def read_arrays(path: Path, wanted: Wanted) -> Iterator[Batch]:
    """The images of an `.npz` archive as data URIs, and their labels; `wanted` names the arrays.

    Images are `(n, height, width)` or `(n, height, width, 1, 3 or 4)`, whole numbers of 0 to 255 or
    fractions of 0 to 1; labels are whole numbers or texts. Of an `.npy` file of images, the labels are in a
    file of the same name, but for the one array's name in place of the other's. Raises `DataError`.
    """
    image = next(column for column, name in wanted.columns.items() if name == "image")
    others = {
        column: name for column, name in wanted.columns.items() if name not in ("image", *wanted.optional)
    }
    sources = {column: _source(path, image, column) for column in (image, *others) if column != "file"}
    labels = {name: _labels(sources[column], column) for column, name in others.items() if column != "file"}
    with _opened(*sources[image]) as (header, stream):
        _check_images(header, path)
        for name, values in labels.items():
            if len(values) != header.shape[0]:
                raise DataError(
                    f"{path.name} holds {header.shape[0]:,} images and {len(values):,} of `{name}`; there "
                    "must be one for each image."
                )
        each = math.prod(header.shape[1:])
        step = max(1, _BATCH_VALUES // each)
        for start in range(0, header.shape[0], step):
            count = min(step, header.shape[0] - start)
            piece = stream.read(count * each * header.kind.itemsize)
            if len(piece) < count * each * header.kind.itemsize:
                raise DataError(f"{path.name} is cut off in its array `{header.name}`; get the file again.")
            images = np.frombuffer(piece, header.kind).reshape(count, *header.shape[1:])
            yield _batch(images, start, labels, wanted, header.name)


def array_headers(path: Path) -> list[Header]:
    """What arrays a file holds. Raises `DataError`."""
    if path.suffix.lower() == ".npy":
        with _opened(path, None) as (header, _):
            return [header]
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except _DAMAGED as error:
        raise _not_readable(path, error) from error
    headers = []
    for name in names:
        with _opened(path, name) as (header, _):
            headers.append(header)
    return headers


def array_files(path: Path, columns: Mapping[str, str]) -> list[Path]:
    """The `.npy` file of images `path`, and the one of labels beside it."""
    return [_source(path, columns["image"], column)[0] for column in columns.values()]


def _source(path: Path, image: str, column: str) -> tuple[Path, str | None]:
    if path.suffix.lower() != ".npy":
        return path, f"{column}.npy"
    if column == image:
        return path, None
    try:
        other = path.with_name(path.name.replace(image, column))
        there = other != path and other.is_file()
    except (OSError, ValueError):  # a name with a slash, or too long
        there = False
    if not there:
        raise DataError(
            f"Beside {path.name} there is no file of `{column:.60}`; it has the same name, with "
            f"{column!r:.60} in place of {image!r} (data.columns)."
        )
    return other, None


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[tuple[Header, IO[bytes]]]:
    """The header of an array, and the stream that its values follow on."""
    name = path.stem if member is None else member.removesuffix(".npy")
    try:
        if member is None:
            with path.open("rb") as stream:
                yield _header(stream, name, path, path.stat().st_size), stream
            return
        with zipfile.ZipFile(path) as archive:
            if member not in archive.namelist():
                there = ", ".join(f"`{one.removesuffix('.npy')}`" for one in archive.namelist()[:12])
                raise DataError(
                    f"{path.name} has no array `{name}`, only {there or 'none'}; name yours in "
                    "`data.columns`."
                )
            with archive.open(member) as stream:
                yield _header(stream, name, path, archive.getinfo(member).file_size), stream
    except _DAMAGED as error:
        raise _not_readable(path, error) from error


def _not_readable(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return DataError(f"{path.name} is no NumPy archive, or is damaged ({reason}); get the file again.")


def _header(stream: IO[bytes], name: str, path: Path, size: int) -> Header:
    try:
        major, _ = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(stream)
    except (ValueError, EOFError) as error:
        raise _not_readable(path, error) from error
    if kind.hasobject:
        raise DataError(
            f"{path.name}: the array `{name}` holds Python objects, which would have to be unpickled; save "
            "it as numbers or as texts of one length (`labels.astype(str)`)."
        )
    header = Header(name, tuple(shape), kind, bool(fortran) and len(shape) > 1)
    if header.bytes > size:
        raise DataError(f"{path.name} is cut off in its array `{name}`; get the file again.")
    return header


def _check_images(header: Header, path: Path) -> None:
    shape = header.shape
    written = " × ".join(map(str, shape))
    if header.kind.kind not in "uibf":
        raise DataError(f"{path.name}: the images in `{header.name}` are no numbers ({header.kind}).")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3, 4)) or 0 in shape[1:]:
        hint = "; move the channels to the end" if len(shape) == 4 and shape[1] in (1, 3, 4) else ""
        raise DataError(
            f"{path.name}: the array `{header.name}` is {written}, and images are (number, height, width) or "
            f"(number, height, width, 3){hint}."
        )
    if shape[1] * shape[2] > _BATCH_VALUES or header.bytes > _MOST_BYTES:
        raise DataError(f"{path.name}: the array `{header.name}` ({written}) is too large.")
    if header.fortran:
        raise DataError(
            f"{path.name}: the array `{header.name}` is stored column by column; save it with "
            "`numpy.ascontiguousarray`."
        )


def _labels(source: tuple[Path, str | None], name: str) -> pd.Series:
    path = source[0]
    with _opened(*source) as (header, stream):
        if len(header.shape) == 2 and header.shape[1] == 1:
            header = Header(header.name, header.shape[:1], header.kind, False)
        if len(header.shape) != 1 or header.kind.kind not in "uibUS" or not header.kind.itemsize:
            raise DataError(
                f"{path.name}: the array `{name}` must hold one whole number or text for each image, not "
                f"{' × '.join(map(str, header.shape))} of {header.kind}."
            )
        if header.shape[0] > _MOST_LABELS or header.bytes > _MOST_BYTES // 64:
            raise DataError(f"{path.name}: the array `{name}` is too large for labels.")
        content = stream.read(header.bytes)
        if len(content) < header.bytes:
            raise DataError(f"{path.name} is cut off in its array `{header.name}`; get the file again.")
        values = np.frombuffer(content, header.kind)
    if header.kind.kind == "S":
        try:
            return pd.Series([value.decode("utf-8") for value in values.tolist()], dtype="str")
        except UnicodeDecodeError as error:
            raise DataError(f"{path.name}: the array `{name}` is not UTF-8 text.") from error
    return pd.Series([str(value) for value in values.tolist()], dtype="str")


def _batch(images: np.ndarray, start: int, labels: dict[str, pd.Series], wanted: Wanted, array: str) -> Batch:
    from PIL import Image

    rows, texts, broken = [], [], []
    for at, image in enumerate(images):
        number = start + at
        values, reason = _eight_bits(image)
        if reason:
            broken.append((number + 1, f"{array}[{number}]", reason))
            continue
        squeezed = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        texts.append(as_uri(to_png(Image.fromarray(squeezed)), f"{array}[{number}]"))
        rows.append(number)
    records = pd.DataFrame({"image": pd.array(texts, dtype="str")})
    for name, column in labels.items():
        records[name] = pd.array(column.iloc[rows].tolist(), dtype="str")
    if "file" in wanted.columns:
        records[wanted.columns["file"]] = pd.array([f"{array}[{row}]" for row in rows], dtype="str")
    records["row"] = pd.array([row + 1 for row in rows], dtype="int64")
    numbers, names, reasons = zip(*broken, strict=True) if broken else ((), (), ())
    return Batch(records, broken_rows(numbers, names, reasons))


def _eight_bits(image: np.ndarray) -> tuple[np.ndarray, str]:
    """Values of 0 to 255, or why there are none."""
    if image.dtype == np.uint8:
        return image, ""
    if image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min() >= 0.0 and image.max() <= 1.0):
            return image, "fractions outside 0 to 1"
        return np.rint(image.astype(np.float64) * 255).astype(np.uint8), ""
    if image.dtype.kind == "b":
        return image.astype(np.uint8) * 255, ""
    if image.min() < 0 or image.max() > 255:
        return image, "whole numbers outside 0 to 255"
    return image.astype(np.uint8), ""

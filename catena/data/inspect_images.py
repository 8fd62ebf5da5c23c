"""A look at a folder of images or a NumPy archive: which classes, how many images, of which size."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catena.data.arrays import Header, array_headers
from catena.data.formats import file_format, read_records
from catena.data.images import class_of, image_files, looks_like_images, read_picture
from catena.data.pictures import FORMATS
from catena.data.quality import lengths
from catena.errors import DataError
from catena.settings import DataSettings

if TYPE_CHECKING:
    from catena.data.inspect import Inspection

#: Images whose size is looked at.
_SAMPLE = 500
#: Sizes that images are brought to: the first that is not far below what they have.
_SIZES = (8, 16, 28, 32, 48, 64, 96, 128, 160, 224)
_PARTS = ("train", "training")
_TESTS = ("test", "testing", "val", "valid", "validation")


def inspect_images(path: Path, test: Path | None) -> Inspection | None:
    """What `path` holds, where it is a folder of images or a NumPy file; else nothing.

    A folder with the folders `train` and `test` is taken for both parts. Raises `DataError`.
    """
    if path.is_dir():
        folder, other = _parts(path)
        if not looks_like_images(folder):
            return None
        return _inspection(folder, test or other, "images", *_folder(folder))
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        return _inspection(path, test, "numpy", *_arrays(path))
    return None


def _parts(path: Path) -> tuple[Path, Path | None]:
    inner = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    train = next((inner[name] for name in _PARTS if name in inner), None)
    test = next((inner[name] for name in _TESTS if name in inner), None)
    return (train, test) if train is not None and test is not None else (path, None)


def _folder(folder: Path) -> tuple[dict[str, str], Counter[str], list[tuple[int, int, bool]], list[str]]:
    """Columns, classes, sizes (width, height, grey) of some images, and notes."""
    from PIL import Image

    files = image_files(folder)
    classes = Counter(name for name in (class_of(file, folder) for file in files) if name is not None)
    if not classes:
        raise DataError(
            f"The folder {folder.name} holds pictures but no folders; put those of each class into a folder "
            "named like the class."
        )
    notes = []
    if sum(classes.values()) < len(files):
        notes.append(f"{len(files) - sum(classes.values()):,} files are in no class's folder")
    sizes = []
    unreadable = 0
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        content, _ = read_picture(file, folder)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                sizes.append((image.width, image.height, image.mode in ("1", "L", "LA", "I;16")))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            unreadable += 1
    if unreadable:
        notes.append(f"{unreadable:,} of {unreadable + len(sizes):,} files looked at are no images")
    if not sizes:
        raise DataError(f"No file looked at in the folder {folder.name} is an image.")
    return {"image": "image", "label": "label"}, classes, sizes, notes


def _arrays(path: Path) -> tuple[dict[str, str], Counter[str], list[tuple[int, int, bool]], list[str]]:
    headers = array_headers(path)
    image = max((one for one in headers if len(one.shape) in (3, 4)), key=lambda one: one.bytes, default=None)
    if image is None:
        there = ", ".join(f"`{one.name}` of {' × '.join(map(str, one.shape))}" for one in headers)
        raise DataError(
            f"{path.name} holds no images, which are (number, height, width) or (number, height, width, 3), "
            f"only {there or 'nothing'}."
        )
    columns = {"image": image.name, "label": _label_array(path, image, headers)}
    settings = DataSettings.model_validate({"format": "numpy", "columns": columns})
    classes: Counter[str] = Counter()
    for batch in read_records(path, settings, ("image", "label"), target="label"):
        classes.update(batch.records["label"])
    grey = len(image.shape) == 3 or image.shape[3] == 1
    return columns, classes, [(image.shape[2], image.shape[1], grey)], []


def _label_array(path: Path, image: Header, headers: list[Header]) -> str:
    if path.suffix.lower() == ".npy":
        return image.name.replace("images", "labels").replace("x_", "y_")
    fitting = [one.name for one in headers if one.name != image.name and one.shape[:1] == image.shape[:1]]
    named = [name for name in fitting if "label" in name or name.startswith("y") or "target" in name]
    if not fitting:
        raise DataError(
            f"{path.name} holds no array with one label for each of the images in `{image.name}`."
        )
    return (named or fitting)[0]


def _inspection(
    path: Path,
    test: Path | None,
    kind: Any,
    columns: dict[str, str],
    classes: Counter[str],
    sizes: list[tuple[int, int, bool]],
    notes: list[str],
) -> Inspection:
    import pandas as pd

    from catena.data.inspect import Inspection

    if test is not None and file_format(test) != kind:
        raise DataError(f"{test.name} is not written as {path.name} is; both must be of one form.")
    settings = DataSettings.model_validate(
        {
            "name": "data",
            "format": kind,
            "train": path.name,
            "test": test.name if test is not None else None,
            "columns": columns,
            "keep": ("file",) if kind == "images" else (),
        }
    )
    sides = pd.Series([min(width, height) for width, height, _ in sizes])
    middle = float(np.median(sides))
    return Inspection(
        path=path,
        test=test,
        format=kind,
        data=settings,
        columns=tuple(columns.values()),
        records=sum(classes.values()),
        broken=0,
        classes=dict(classes.most_common()),
        characters={},
        words=lengths(sides),
        max_length=next((size for size in _SIZES if size >= 0.75 * middle), _SIZES[-1]),
        unescape_html=False,
        strip_quotes=False,
        unspaced=0.0,
        latin=1.0,
        notes=tuple(notes),
        problem="images",
        grey=all(grey for _, _, grey in sizes),
    )

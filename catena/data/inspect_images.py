"""A look at a folder of images or a NumPy archive: which classes, how many images, of which size."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.data.arrays import Header, array_headers
from catena.data.commented import group
from catena.data.formats import file_format, read_records
from catena.data.images import class_of, image_files, looks_like_images, read_picture
from catena.data.inspection import Inspection, Wanted
from catena.data.pictures import FORMATS, printable
from catena.data.quality import lengths
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import DataSettings

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

#: Images whose size is looked at.
_SAMPLE = 500
#: Sizes that images are brought to: the first that is not below what most have.
_SIZES = (8, 16, 28, 32, 48, 64, 96, 128, 160, 224)
#: What folders of the parts are called.
_TRAINING = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev")
_TEST = ("test", "testing")


def inspect_images(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a folder of images or a NumPy file; None for any other.

    A folder with the folders `train` and `test`, or `train` and `val`, or all three is taken for these parts.
    Raises `DataError`.
    """
    if path.is_dir():
        parts = _parts(path, wanted.test)
        if not looks_like_images(parts.train):
            return None
        return _inspection(parts, "images", *_folder(parts.train))
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        return _inspection(_Parts(path, wanted.test), "numpy", *_arrays(path, wanted))
    return None


@dataclass(frozen=True)
class _Parts:
    """Folders or files by part, and what is worth saying about the choice."""

    train: Path
    test: Path | None = None
    validation: Path | None = None
    notes: tuple[str, ...] = ()


def _parts(path: Path, test: Path | None) -> _Parts:
    """The parts of a folder; `test` is the one that the user named."""
    inner = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    train, validation, own = (
        next((inner[name] for name in names if name in inner), None)
        for names in (_TRAINING, _VALIDATION, _TEST)
    )
    if train is None or (validation is None and own is None):
        return _Parts(path, test)
    notes = []
    test = test or own
    if test is None and validation is not None:
        notes.append(f"folder {validation.name} is the test, since there is no other")
        validation, test = None, validation
    used = (train, validation, test)
    left = sorted(one.name for one in inner.values() if one not in used and not one.name.startswith("."))
    notes += [f"folder {printable(name)} is left out, since it is no part that is known" for name in left]
    return _Parts(train, test, validation, tuple(notes))


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
        except (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError):
            unreadable += 1
    if unreadable:
        notes.append(f"{unreadable:,} of {unreadable + len(sizes):,} files looked at are no images")
    if not sizes:
        raise DataError(f"No file looked at in the folder {folder.name} is an image.")
    return {"image": "image", "label": "label"}, classes, sizes, notes


def _arrays(
    path: Path, wanted: Wanted
) -> tuple[dict[str, str], Counter[str], list[tuple[int, int, bool]], list[str]]:
    headers = array_headers(path)
    named = wanted.columns.get("image", wanted.text)
    wanted.check_roles("images", ("image", "label"))
    if path.suffix.lower() == ".npz":
        wanted.check_columns(path, [one.name for one in headers])
    image = next((one for one in headers if one.name == named), None) or max(
        (one for one in headers if len(one.shape) in (3, 4)), key=lambda one: one.bytes, default=None
    )
    if image is None:
        there = ", ".join(f"`{one.name}` of {' × '.join(map(str, one.shape))}" for one in headers)
        raise DataError(
            f"{path.name} holds no images, which are (number, height, width) or (number, height, width, 3), "
            f"only {there or 'nothing'}."
        )
    label = wanted.columns.get("label", wanted.label) or _label_array(path, image, headers)
    columns = {"image": image.name, "label": label}
    settings = DataSettings.model_validate({"format": "numpy", "columns": columns})
    classes: Counter[str] = Counter()
    contents = get_problem("images").contents
    for batch in read_records(path, settings, ("image", "label"), target="label", contents=contents):
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
    parts: _Parts,
    kind: Any,
    columns: dict[str, str],
    classes: Counter[str],
    sizes: list[tuple[int, int, bool]],
    notes: list[str],
) -> Inspection:
    path, test, validation = parts.train, parts.test, parts.validation
    others = [one for one in (validation, test) if one is not None]
    for one in others:
        if file_format(one) != kind:
            raise DataError(f"{one.name} is not written as {path.name} is; both must be of one form.")
    names = Counter(one.name for one in (path, *others))
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"Two folders are called {twice}; rename one, since they go into one folder.")
    settings = DataSettings.model_validate(
        {
            "name": "data",
            "format": kind,
            "train": path.name,
            "validation": validation.name if validation is not None else None,
            "test": test.name if test is not None else None,
            "columns": columns,
            "keep": ("file",) if kind == "images" else (),
        }
    )
    sides = pd.Series([min(width, height) for width, height, _ in sizes])
    size = next((one for one in _SIZES if one >= np.median(sides)), _SIZES[-1])
    colours = "grey" if all(grey for _, _, grey in sizes) else "rgb"
    return Inspection(
        path=path,
        test=test,
        validation=validation,
        format=kind,
        data=settings,
        columns=tuple(columns.values()),
        records=sum(classes.values()),
        classes=dict(classes.most_common()),
        words=lengths(sides),
        notes=(*parts.notes, *notes),
        problem="images",
        problem_settings={
            "images": ({"size": size, "colours": colours}, ""),
            "augmentation": ({"flip": False, "rotation": 10, "scale": 0.1, "shift": 0.1}, ""),
        },
    )


def image_params(root: CommentedMap, inspection: Inspection) -> None:
    """Change what images need otherwise than one class a text."""
    images, altered = root["problem"]["images"], root["problem"]["augmentation"]
    side = f"half of the images have at most {inspection.words['p50']:g} pixels on their shorter side"
    root["problem"]["images"] = group(size=(images["size"], side), colours=(images["colours"], ""))
    notes = {"flip": "true where left and right do not matter", "rotation": "degrees"}
    root["problem"]["augmentation"] = group(
        **{name: (value, notes.get(name, "")) for name, value in altered.items()}
    )
    root["tokenization"] = group()
    stages = 3 if images["size"] <= 48 else 4
    root["backbone"] = group(
        name=("resnet", ""),
        type=("resnet", "or pretrained, with the source of a network for images"),
        source=("scratch", ""),
        input_size=(max(images["size"], 4 * 2**stages), ""),
        hidden_sizes=([32, 64, 128, 256][:stages], ""),
        depths=([2] * stages, ""),
    )
    root["training"] = group(
        epochs=(30, ""),
        learning_rate=(0.003, ""),
        batch_size=(64, ""),
        weight_decay=(0.05, ""),
        schedule=("cosine", ""),
        metric=("log_loss", "decides which epoch is kept"),
    )
    root["evaluation"] = group(baselines=(["majority", "logistic", "nearest"], ""))

"""A look at a folder of images or a NumPy archive: which classes, how many images, of which size."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.data.arrays import Header, array_headers
from catena.data.commented import group
from catena.data.formats import file_format, read_records
from catena.data.images import class_of, image_files, looks_like_images, read_picture
from catena.data.inspection import Inspection, Wanted
from catena.data.pictures import FORMATS
from catena.data.quality import lengths
from catena.errors import DataError
from catena.settings import DataSettings

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

#: Images whose size is looked at.
_SAMPLE = 500
#: Sizes that images are brought to: the first that is not below what most have.
_SIZES = (8, 16, 28, 32, 48, 64, 96, 128, 160, 224)
_PARTS = ("train", "training")
_TESTS = ("test", "testing", "val", "valid", "validation")


def inspect_images(path: Path, wanted: Wanted) -> Inspection | None:
    """What `inspect_file` returns, for a folder of images or a NumPy file; None for any other.

    A folder with the folders `train` and `test` is taken for both parts. Raises `DataError`.
    """
    test = wanted.test
    if path.is_dir():
        folder, other = _parts(path)
        if not looks_like_images(folder):
            return None
        return _inspection(folder, test or other, "images", *_folder(folder))
    if path.suffix.lower() in (".npz", ".npy") and path.is_file():
        return _inspection(path, test, "numpy", *_arrays(path, wanted))
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
    size = next((one for one in _SIZES if one >= np.median(sides)), _SIZES[-1])
    colours = "grey" if all(grey for _, _, grey in sizes) else "rgb"
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
        max_length=0,
        unescape_html=False,
        strip_quotes=False,
        unspaced=0.0,
        latin=1.0,
        notes=tuple(notes),
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

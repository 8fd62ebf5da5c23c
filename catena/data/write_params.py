"""A new project's data folder and `params.yaml`, from a look at the user's file."""

from __future__ import annotations

import re
import shutil
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from catena.errors import DataError, SettingsError
from catena.files import complete_file, complete_folder, sha256_file, sha256_folder
from catena.layout import Layout
from catena.settings import Settings, parse_settings

if TYPE_CHECKING:
    from catena.data.inspect import Inspection

_PLAIN_NAMES = {"train", "training", "test", "dev", "data", "dataset"}


def write_params(inspection: Inspection, root: Path, name: str | None = None, force: bool = False) -> Path:
    """Copy the inspected data into `data/raw/<name>/` and write a commented `params.yaml`; return its path.

    `name` is the file's own name by default. Raises `SettingsError` when there is a `params.yaml` and
    `DataError` when the data folder holds other files, unless `force` is given; nothing is written then.
    """
    layout = Layout(root)
    if layout.params.exists() and not force:
        raise SettingsError(
            f"There already is a params.yaml in {root}; move it away, or overwrite it with `--force`."
        )
    if len(inspection.classes) < 2:
        raise DataError(
            f"Column {inspection.label!r} of {inspection.path.name} has {len(inspection.classes)} "
            "class(es) and at least two are needed; name another with `--label`."
        )
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", _stem(inspection.path)).strip("-._").lower() or "data"
    text = _params(inspection, chosen)
    values: Any = YAML(typ="safe").load(text)
    parse_settings(values, "the new params.yaml")
    _copy(inspection, layout.raw(chosen), force)
    with complete_file(layout.params) as partial:
        partial.write_text(text, encoding="utf-8")
    return layout.params


def _stem(path: Path) -> str:
    """The file's name without endings, or its folder's where the file is just called `train`."""
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem.lower() in _PLAIN_NAMES else stem


def _copy(inspection: Inspection, target: Path, force: bool) -> None:
    """Copy the files, unless they lie there already."""
    sources = [path for path in (inspection.path, inspection.test) if path is not None]
    if all((target / path.name).exists() and _same(path, target / path.name) for path in sources):
        return
    if target.exists() and not force:
        raise DataError(
            f"data/raw/{target.name} already holds other files; choose another name with `--name`, "
            "or overwrite them with `--force`."
        )
    with complete_folder(target) as partial:
        for path in sources:
            if path.is_dir():
                shutil.copytree(path, partial / path.name)
            else:
                shutil.copyfile(path, partial / path.name)


def _same(one: Path, other: Path) -> bool:
    if one.resolve() == other.resolve():
        return True
    if one.is_dir():
        return other.is_dir() and sha256_folder(one) == sha256_folder(other)
    return other.is_file() and sha256_file(one) == sha256_file(other)


def _params(inspection: Inspection, name: str) -> str:
    """The text of `params.yaml`: what differs from the defaults, with the reasons."""
    data = _group(
        name=(name, "folder below data/raw"),
        format=(inspection.format, ""),
        train=(inspection.path.name, f"{inspection.records:,} records"),
    )
    if inspection.test is not None:
        data["test"] = inspection.test.name
    settings = inspection.data
    if inspection.format not in ("parquet", "dataset"):
        data["encoding"] = settings.encoding
    if settings.delimiter is not None:
        data["delimiter"] = settings.delimiter
    if not settings.quoting:
        data["quoting"] = False
        data.yaml_add_eol_comment("double quotes, if any, are literal text", "quoting")
    if settings.column_names is not None:
        data["column_names"] = list(settings.column_names)
        data.yaml_add_eol_comment("the file has no header line", "column_names")
    data["columns"] = CommentedMap(settings.columns)
    others = [c for c in inspection.columns if c not in settings.columns.values() and c]
    if settings.column_names is None and others:
        data["keep"] = []
        data.yaml_add_eol_comment(f"other columns to slice the scores by: {', '.join(others[:8])}", "keep")

    preparation = CommentedMap()
    if inspection.unescape_html:
        preparation["unescape_html"] = True
        preparation.yaml_add_eol_comment("the texts hold entities such as &amp;", "unescape_html")
    if inspection.strip_quotes:
        preparation["strip_quotes"] = True
        preparation.yaml_add_eol_comment("most texts are enclosed in quotes", "strip_quotes")
    preparation["validation_fraction"] = 0.1
    if inspection.test is None:
        preparation["test_fraction"] = 0.2
        preparation.yaml_add_eol_comment("there is no test file", "test_fraction")

    largest = max(inspection.classes.values()) / sum(inspection.classes.values())
    spaced = inspection.characters["mean"] < 15 * inspection.words["mean"]
    longest = (
        f"{inspection.words['p95']:g} words" if spaced else f"{inspection.characters['p95']:g} characters"
    )
    root = CommentedMap()
    root["seed"] = 42
    root["data"] = data
    root["preparation"] = preparation
    root["problem"] = _group(name=("classification", _classes(inspection)))
    root["tokenization"] = _group(
        max_length=(inspection.max_length, f"95% of the texts have at most {longest}")
    )
    defaults = Settings()
    root["backbone"] = _group(name=(defaults.backbone.name, ""), source=(defaults.backbone.source, ""))
    root["method"] = _group(name=(defaults.method.name, ""))
    root["training"] = _group(epochs=(3, ""), metric=("macro_f1", "decides which epoch is kept"))
    root["evaluation"] = _group(baselines=(list(defaults.evaluation.baselines), ""))
    root["registry"] = _group(model=(name, "name of the registered model"))
    floor = min(round(largest, 2), 0.99)
    root["gate"] = CommentedMap(floors=_group(accuracy=(floor, "what always saying the largest class gives")))
    root.yaml_set_start_comment(
        f"What to train, from a look at {inspection.path.name}. Every parameter with its meaning and range:\n"
        "docs/settings.md. Whatever is left out of a group keeps its default; the groups stay, since DVC\n"
        "compares them."
    )
    stream = StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 200
    yaml.dump(root, stream)
    return stream.getvalue()


def _group(**values: tuple[Any, str]) -> CommentedMap:
    """A mapping whose entries carry comments at their line's end."""
    group = CommentedMap({key: value for key, (value, _) in values.items()})
    for key, (_, comment) in values.items():
        if comment:
            group.yaml_add_eol_comment(comment, key)
    return group


def _classes(inspection: Inspection) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(inspection.classes.items())[:6])
    more = f" and {len(inspection.classes) - 6} more" if len(inspection.classes) > 6 else ""
    return f"{len(inspection.classes)} classes: {shown}{more}"

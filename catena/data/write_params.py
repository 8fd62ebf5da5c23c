"""A new project's data folder and `params.yaml`, from a look at the user's file."""

from __future__ import annotations

import glob
import os
import re
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from catena.data.commented import group
from catena.data.formats import record_files
from catena.data.inspection import Inspection
from catena.data.pictures import printable
from catena.data.recognition import RECOGNISED
from catena.errors import DataError, SettingsError
from catena.files import complete_file, complete_folder, sha256_file, sha256_folder
from catena.layout import Layout
from catena.problems import PROBLEMS
from catena.settings import Settings, parse_settings

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
    if inspection.problem == "regression" and not inspection.numbers:
        raise DataError(
            f"Column {inspection.label!r} of {inspection.path.name} does not hold different numbers (with a "
            "decimal point); name another with `--label`."
        )
    fewest = PROBLEMS[inspection.problem].fewest_classes
    if len(inspection.classes) < fewest:
        raise DataError(
            f"Column {inspection.label!r} of {inspection.path.name} has {len(inspection.classes)} "
            f"class(es) and at least {'one is' if fewest == 1 else 'two are'} needed; name another with "
            "`--label`."
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
    sources = [
        file
        for path in inspection.files
        for file in ([path] if path.is_dir() else record_files(path, inspection.data))
    ]
    if all((target / path.name).exists() and _same(path, target / path.name) for path in sources):
        return
    if target.exists() and not force:
        raise DataError(
            f"data/raw/{target.name} already holds other files; choose another name with `--name`, "
            "or overwrite them with `--force`."
        )
    with complete_folder(target) as partial:
        if target.exists():  # other files stay, such as what was labelled by hand
            names = [path.name for path in sources]
            stays = shutil.ignore_patterns(*map(glob.escape, names))
            shutil.copytree(target, partial, symlinks=True, dirs_exist_ok=True, ignore=stays)
        for path in sources:
            if path.is_dir():
                # Links are copied as links, so that nothing from elsewhere comes in unseen.
                shutil.copytree(path, partial / path.name, symlinks=True)
                _rename(partial / path.name)
            else:
                shutil.copyfile(path, partial / path.name)


def _rename(folder: Path) -> None:
    """Give names that are not UTF-8 the form in which they are shown, since DVC takes no others."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            shown = printable(name)
            if shown == name:
                continue
            if os.path.lexists(Path(place, shown)):
                raise DataError(f"{folder.name} holds {shown} twice, once not in UTF-8; rename one.")
            Path(place, name).rename(Path(place, shown))


def _same(one: Path, other: Path) -> bool:
    if one.resolve() == other.resolve():
        return True
    if one.is_dir():
        return other.is_dir() and sha256_folder(one) == sha256_folder(other)
    return other.is_file() and sha256_file(one) == sha256_file(other)


def _params(inspection: Inspection, name: str) -> str:
    """The text of `params.yaml`: what differs from the defaults, with the reasons."""
    data = group(
        name=(name, "folder below data/raw"),
        format=(inspection.format, ""),
        train=(inspection.path.name, f"{inspection.records:,} records"),
    )
    if inspection.validation is not None:
        data["validation"] = inspection.validation.name
    if inspection.test is not None:
        data["test"] = inspection.test.name
    settings = inspection.data
    if inspection.format not in ("parquet", "dataset", "images", "numpy"):
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
    if settings.keep:
        data["keep"] = list(settings.keep)
    elif settings.column_names is None and others:
        data["keep"] = []
        data.yaml_add_eol_comment(f"other columns to slice the scores by: {', '.join(others[:8])}", "keep")

    preparation = CommentedMap()
    if inspection.unescape_html:
        preparation["unescape_html"] = True
        preparation.yaml_add_eol_comment("the texts hold entities such as &amp;", "unescape_html")
    if inspection.strip_quotes:
        preparation["strip_quotes"] = True
        preparation.yaml_add_eol_comment("most texts are enclosed in quotes", "strip_quotes")
    if inspection.validation is None:
        preparation["validation_fraction"] = 0.1
    if inspection.test is None:
        preparation["test_fraction"] = 0.2
        preparation.yaml_add_eol_comment("there is no test file", "test_fraction")

    largest = max(inspection.classes.values(), default=1) / max(sum(inspection.classes.values()), 1)
    spaced = inspection.unspaced < 0.5
    longest = (
        f"{inspection.words['p95']:g} words" if spaced else f"{inspection.characters['p95']:g} characters"
    )
    at_most = f"95% of the texts have at most {longest}"
    root = CommentedMap()
    root["seed"] = 42
    root["data"] = data
    root["preparation"] = preparation
    root["problem"] = group(name=(inspection.problem, inspection.targets), **inspection.problem_settings)
    defaults = Settings()
    metric = ("macro_f1", "decides which epoch is kept")
    if inspection.latin >= 0.5:
        root["tokenization"] = group(max_length=(inspection.max_length, at_most))
        root["backbone"] = group(name=(defaults.backbone.name, ""), source=(defaults.backbone.source, ""))
        root["method"] = group(name=(defaults.method.name, ""))
        root["training"] = group(epochs=(3, ""), metric=metric)
        root["evaluation"] = group(baselines=(["tfidf", "backbone"], ""))
    else:
        root |= _from_scratch(inspection, at_most, spaced)
        root["training"]["metric"] = metric[0]
        root["training"].yaml_add_eol_comment(metric[1], "metric")
    root["registry"] = group(model=(name, "name of the registered model"))
    floor = min(round(largest, 2), 0.99)
    root["gate"] = CommentedMap(floors=group(accuracy=(floor, "what always saying the largest class gives")))
    if inspection.problem in RECOGNISED:
        RECOGNISED[inspection.problem].params(root, inspection)
    elif inspection.problem != "classification":
        _for_sets_or_numbers(root, inspection)
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


def _for_sets_or_numbers(root: CommentedMap, inspection: Inspection) -> None:
    """Change what is otherwise for texts with several classes, or with a number."""
    pretrained = ["backbone"] if "backbone" in root["evaluation"]["baselines"] else []
    if inspection.problem == "multilabel":
        metric, simplest = "micro_f1", "majority"
        floors = group(micro_f1=(0.3, "over all records and classes"))
    else:
        metric, simplest = "r2", "mean"
        floors = group(r2=(0.0, "what always saying the mean gives"))
    root["training"]["metric"] = metric
    root["evaluation"] = group(baselines=([simplest, "tfidf", *pretrained], ""))
    root["gate"] = CommentedMap(floors=floors)


def _from_scratch(inspection: Inspection, at_most: str, spaced: bool) -> CommentedMap:
    """Groups for texts in another script than the default backbone reads."""
    length = inspection.max_length
    if not spaced:
        length = min(max(-(-int(inspection.characters["p95"] + 2) // 16) * 16, 16), 512)
    tokenizer = ("wordpiece" if spaced else "characters", "learned from the training part")
    english = Settings().backbone.name
    return CommentedMap(
        tokenization=group(tokenizer=tokenizer, max_length=(length, at_most)),
        backbone=group(
            name=("scratch", f"{inspection.latin:.0%} of the letters are Latin; {english} reads English"),
            type=("convolutional", "or recurrent, or transformer; or a pretrained one of your language"),
            source=("scratch", ""),
        ),
        method=group(name=("full", "")),
        training=group(
            epochs=(10, ""), learning_rate=(0.003, ""), dropout=(0.5, ""), weight_averaging=(0.98, "")
        ),
        evaluation=group(baselines=(["tfidf"], "")),
    )

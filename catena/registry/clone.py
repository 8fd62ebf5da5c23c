"""A clean copy of the project as a version was made from it: commit, difference, parameters, data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catena.data.fetch import fetch_backbone, fetch_data
from catena.data.versions import folder_md5, recorded_md5
from catena.errors import RegistryError
from catena.layout import Layout
from catena.registry.lineage import PATCH, SOURCES
from catena.registry.packaging import LINEAGE
from catena.registry.predecessors import bring_predecessors
from catena.settings import Settings, load_settings

Report = Callable[[str], None]


def make_copy(
    layout: Layout, document: Mapping[str, Any], packaged: Path, target: Path, uri: str, report: Report
) -> Layout:
    """Clone the recorded commit to `target`, apply the recorded difference, bring data and backbone.

    Nothing in the project changes; DVC's cache is shared. Raises `RegistryError` when sources or
    data of that time cannot be had, or are not what was recorded.
    """
    git = document["git"]
    commit = git["commit"]
    if not commit:
        raise RegistryError(f"{uri} was registered outside a Git repository, so its sources are not known.")
    if git["omitted"]:
        raise RegistryError(
            f"{uri} was made with untracked files too large to record ({', '.join(git['omitted'])}); "
            "commit such files, or put them under DVC, before training a model that is to be reproducible."
        )
    report(f"sources: commit {commit[:12]}{' with its recorded difference' if git['dirty'] else ''}")
    top = _output(["git", "-C", str(layout.root), "rev-parse", "--show-toplevel"], "Git")
    _run(["git", "clone", "--quiet", "--no-checkout", top, str(target)], "Git")
    try:
        _run(["git", "-C", str(target), "checkout", "--quiet", "--detach", commit], "Git")
    except RegistryError:
        raise RegistryError(
            f"Commit {commit} of {uri} is not in this repository; fetch it (`git fetch --all`) and try again."
        ) from None
    kept = packaged / LINEAGE
    if (kept / PATCH).is_file():
        _run(["git", "-C", str(target), "apply", "--binary", "--whitespace=nowarn", str(kept / PATCH)], "Git")
    copy = Layout(target / git["folder"])
    for name in SOURCES:
        if (kept / name).is_file():
            shutil.copyfile(kept / name, copy.root / name)
    settings = load_settings(copy.params)
    _share_cache(layout, copy)
    _bring_data(settings, layout, copy, document, report)
    _bring_backbone(settings, layout, copy, document, report)
    bring_predecessors(document, layout, copy, report)
    return copy


def _share_cache(layout: Layout, copy: Layout) -> None:
    """Let the copy read the project's cache and folder remotes, which lie relative to the project."""
    cache = _dvc(layout.root, "cache", "dir")
    _dvc(copy.root, "cache", "dir", "--local", str((layout.root / cache).resolve()))
    for line in _dvc(layout.root, "remote", "list").splitlines():
        name, _, place = line.partition("\t")
        place = place.split("\t")[0].strip()
        if place and "://" not in place:
            folder = str((layout.root / place).resolve())
            _dvc(copy.root, "remote", "modify", "--local", name.strip(), "url", folder)


def _bring_data(
    settings: Settings, layout: Layout, copy: Layout, document: Mapping[str, Any], report: Report
) -> None:
    """Raw data from DVC's cache or remote, else fetched again; checked against the recorded MD5."""
    name = settings.data.name
    folder = copy.raw(name)
    wanted = document["data"].get("raw", {}).get(f"data/raw/{name}")
    if recorded_md5(folder) is not None:
        report(f"data: data/raw/{name} from DVC")
        pointer = f"data/raw/{name}.dvc"
        found = _try_dvc(copy.root, "checkout", pointer) or _try_dvc(copy.root, "pull", pointer)
        if not found and settings.data.source is not None:
            report(f"data: not in DVC's cache or remote, fetching {settings.data.source}")
            shutil.rmtree(folder, ignore_errors=True)
            fetch_data(settings, copy)
    elif settings.data.source is not None:
        fetch_data(settings, copy)
    elif layout.raw(name).is_dir():
        shutil.copytree(layout.raw(name), folder)
    _compare(folder, f"data/raw/{name}", wanted)


def _bring_backbone(
    settings: Settings, layout: Layout, copy: Layout, document: Mapping[str, Any], report: Report
) -> None:
    """The pretrained weights, from the project if they are still the same, else fetched again."""
    name = settings.backbone.name
    wanted = document["backbone"].get("md5")
    here, there = layout.backbone(name), copy.backbone(name)
    if here.is_dir() and wanted in (None, folder_md5(here)[0]):
        report(f"backbone: models/backbones/{name} of this project")
        shutil.copytree(here, there)
    else:
        report(f"backbone: fetching {settings.backbone.source}")
        fetch_backbone(settings, copy)
    _compare(there, f"models/backbones/{name}", wanted)


def _compare(folder: Path, shown: str, wanted: str | None) -> None:
    if not folder.is_dir():
        raise RegistryError(
            f"{shown} of that time cannot be had: it is in neither DVC's cache nor a remote; "
            "`dvc pull` it from where it was pushed, or put it there."
        )
    found = folder_md5(folder)[0]
    if wanted is not None and found != wanted:
        raise RegistryError(f"{shown} is not what the model was made from: MD5 {found} instead of {wanted}.")


def run_stages(copy: Layout, store: Path, report: Report) -> None:
    """Run every stage up to the evaluation afresh, without DVC's run cache, tracked in `store`.

    Raises `RegistryError` with the last line of a stage that fails.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(copy.root),
        "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}",
        "DVC_NO_ANALYTICS": "true",
    }
    words = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit", "evaluate"]
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        words, cwd=copy.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            if line.strip():
                last.append(line.strip())
                report(line.rstrip())
    if process.returncode:
        words_of_stage = next((line for line in reversed(last) if not line.startswith("ERROR:")), "no output")
        raise RegistryError(f"The stages could not be run again in a clean copy: {words_of_stage}")


def _dvc(folder: Path, *arguments: str) -> str:
    return _output([sys.executable, "-m", "dvc", *arguments], "DVC", folder)


def _try_dvc(folder: Path, *arguments: str) -> bool:
    words = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
    return subprocess.run(words, cwd=folder, capture_output=True).returncode == 0


def _run(words: list[str], what: str) -> None:
    _output(words, what)


def _output(words: list[str], what: str, folder: Path | None = None) -> str:
    """Standard output of a command. Raises `RegistryError` with what it complained of."""
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise RegistryError(f"{what} is not installed; it is needed to reproduce a model.") from None
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise RegistryError(f"{what} failed while copying the project: {complaint}")
    return done.stdout.strip()

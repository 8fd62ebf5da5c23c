"""Models that a training begins with or learns from: found, described, and brought along."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from catena.errors import ModelError, RegistryError
from catena.files import sha256_file
from catena.layout import Layout
from catena.methods.base_reference import base_of
from catena.model_folder import CARD, check_files, read_card, weights_sha256
from catena.registry.versions import model_folder, resolve
from catena.settings import Settings

#: What a training may ask of another model, and the parameter that names it.
ROLES = {"start": ("method", "start"), "teacher": ("method", "distillation", "teacher")}


@dataclass(frozen=True)
class Predecessor:
    """A complete model folder on this machine, and what is remembered of it."""

    folder: Path
    card: dict[str, Any]
    described: dict[str, Any]

    @property
    def identity(self) -> str:
        """SHA-256 of its card, which holds those of all its files."""
        return str(self.described["card_sha256"])


def predecessors(settings: Settings, layout: Layout) -> dict[str, Predecessor]:
    """The models that the settings name, by role.

    An alias is looked up now; what is remembered is the version. Raises `ModelError` for a folder that is
    no complete model, `RegistryError` for a name that the registry does not know.
    """
    given = {"start": settings.method.start, "teacher": settings.method.distillation.teacher}
    return {role: _find(name, role, layout) for role, name in given.items() if name is not None}


def _find(given: str, role: str, layout: Layout) -> Predecessor:
    parameter = ".".join(ROLES[role])
    version = None
    try:
        if given.startswith(("models:", "runs:")):
            if given.startswith("models:/"):
                _, found = resolve(given, layout)
                version = given = f"models:/{found.name}/{found.version}"
            folder = model_folder(given, layout)
        else:
            folder = model_folder(layout.root / given, layout)
        card = read_card(folder)
        check_files(folder, card)
    except (ModelError, RegistryError) as error:
        raise type(error)(f"`{parameter}`: {error}") from error
    described = {
        "given": given,
        "version": version,
        "fingerprint": card.get("fingerprint"),
        "weights_sha256": weights_sha256(card),
        "card_sha256": sha256_file(folder / CARD),
    }
    return Predecessor(folder, card, described)


def bring_predecessors(
    document: Mapping[str, Any], layout: Layout, copy: Layout, report: Callable[[str], None]
) -> None:
    """Put the models of that time into a copy of the project, and name them there by their folders.

    With one that is an adapter comes the backbone that it is for.

    Raises `RegistryError` where one cannot be had, or is another than was recorded.
    """
    for role, recorded in (document.get("predecessors") or {}).items():
        parameter = ".".join(ROLES[role])
        given = str(recorded["version"] or recorded["given"])
        where = given if given.startswith(("models:", "runs:")) else layout.root / given
        try:
            folder = model_folder(where, layout)
            check_files(folder, read_card(folder))
            base = base_of(folder)
            below = base.find(folder) if base is not None else None
        except (ModelError, RegistryError) as error:
            raise RegistryError(
                f"The model of `{parameter}` ({given}) cannot be had any more: {error}"
            ) from error
        if sha256_file(folder / CARD) != recorded["card_sha256"]:
            raise RegistryError(
                f"The model of `{parameter}` ({given}) is not the one of that time: its weights have the "
                f"SHA-256 {weights_sha256(read_card(folder))[:12]}… instead of "
                f"{recorded['weights_sha256'][:12]}…; bring that one back."
            )
        report(f"{role}: {given}")
        place = Path("models", "predecessors", role)
        shutil.copytree(folder, copy.root / place)
        if below is not None and not copy.backbone(below.name).exists():
            shutil.copytree(below, copy.backbone(below.name))
        _rename(copy.params, ROLES[role], place.as_posix())


def _rename(params: Path, keys: tuple[str, ...], value: str) -> None:
    yaml = YAML()
    yaml.preserve_quotes = True  # in braces `package:x` is no YAML without them
    yaml.width = 1 << 20  # nor is every line that was broken
    content = yaml.load(params.read_text(encoding="utf-8"))
    *groups, last = keys
    inner = content
    for group in groups:
        inner = inner[group]
    inner[last] = value
    with params.open("w", encoding="utf-8") as stream:
        yaml.dump(content, stream)

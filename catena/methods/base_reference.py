"""The backbone that an adapter belongs to: described by name and hashes, found again, and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from catena.errors import CatenaError, ModelError, SettingsError
from catena.files import sha256_file
from catena.layout import Layout

#: File of a model folder that names the backbone its adapter belongs to.
REFERENCE = "adapter.json"
#: Folder of backbones to look in first, one folder for each name.
VARIABLE = "CATENA_BACKBONES"


@dataclass(frozen=True)
class BaseReference:
    """A backbone by `name`, `source` (as in `params.yaml`, with its revision), and SHA-256 of its weights.

    `bytes` is what these take.
    """

    name: str
    source: str
    sha256: Mapping[str, str]
    bytes: int

    @classmethod
    def of(cls, folder: Path, source: str) -> BaseReference:
        """Describe the backbone in `folder`. Raises `SettingsError` where there are no weights."""
        hashes = _hashes(folder)
        if not hashes:
            raise SettingsError(
                f"`method.store` adapter needs a pretrained backbone to refer to, and {folder} holds no "
                "weights; set it to merged."
            )
        return cls(folder.name, source, hashes, sum((folder / name).stat().st_size for name in hashes))

    def write(self, folder: Path) -> None:
        text = json.dumps({"base": asdict(self)}, indent=2, ensure_ascii=False)
        (folder / REFERENCE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> BaseReference:
        """What `write` left in `folder`. Raises `ModelError` where that is missing or damaged."""
        path = folder / REFERENCE
        try:
            base = json.loads(path.read_text(encoding="utf-8"))["base"]
            name, source, hashes = base["name"], base["source"], dict(base["sha256"])
            size = int(base["bytes"])
        except FileNotFoundError:
            raise ModelError(
                f"{path} is missing, so nobody knows which backbone the adapter is for."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"{path} is damaged; fetch the model again.") from None
        if not isinstance(name, str) or Path(name).name != name or not hashes:
            raise ModelError(f"{path} is damaged; fetch the model again.")
        return cls(name, str(source), {str(file): str(value) for file, value in hashes.items()}, size)

    def find(self, folder: Path) -> Path:
        """The backbone's folder on this machine, its weights checked, for an adapter in `folder`.

        Looks into `$CATENA_BACKBONES`, then into `models/backbones` of the project at hand and of the one
        that `folder` lies in. Raises `ModelError` where there is none, or another one.
        """
        places = self._places(folder)
        there = [place for place in places if place.is_dir()]
        if not there:
            raise ModelError(
                f"The model in {folder} is an adapter for the backbone {self.name} ({self.source}), which is "
                f"not in {' or '.join(str(place.parent) for place in places)}; run `catena fetch`, or name "
                f"the folder of your backbones in the environment variable {VARIABLE}."
            )
        for place in there:
            if _hashes(place) == dict(self.sha256):
                return place
        raise ModelError(
            f"The model in {folder} is an adapter for another backbone than the one in "
            f"{' or '.join(map(str, there))}: the SHA-256 of the weights differ; it needs {self.name} from "
            f"{self.source}."
        )

    def _places(self, folder: Path) -> list[Path]:
        places = []
        if given := os.environ.get(VARIABLE):
            places.append(Path(given) / self.name)
        for start in (None, folder):
            try:
                places.append(Layout.find(start).backbone(self.name))
            except CatenaError:
                continue
        return list(dict.fromkeys(places)) or [Path("models/backbones") / self.name]


def base_of(folder: Path) -> BaseReference | None:
    """The backbone that a model folder refers to; `None` where it is complete."""
    return BaseReference.read(folder) if (folder / REFERENCE).is_file() else None


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}

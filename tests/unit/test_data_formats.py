"""Every format gives the same records, gzipped or not, in batches."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catena.data.formats import Content, read_records
from catena.errors import DataError
from catena.settings import DataSettings

ROWS = [
    ("plain", "a"),
    ('with, comma and "quotes"', "b"),
    ("with\nline break", "a"),
    ("with\ttab", "b"),
    ("Ünïcödé 漢字 🎉", "a"),
]


def write_csv(path: Path, delimiter: str = ",") -> None:
    pd.DataFrame(ROWS, columns=["text", "label"]).to_csv(path, index=False, sep=delimiter, compression=None)


def write_orange(path: Path) -> None:
    write_csv(path, "\t")
    header, _, body = path.read_text(encoding="utf-8").partition("\n")
    path.write_text(f"{header}\nstring\td\nmeta\tclass\n{body}", encoding="utf-8")


def write_jsonl(path: Path) -> None:
    lines = [
        json.dumps({"text": text, "label": label, "more": [1]}, ensure_ascii=False) for text, label in ROWS
    ]
    path.write_text("\n".join(lines), encoding="utf-8")  # no newline at the end


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"label": [r[1] for r in ROWS], "text": [r[0] for r in ROWS]}), path)


def read(path: Path, **settings: object) -> list[tuple[str, str]]:
    frames = [
        b.records for b in read_records(path, DataSettings(**settings), ["text", "label"], target="label")
    ]
    frame = pd.concat(frames)
    assert frame["row"].tolist() == list(range(1, len(frame) + 1))
    return list(zip(frame["text"], frame["label"], strict=True))


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("data.csv", write_csv),
        ("data.tsv", lambda path: write_csv(path, "\t")),
        ("data.tab", write_orange),
        ("data.jsonl", write_jsonl),
        ("data.parquet", write_parquet),
    ],
)
def test_every_format_gives_the_same_records(
    tmp_path: Path, name: str, write: Callable[[Path], None], zipped: bool
) -> None:
    path = tmp_path / name
    write(path)
    if zipped:
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    assert read(path) == ROWS


def test_a_saved_data_set_folder_is_read_with_its_class_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    rows = {"text": [row[0] for row in ROWS], "label": ["ab".index(row[1]) for row in ROWS]}
    DatasetDict({"train": Dataset.from_dict(rows, features=features)}).save_to_disk(str(tmp_path / "saved"))
    assert read(tmp_path / "saved" / "train") == ROWS
    with pytest.raises(DataError, match=r"holds several parts \(train\); name one"):
        read(tmp_path / "saved")


def test_numbered_classes_in_the_parquet_files_of_datasets_are_named(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    path = tmp_path / "data.parquet"
    Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=features).to_parquet(str(path))
    assert read(path) == [("x", "yes"), ("y", "no")]


def test_numbers_in_parquet_read_as_they_would_in_json(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    table = pa.table({"text": [1.5, 2.0, 10.0], "label": pa.array([1.0, None, 3.0])})
    pq.write_table(table, path)
    (batch,) = read_records(path, DataSettings(), ["text", "label"])
    assert batch.records["text"].tolist() == ["1.5", "2", "10"]
    assert batch.records["label"].fillna("missing").tolist() == ["1", "missing", "3"]


def test_a_file_without_header_is_read_by_the_given_column_names(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_bytes(b'she said "no\t1\n"quoted" start\t0')  # literal quotes, no last newline
    records = read(path, column_names=("text", "label"), quoting=False)
    assert records == [('she said "no', "1"), ('"quoted" start', "0")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "gb18030"])
def test_declared_encodings_and_byte_order_marks_are_understood(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "data.csv"
    text = "深圳" if encoding == "gb18030" else "déjà vu"
    path.write_bytes(f"text,label\n{text},x\n".encode(encoding))
    assert read(path, encoding="utf-8" if encoding == "utf-8-sig" else encoding) == [(text, "x")]


@pytest.mark.parametrize("name", ["text", "row"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_column_is_not_kept_under_the_name_of_another(tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / f"data.{ending}"
    rows = pd.DataFrame({"review": ["good"], name: ["other"]})
    if ending == "csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True)
    settings = DataSettings(columns={"text": "review", "label": "label"})
    with pytest.raises(DataError, match=f"The column `{name}` cannot be kept"):
        list(read_records(path, settings, ["text"], keep=[name]))


def test_a_target_column_may_be_missing_when_predicting(tmp_path: Path) -> None:
    for name, content in (("data.csv", "id,text\n7,hello\n"), ("data.jsonl", '{"id": 7, "text": "hello"}\n')):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        (batch,) = read_records(
            path, DataSettings(), ["text", "label"], target="label", keep=["id"], target_required=False
        )
        assert batch.records["text"].tolist() == ["hello"]
        assert batch.records["id"].tolist() == ["7"]


def test_rows_are_numbered_across_blocks_and_around_broken_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    broken = {5, 6, 70_000, 150_001}
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n\n")
        for row in range(1, 150_002):
            stream.write(f"{'x' * 520} {row},a{',too much' if row in broken else ''}\n")
    batches = list(read_records(path, DataSettings(), ["text", "label"]))
    assert len(batches) > 1  # 70 MB come in several blocks
    records = pd.concat([batch.records for batch in batches])
    assert (records["text"].str.rpartition(" ")[2].astype(int) == records["row"]).all()
    assert len(records) == 150_001 - len(broken)
    rejected = pd.concat([batch.broken for batch in batches])
    assert set(rejected["row"]) == broken
    assert set(rejected["reason"]) == {"3 columns instead of 2"}
    assert rejected["text"].str.len().max() == 500


def test_json_lines_that_are_no_objects_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = ['{"text": "a", "label": "x"}', "{broken", "[1]", '{"text": {"k": 1}, "label": "x"}', "",
             '{"text": "\\ud800", "label": "x"}', '{"text": 3.0, "label": "y"}', "[" * 100_000]  # fmt: skip
    path.write_text("\n".join(lines), encoding="utf-8")
    (batch,) = read_records(path, DataSettings(), ["text", "label"], target="label")
    assert batch.records[["row", "text"]].to_dict("list") == {"row": [1, 6], "text": ["a", "3"]}
    assert batch.broken["row"].tolist() == [2, 3, 4, 5, 7]
    reasons = batch.broken["reason"].tolist()
    assert reasons[0].startswith("not valid JSON: ")
    assert reasons[1] == "a JSON array instead of an object"
    assert reasons[2] == "`text` holds a JSON object instead of text"
    assert reasons[3] == "`text` holds half of a surrogate pair, which is no character"


def test_orange_files_are_told_from_plain_tab_files(tmp_path: Path) -> None:
    path = tmp_path / "data.tab"
    path.write_text("text\tlabel\nstring\td\n\tclass\nhello\tx\n", encoding="utf-8")
    assert read(path) == [("hello", "x")]
    path.write_text("text\tlabel\nclass is over\tx\nmeta\ty\n", encoding="utf-8")
    assert read(path) == [("class is over", "x"), ("meta", "y")]


def test_only_what_the_problem_says_may_hold_lists(tmp_path: Path) -> None:
    rows = [
        {"words": ["a", "b"], "tags": ["x"], "more": {"k": 1}},
        {"words": "c d", "tags": "y", "more": "z"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = DataSettings(columns={"first": "words", "second": "tags"})
    contents: dict[str, Content] = {"first": "tokens", "second": "json"}
    (batch,) = read_records(path, settings, contents=contents, keep=["more"])
    assert batch.records["first"].tolist() == ["a b", "c d"]
    assert batch.records["second"].tolist() == ['["x"]', "y"]
    assert batch.records["more"].tolist() == ['{"k":1}', "z"]
    (batch,) = read_records(path, settings)
    assert batch.broken["reason"].tolist() == ["`words` holds a JSON array instead of text"]
    path.write_text('{"words": {"a": 1}, "tags": []}\n')
    (batch,) = read_records(path, settings, contents=contents)
    assert batch.broken["reason"].tolist() == ["`words` holds a JSON object instead of text"]

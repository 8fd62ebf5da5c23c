"""Bad input: one clear sentence each, exit code 2, and nothing of earlier results touched."""
# ruff: noqa: E501 - the cases are easier to read as one line each

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from catena.data.preparation import Prepared, prepare
from catena.errors import CatenaError, DataError, SettingsError
from catena.problems import get_problem
from catena.settings import parse_settings

WORDS = [
    "ships",
    "carry",
    "grain",
    "over",
    "wide",
    "seas",
    "while",
    "banks",
    "lend",
    "money",
    "to",
    "farmers",
    "who",
    "plough",
    "and",
    "harvest",
    "fields",
]


def good_rows(count: int, label: str) -> list[str]:
    """`count` different sentences with one label."""
    size = len(WORDS)
    return [
        f"{WORDS[n % size]} {WORDS[n // size % size]} {label} {WORDS[(n * 7 + 3) % size]} number {n},{label}"
        for n in range(count)
    ]


def csv_text(*groups: list[str], header: str = "text,label") -> str:
    return "\n".join([header, *(row for group in groups for row in group)]) + "\n"


GOOD = csv_text(good_rows(60, "farm"), good_rows(60, "bank"))


def run(folder: Path, content: str | bytes, name: str = "train.csv", **groups: dict[str, object]) -> Prepared:
    """Prepare one file of records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    values = {**groups, "data": {"name": "mine", "train": name, **groups.get("data", {})}}
    return prepare(parse_settings(values), get_problem("classification"), folder)


def broken_quote() -> str:
    return GOOD.replace("ships ships farm", '"ships ships farm', 1)


JSON_GOOD = "".join(
    f'{{"text": "{row.rpartition(",")[0]}", "label": {number % 2}}}\n'
    for number, row in enumerate(good_rows(60, "x"))
)

CASES: dict[str, tuple[str | bytes, str, dict[str, dict[str, object]], str]] = {
    "a missing column names the nearest and all there are": (
        GOOD.replace("text,label", "Text,label"), "train.csv", {},
        r"train.csv has no column 'text'; the nearest is 'Text': it has 'Text', 'label'; set `data.columns`",
    ),
    "a missing kept column": (
        GOOD, "train.csv", {"data": {"keep": ["region"]}},
        r"train.csv has no column 'region'.*set `data.keep`",
    ),
    "an empty file": (b"", "train.csv", {}, r"train.csv is empty"),
    "an empty gzipped file": (gzip.compress(b""), "train.csv.gz", {}, r"train.csv.gz is empty"),
    "a header without records": ("text,label\n", "train.csv", {}, r"train.csv has no records"),
    "blank lines only": ("\n\n\n", "train.csv", {}, r"train.csv holds nothing but blank lines"),
    "one class only": (
        csv_text(good_rows(50, "farm")), "train.csv", {},
        r"The training part has only one class \('farm'\); at least two classes are needed",
    ),
    "a class too small for training": (
        csv_text(good_rows(60, "farm"), good_rows(60, "bank"), ["a lonely text,rare"]), "train.csv", {},
        r"(Too few training records in class 'rare' \([01]\): 3 are needed|Class 'rare' \(1 records\) is too small)",
    ),
    "latin-1 declared as utf-8": (
        GOOD.replace("grain", "céréales").encode("cp1252"), "train.csv", {},
        r"train.csv, line 4: byte 0xe9 is not utf-8 text; the file is likely cp1252, so set `data.encoding: cp1252`",
    ),
    "utf-8 declared as latin-1": (
        GOOD.replace("grain", "céréales"), "train.csv", {"data": {"encoding": "latin-1"}},
        r"train.csv is UTF-8 although `data.encoding` says latin-1",
    ),
    "utf-16 declared as utf-8": (
        GOOD.encode("utf-16-le"), "train.csv", {}, r"full of zero bytes and likely utf-16-le; set `data.encoding",
    ),
    "utf-16 with a byte order mark": (GOOD.encode("utf-16"), "train.csv", {}, r"zero bytes and likely utf-16;"),
    "an encoding nobody knows": (GOOD, "train.csv", {"data": {"encoding": "utf-88"}}, r"'utf-88' is no encoding"),
    "a quote that is never closed": (
        broken_quote(), "train.csv", {}, r"train.csv, row 1: a double quote is opened and never closed",
    ),
    "a column name used twice": (
        GOOD.replace("text,label", "label,label"), "train.csv",
        {"data": {"columns": {"text": "label", "label": "label"}}},
        r"train.csv has 2 columns named 'label', so it is not clear which one is meant",
    ),
    "column names that do not fit": (
        GOOD, "train.csv", {"data": {"column_names": ["text", "label", "more"]}},
        r"train.csv has 2 columns in its first row but `data.column_names` names 3",
    ),
    "carriage returns alone": (GOOD.replace("\n", "\r"), "train.csv", {}, r"ends its lines with carriage returns"),
    "carriage returns alone in JSON": (
        JSON_GOOD.replace("\n", "\r"), "train.jsonl", {}, r"ends its lines with carriage returns",
    ),
    "too many bad rows": (
        csv_text(good_rows(60, "farm"), [",farm"] * 30, ["one,two,three"] * 10), "train.csv", {},
        r"train.csv: 40 of 100 rows \(40.0%\) cannot be used, over the limit of 10.0%: 30 × empty text \(first in "
        r"row 61\); 10 × 3 columns instead of 2 \(first in row 91\)",
    ),
    "labels of mixed types": (
        JSON_GOOD + '{"text": "one more", "label": "1"}\n', "train.jsonl", {},
        r"train.jsonl: the labels in `label` are of mixed types, a number in row 1 \(0\) and text in row 61 \('1'\)",
    ),
    "truth values among numbers": (
        JSON_GOOD + '{"text": "one more", "label": true}\n', "train.jsonl", {}, r"row 61 \(True\); write all of them",
    ),
    "one number written in two ways": (
        csv_text(good_rows(60, "1"), good_rows(60, "1.0")), "train.csv", {},
        r"The labels '1' and '1.0' are one number written in two ways",
    ),
    "a JSON array": ("[" + JSON_GOOD.replace("\n", ",") + "]", "train.json", {}, r"is one JSON array, not JSON Lines"),
    "a field no object has": (
        JSON_GOOD.replace("label", "class"), "train.jsonl", {}, r"no column 'label'.*it has 'text', 'class'",
    ),
    "cut-off gzip": (gzip.compress(GOOD.encode())[:-20], "train.csv.gz", {}, r"train.csv.gz is cut off or damaged"),
    "not gzip at all": (GOOD, "train.csv.gz", {}, r"train.csv.gz is not gzipped, whatever its name says"),
    "not Parquet at all": (GOOD, "train.parquet", {}, r"train.parquet is not a whole Parquet file"),
    "an ending that says nothing": (GOOD, "train.dat", {}, r"does not say how the file is written; set `data.format`"),
    "a file outside the folder": (GOOD, "train.csv", {"data": {"train": "../train.csv"}}, r"lies outside data/raw"),
    "one file for two parts": (
        GOOD, "train.csv", {"data": {"test": "train.csv"}}, r"`data.train` and `data.test` both name train.csv",
    ),
    "augmentation that would do nothing": (
        GOOD, "train.csv", {"preparation": {"augmentation": {"copies": 2}}}, r"no operation has a share above 0",
    ),
    "augmentation of an unknown class": (
        GOOD, "train.csv",
        {"preparation": {"augmentation": {"copies": 1, "word_dropout": 0.1, "classes": ["frm"]}}},
        r"there is no class 'frm'",
    ),
    "duplicates where they are an error": (
        csv_text(good_rows(50, "farm"), good_rows(50, "bank"), good_rows(1, "farm")), "train.csv",
        {"preparation": {"duplicates": "error"}}, r"train.csv has the same record in row 1 and row 101",
    ),
    "contradictions where they are an error": (
        csv_text(good_rows(50, "farm"), good_rows(50, "bank"), ["ships ships farm over number 0,bank"]),
        "train.csv", {"preparation": {"contradictions": "error"}},
        r"train.csv: rows 1 and 101 hold the same text with the labels 'farm' and 'bank'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, name, groups, expected = CASES[case]
    with pytest.raises(CatenaError, match=expected) as caught:
        run(tmp_path / "mine", content, name, **groups)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "…", ")")) or message[-1].isalnum()


def test_the_good_data_the_bad_cases_start_from_is_good(tmp_path: Path) -> None:
    prepared = run(tmp_path / "csv", GOOD)
    assert len(prepared.rejected) == 0
    assert sum(len(part) for part in prepared.parts.values()) == 120
    assert len(run(tmp_path / "jsonl", JSON_GOOD, "train.jsonl").rejected) == 0


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file trian.csv in .*did you mean train.csv\?"):
        run(tmp_path / "mine", GOOD, data={"train": "trian.csv"})


def test_a_missing_folder_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder data/raw/mine; `catena fetch` gets it"):
        prepare(parse_settings({"data": {"name": "mine"}}), get_problem("classification"), tmp_path / "mine")


def test_broken_rows_are_rejected_with_their_number(tmp_path: Path) -> None:
    rows = GOOD.splitlines()
    rows.insert(8, "one,two,three")
    rows.insert(20, ",farm")
    rows.insert(30, "no label,   ")
    rows.insert(40, "nul\0byte,farm")
    prepared = run(tmp_path / "mine", "\n".join(rows))
    table = prepared.rejected[["row", "reason"]].to_dict("split")["data"]
    assert table == [
        [8, "3 columns instead of 2"],
        [20, "empty text"],
        [30, "empty label"],
        [40, "NUL character in the text"],
    ]
    assert set(prepared.rejected["source"]) == {"train.csv"}


def test_a_record_of_ten_megabytes_is_rejected_and_the_rest_is_kept(tmp_path: Path) -> None:
    prepared = run(tmp_path / "mine", GOOD + "x" * 10_000_000 + ",farm\n")
    assert prepared.rejected[["row", "reason"]].to_dict("records") == [
        {"row": 121, "reason": "text longer than 100000 characters"}
    ]
    assert len(prepared.rejected["text"].iloc[0]) == 500
    cut = run(tmp_path / "mine", GOOD + "x" * 10_000_000 + ",farm\n", preparation={"too_long": "truncate"})
    lengths = pd.concat(cut.parts.values())["text"].str.len()
    assert lengths.max() == 100_000
    assert len(cut.rejected) == 0


def test_a_record_larger_than_a_block_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.csv, row 1 or after: a record is larger than 32 MB"):
        run(tmp_path / "mine", csv_text([f"{'x' * 70_000_000},farm"]))


def test_classes_that_training_lacks_are_rejected_from_the_test(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    test = csv_text(good_rows(40, "market"), ["a stray text,elsewhere"]).replace(",market", ",farm")
    (folder / "test.csv").write_text(test, encoding="utf-8")
    prepared = run(folder, GOOD, data={"test": "test.csv"})
    assert prepared.rejected[["source", "row", "reason"]].to_dict("records") == [
        {"source": "test.csv", "row": 41, "reason": "class 'elsewhere' does not occur in the training part"}
    ]
    assert prepared.report["warnings"][0] == "the test file has no records of 'bank'"


def test_labels_outside_the_given_names_are_rejected(tmp_path: Path) -> None:
    rows = csv_text(good_rows(60, "0"), good_rows(60, "1"), ["what is this,2"])
    prepared = run(tmp_path / "mine", rows, data={"labels": {"0": "bad", "1": "good"}})
    assert prepared.classes == ("bad", "good")
    assert prepared.rejected["reason"].tolist() == ["label not among `data.labels`"]
    assert prepared.rejected["label"].tolist() == ["2"]


def test_an_augmentation_without_its_synonyms_file_is_one_sentence(tmp_path: Path) -> None:
    chosen = {"copies": 1, "synonym": 0.5}
    with pytest.raises(SettingsError, match="no `synonyms_file` is named"):
        run(tmp_path / "mine", GOOD, preparation={"augmentation": chosen})
    with pytest.raises(DataError, match=r"There is no synonyms file words.tsv"):
        run(tmp_path / "mine", GOOD, preparation={"augmentation": {**chosen, "synonyms_file": "words.tsv"}})
    (tmp_path / "mine" / "words.tsv").write_text("grain\twheat\nlonely\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"words.tsv, line 2: 'lonely' stands alone"):
        run(tmp_path / "mine", GOOD, preparation={"augmentation": {**chosen, "synonyms_file": "words.tsv"}})


def stage(project: Path) -> subprocess.CompletedProcess[str]:
    """`python -m tasks.prepare` in the project."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "tasks.prepare"],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one good run of the stage behind it; to be copied."""
    folder = tmp_path_factory.mktemp("template")
    raw = folder / "data" / "raw" / "mine"
    raw.mkdir(parents=True)
    (raw / "train.csv").write_text(GOOD, encoding="utf-8")
    (folder / "params.yaml").write_text("data: {name: mine}\n", encoding="utf-8")
    done = stage(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "project")
    return tmp_path / "project"


def snapshot(project: Path) -> dict[str, bytes]:
    folders = (project / "data" / "prepared", project / "reports")
    return {
        str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    }


def test_the_stage_exits_with_2_and_leaves_earlier_results_alone(project: Path) -> None:
    before = snapshot(project)
    assert len(before) == 7
    (project / "data/raw/mine/train.csv").write_text(csv_text(good_rows(50, "farm")), encoding="utf-8")
    done = stage(project)
    assert done.returncode == 2
    assert done.stderr.startswith("prepare: The training part has only one class ('farm')")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert snapshot(project) == before


def test_data_changed_without_dvc_knowing_stops_the_stage(project: Path) -> None:
    from catena.data.versions import folder_md5

    before = snapshot(project)
    raw = project / "data/raw/mine"
    md5 = folder_md5(raw)[0]
    record = f"outs:\n- md5: {md5}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: mine\n"
    (project / "data/raw/mine.dvc").write_text(record, encoding="utf-8")
    assert stage(project).returncode == 0
    (raw / "train.csv").write_text(GOOD + "another text,farm\n", encoding="utf-8")
    done = stage(project)
    assert done.returncode == 2
    assert "data/raw/mine changed without DVC knowing" in done.stderr
    assert (
        "`dvc add data/raw/mine` to record the change or `dvc checkout data/raw/mine.dvc` to undo"
        in done.stderr
    )
    kept = snapshot(project)
    report = str(project / "reports/data_quality.json")
    assert {name: kept[name] for name in kept if name != report} == {
        name: before[name] for name in before if name != report
    }


def test_a_full_disk_leaves_earlier_results_alone(project: Path, tmp_path: Path) -> None:
    """A file system of 64 KB in memory, mounted for the stage alone where the kernel allows that."""
    before = snapshot(project)
    rows = [f"{os.urandom(400).hex()} {number},{'farm' if number % 2 else 'bank'}" for number in range(2000)]
    (project / "data/raw/mine/train.csv").write_text(csv_text(rows), encoding="utf-8")
    target = project / "data"
    script = (
        f"mkdir -p {tmp_path}/old && cp -r {target}/. {tmp_path}/old && "
        f"mount -t tmpfs -o size=256k tmpfs {target} && mkdir -p {target}/raw && cp -r {tmp_path}/old/prepared {target}/ && "
        f"mount --bind {tmp_path}/old/raw {target}/raw && {sys.executable} -m tasks.prepare; code=$?; "
        f"rm -rf {tmp_path}/after && cp -r {target}/prepared {tmp_path}/after; ls -A {target} > {tmp_path}/left; exit $code"
    )
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
            cwd=project, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("`unshare` is not installed")
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 2, done.stderr
    assert "The disk is full while writing" in done.stderr
    assert "Traceback" not in done.stderr
    for path in (tmp_path / "after").iterdir():
        assert path.read_bytes() == before[str(project / "data/prepared" / path.name)]
    assert (tmp_path / "left").read_text().split() == ["prepared", "raw"]

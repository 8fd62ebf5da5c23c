"""Records without labels, and labels filled in later: what the prepare stage makes of their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catena.errors import CatenaError, DataError, SettingsError
from catena.layout import Layout
from catena.settings import parse_settings
from tasks.prepare import prepare

_WORDS = ("ship", "bank", "farm", "port", "mill", "mine", "road", "barn", "dock", "silo", "crew")


def sentence(number: int) -> str:
    """A text that is near to none with another number."""
    a, b, c = (_WORDS[number // step % len(_WORDS)] for step in (1, 11, 121))
    return f"{a} {number * 7919} {b} {number * 104729} {c} of {number}"


def labelled(start: int, count: int) -> list[dict[str, str]]:
    return [{"text": sentence(n), "label": ("sea", "land")[n % 2]} for n in range(start, start + count)]


class Project:
    def __init__(self, root: Path, **data: Any) -> None:
        self.layout = Layout(root)
        self.raw = self.layout.raw("mine")
        self.raw.mkdir(parents=True)
        self.data = {"name": "mine", "validation": "validation.csv", "test": "test.csv", **data}
        self.problem: dict[str, Any] = {}
        self.write("train.csv", labelled(0, 40))
        self.write("validation.csv", labelled(40, 20))
        self.write("test.csv", labelled(60, 20))

    def write(self, name: str, rows: list[dict[str, str]]) -> None:
        pd.DataFrame(rows).to_csv(self.raw / name, index=False)

    def prepare(self, **preparation: Any) -> dict[str, pd.DataFrame]:
        values = {"data": self.data, "preparation": preparation, "problem": self.problem}
        self.summary = prepare(parse_settings(values), self.layout)
        return {path.stem: pd.read_parquet(path) for path in self.layout.prepared.glob("*.parquet")}

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.layout.data_quality.read_text(encoding="utf-8"))
        return report


def test_nothing_that_the_parts_hold_is_left_among_the_unlabelled_records(tmp_path: Path) -> None:
    project = Project(tmp_path, unlabelled="more.csv")
    nearly = [{"text": sentence(65) + "."}, {"text": sentence(45).upper()}]
    same = [{"text": sentence(n)} for n in (3, 41, 61)]
    new = [{"text": sentence(n)} for n in range(100, 110)]
    project.write("more.csv", [*nearly, *same, *new, new[0], {"text": ""}])
    parts = project.prepare()
    assert parts["unlabelled"]["text"].tolist() == [row["text"] for row in new]
    assert parts["unlabelled"]["given"].tolist() == [""] * 10
    assert parts["unlabelled"]["id"].is_unique
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [40, 20, 20]
    rejected = parts["rejected"].set_index("row")["kind"].to_dict()
    assert rejected == {
        1: "near duplicate of the test part",
        2: "near duplicate of the validation part",
        3: "in the train part",
        4: "in the validation part",
        5: "in the test part",
        16: "duplicate",
        17: "empty text",
    }
    found = project.report["unlabelled"]
    assert (found["records"], found["near_duplicates"], found["with_label"]) == (10, 2, 0)
    assert [file["part"] for file in project.report["files"]] == ["train", "validation", "test", "unlabelled"]


def test_labels_of_the_unlabelled_file_are_compared_with_and_said_to_be(tmp_path: Path) -> None:
    project = Project(tmp_path, unlabelled="more.csv", labels={"0": "land", "1": "sea"})
    for name in ("train", "validation", "test"):
        table = pd.read_csv(project.raw / f"{name}.csv")
        table["label"] = table["label"].map({"land": "0", "sea": "1"})
        table.to_csv(project.raw / f"{name}.csv", index=False)
    project.write(
        "more.csv",
        [
            {"text": sentence(100), "label": "1"},
            {"text": sentence(101), "label": ""},
            {"text": sentence(102), "label": "7"},
        ],
    )
    parts = project.prepare()
    # What the model could not say is as good as nothing.
    assert parts["unlabelled"]["given"].tolist() == ["sea", "", ""]
    (warning,) = [text for text in project.report["warnings"] if "more.csv" in text]
    assert "has labels in 2 of 3 rows; they are not learned from" in warning


def test_sets_of_classes_are_compared_in_their_canonical_form(tmp_path: Path) -> None:
    project = Project(tmp_path, unlabelled="more.csv", columns={"text": "text", "labels": "label"})
    project.problem = {"name": "multilabel"}
    project.write(
        "more.csv",
        [
            {"text": sentence(100), "label": "sea|land"},
            {"text": sentence(101), "label": "sea|moon"},
            {"text": sentence(102), "label": "[]"},
        ],
    )
    assert project.prepare()["unlabelled"]["given"].tolist() == ['["land", "sea"]', "", "[]"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "more.csv"),
        (b"text\n", "has no records"),
        (b"body\nsome words\n", "has no column 'text'"),
        ("text\nein schöner Tag\n".encode("latin-1"), "more.csv"),
        (f"text\n{sentence(3)}\n".encode(), "no record is left to learn from without a label"),
        (f"text\n{sentence(100)}\n\n".encode() + b'" "\n' * 5, "cannot be used, over the limit"),
    ],
    ids=["empty", "header alone", "no column", "another encoding", "all known", "mostly unusable"],
)
def test_an_unlabelled_file_that_cannot_be_used_stops_the_run_with_a_sentence(
    tmp_path: Path, content: bytes, words: str
) -> None:
    project = Project(tmp_path, unlabelled="more.csv")
    (project.raw / "more.csv").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        project.prepare()
    assert "more.csv" in str(caught.value)
    assert not project.layout.prepared.exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"unlabelled": "none.csv"}, "none.csv"),
        ({"unlabelled": "test.csv"}, "`data.test` and `data.unlabelled` both name test.csv"),
        ({"unlabelled": "../more.csv"}, "lies outside data/raw/mine"),
        ({"labelled": ["a.csv", "a.csv"]}, "`data.labelled` names a.csv twice"),
        ({"labelled": ["train.csv"]}, "`data.train` and `data.labelled` both name train.csv"),
    ],
)
def test_names_of_files_that_cannot_be_are_refused(tmp_path: Path, data: dict[str, Any], words: str) -> None:
    with pytest.raises(CatenaError, match=words):
        Project(tmp_path, **data).prepare()


def test_problems_that_cannot_learn_from_unlabelled_records_say_so(tmp_path: Path) -> None:
    project = Project(tmp_path, unlabelled="more.csv", columns={"text": "text", "target": "label"})
    project.problem = {"name": "regression"}
    for name in ("train", "validation", "test"):
        table = pd.read_csv(project.raw / f"{name}.csv")
        table["label"] = range(len(table))
        table.to_csv(project.raw / f"{name}.csv", index=False)
    project.write("more.csv", [{"text": sentence(100)}])
    with pytest.raises(SettingsError, match=r"`data\.unlabelled` is not there for the problem regression"):
        project.prepare()


def test_labels_filled_in_later_join_the_training_part_alone(tmp_path: Path) -> None:
    project = Project(
        tmp_path, labelled=["next.csv", "next.jsonl"], validation=None, test=None, keep=["region"]
    )
    table = pd.DataFrame(labelled(0, 100)).assign(region="north")
    table.to_csv(project.raw / "train.csv", index=False)
    project.write(
        "next.csv",
        [
            *({**row, "row": "1", "score": "0.5", "reason": "says sea"} for row in labelled(200, 30)),
            {"text": sentence(300), "label": ""},
            {"text": sentence(0), "label": "sea"},
        ],
    )
    lines = [
        json.dumps({"text": sentence(400), "label": "land"}),
        json.dumps({"text": sentence(401), "label": None}),
    ]
    (project.raw / "next.jsonl").write_text("\n".join(lines), encoding="utf-8")
    parts = project.prepare()
    later = {sentence(n) for n in (*range(200, 230), 400)}
    assert later <= set(parts["train"]["text"])
    assert not later & (set(parts["validation"]["text"]) | set(parts["test"]["text"]))
    assert len(parts["test"]) > 5
    assert set(parts["train"].loc[parts["train"]["source"] == "next.csv", "region"]) == {""}
    assert parts["rejected"]["kind"].tolist() == ["duplicate"]  # the record that was labelled twice
    passed = {file["name"]: file.get("passed_over") for file in project.report["files"]}
    assert passed == {"train.csv": None, "next.csv": 1, "next.jsonl": 1}
    assert project.summary["passed over"] == "2 rows whose label is still empty"


def test_a_later_label_may_be_a_readable_name_and_must_not_contradict(tmp_path: Path) -> None:
    project = Project(tmp_path, labelled=["next.csv"], labels={"sea": "water", "land": "ground"})
    rows = [{"text": sentence(200), "label": "water"}, {"text": sentence(201), "label": "land"}]
    project.write("next.csv", [*rows, {"text": sentence(2), "label": "ground"}])
    parts = project.prepare(max_rejected_fraction=0.5)
    own = parts["train"][parts["train"]["source"] == "next.csv"]
    assert own["label"].tolist() == ["water", "ground"]
    assert sorted(zip(parts["rejected"]["source"], parts["rejected"]["kind"], strict=True)) == [
        ("next.csv", "contradiction"),
        ("train.csv", "contradiction"),
    ]


def test_a_file_in_which_no_label_is_filled_in_stops_the_run(tmp_path: Path) -> None:
    project = Project(tmp_path, labelled=["next.csv"])
    project.write("next.csv", [{"text": sentence(200), "label": ""}])
    with pytest.raises(DataError, match=r"next.csv: all 1 labels are still empty"):
        project.prepare()

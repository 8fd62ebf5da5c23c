"""A log of who liked what becomes lists to rank: split by time, the same again, and refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from catena.cli import app
from catena.data.histories import Event, HistoryPlan, Item, as_records, read_items, read_log
from catena.data.preparation import prepare
from catena.errors import DataError
from catena.problems import get_problem
from catena.settings import parse_settings

NAMES = {"user": "user", "item": "item", "time": "time"}
ITEMS = {str(number): Item(f"film {number}", f"film {number}: drama") for number in range(20)}


def log(liked: int = 6, users: int = 3) -> dict[str, list[Event]]:
    """Each user liked items `user`, `user + 1` … in this order, and thought little of the last."""
    return {
        str(user): [Event(float(at), str(user + at), 5.0) for at in range(liked)] + [Event(99.0, "19", 1.0)]
        for user in range(users)
    }


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def asked(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["histories", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_the_last_item_liked_is_the_tests_and_the_one_before_it_the_validations() -> None:
    parts = as_records(log(), ITEMS, HistoryPlan(length=2, negatives=3))
    liked = {part: records[records["relevance"] == 1] for part, records in parts.items()}
    first = {part: records[records["item"].isin([f"film {n}: drama" for n in range(6)])].iloc[0]
             for part, records in liked.items()}  # fmt: skip
    assert (first["test"]["query"], first["test"]["item"]) == ("liked: film 4; film 3", "film 5: drama")
    assert (first["validation"]["query"], first["validation"]["item"]) == (
        "liked: film 3; film 2",
        "film 4: drama",
    )
    assert (first["train"]["query"], first["train"]["item"]) == ("liked: film 0", "film 1: drama")
    assert {part: len(records) for part, records in liked.items()} == {
        "train": 9,
        "validation": 3,
        "test": 3,
    }
    assert {part: len(records) for part, records in parts.items()} == {
        "train": 18,
        "validation": 12,
        "test": 12,
    }


def test_what_a_user_had_is_never_among_the_others_and_the_draw_is_that_of_the_seed() -> None:
    plan = HistoryPlan(negatives=5)
    parts = as_records(log(), ITEMS, plan)
    others = parts["test"][parts["test"]["relevance"] == 0]
    for user in range(3):
        query = parts["test"]["query"].unique()[user]
        had = {f"film {user + at}: drama" for at in range(6)} | {"film 19: drama"}
        assert not had & set(others[others["query"] == query]["item"])
    again = as_records(dict(reversed(log().items())), ITEMS, plan)
    assert all(parts[part].equals(again[part]) for part in parts)
    other = as_records(log(), ITEMS, HistoryPlan(negatives=5, seed=1))
    assert not parts["test"].equals(other["test"])


def test_only_the_latest_pairs_and_some_lists_are_kept() -> None:
    parts = as_records(log(liked=12), ITEMS, HistoryPlan(latest=2, negatives=1, validation_lists=1))
    assert len(parts["train"]) == 3 * 2 * 2
    assert parts["validation"]["query"].nunique() == 1
    assert parts["test"]["query"].nunique() == 3


def test_a_log_is_read_in_order_of_time_and_the_last_time_counts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "log.csv",
        "who,what,when\nann,b,2026-03-02T10:00\nann,a,2026-03-01\nann,b,2026-03-04T10:00+00:00\n"
        "ann,c,2026-03-04T10:30+01:00\n",
    )
    events = read_log(file, {"user": "who", "item": "what", "time": "when"})
    assert [event.item for event in events["ann"]] == ["a", "c", "b"]
    assert all(event.rating == float("inf") for event in events["ann"])


def test_the_command_writes_parts_that_can_be_prepared(tmp_path: Path) -> None:
    rows = [
        f"{user},{item},{item},{5 if item < 8 else 2}" for user in range(12) for item in range(user % 3, 9)
    ]
    file = write(tmp_path / "log.csv", "\n".join(["user,item,time,stars", *rows]) + "\n")
    films = [f"{number},Film {number},a story about {number}" for number in range(60)]
    items = write(tmp_path / "films.csv", "\n".join(["item,name,plot", *films]) + "\n")
    words = ("--log", file, "--items", items, "--rating", "stars", "--title", "name", "--text", "plot")
    code, out, err = asked(*words, "--output", tmp_path / "shop", "--negatives", "4")
    assert code == 0, err
    assert out.splitlines()[2].startswith("test: 60 pairs, ")
    settings = parse_settings(
        {
            "data": {
                "name": "shop", "format": "csv", "train": "train.csv", "validation": "validation.csv",
                "test": "test.csv", "columns": {name: name for name in ("query", "item", "relevance")},
            },
            "preparation": {"near_duplicates": "off"},
            "problem": {"name": "ranking"},
        }
    )  # fmt: skip
    prepared = prepare(settings, get_problem(settings.problem), tmp_path / "shop")
    assert all(len(part) for part in prepared.parts.values())
    table = pd.read_csv(tmp_path / "shop" / "test.csv")
    assert table["query"].str.startswith("liked: Film 6; Film 5").all()
    # once more over its own folder, but over nothing else
    assert asked(*words, "--output", tmp_path / "shop", "--negatives", "4")[0] == 0
    (tmp_path / "shop" / "notes.txt").write_text("mine")
    code, _, err = asked(*words, "--output", tmp_path / "shop")
    assert code == 2 and "'notes.txt', which would be deleted" in err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ann,a,soon,5", r"row 2 has 'soon' where a time was expected: a number, or ISO 8601"),
        ("ann,a,nan,5", r"row 2 has 'nan' where a time"),
        ("ann,a,7,good", r"row 2 has 'good' where a rating was expected, a number"),
        ("ann,,7,5", r"row 2 has no `item`"),
        (",a,7,5", r"row 2 has no `user`"),
    ],
)
def test_a_row_of_the_log_that_cannot_be_read_is_named(tmp_path: Path, row: str, message: str) -> None:
    file = write(tmp_path / "log.csv", f"user,item,time,rating\nbob,x,1,5\n{row}\n")
    with pytest.raises(DataError, match=rf"log\.csv: {message}"):
        read_log(file, {**NAMES, "rating": "rating"})


def test_logs_and_items_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"user '0' had the item '0', which no row describes"):
        as_records(log(), {"19": ITEMS["19"]}, HistoryPlan())
    with pytest.raises(DataError, match=r"user '0' knows all but 13, fewer than the 49 .*--negatives"):
        as_records(log(), ITEMS, HistoryPlan())
    with pytest.raises(DataError, match="Nobody liked four items or more"):
        as_records(log(liked=3), ITEMS, HistoryPlan(negatives=1))
    file = write(tmp_path / "films.csv", "item,text\n1,one\n1,two\n")
    with pytest.raises(DataError, match=r"films\.csv: row 2 is a second one for the item '1'"):
        read_items(file, {"item": "item", "title": "text", "text": "text"})
    code, _, err = asked("--log", tmp_path / "none.csv", "--output", tmp_path / "out")
    assert code == 2 and "none.csv" in err
    code, _, err = asked("--log", file, "--output", tmp_path / "out")
    assert code == 2 and "films.csv has no column 'user'" in err

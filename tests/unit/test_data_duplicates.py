"""Repeats, contradictions and near duplicates: found, settled as chosen, and never on both sides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catena.data.near_duplicates import Side, band_count, find_near_duplicates, jaccard
from catena.data.preparation import Prepared, prepare
from catena.problems import get_problem
from catena.settings import parse_settings

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "su", "te", "no", "ri") for b in ("ban", "dor", "fel", "gut", "hem")
]


def sentence(rng: random.Random, words: int = 25) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def distinct(count: int, seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    return [(sentence(rng), "even" if number % 2 else "odd") for number in range(count)]


def run(folder: Path, files: dict[str, list[tuple[str, str]]], **preparation: object) -> Prepared:
    folder.mkdir(exist_ok=True)
    for part, rows in files.items():
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / f"{part}.csv", index=False)
    names = {part: f"{part}.csv" for part in files}
    values = {"data": {"name": "x", **names}, "preparation": {"max_rejected_fraction": 1.0, **preparation}}
    return prepare(parse_settings(values), get_problem("classification"), folder)


CLASH = [
    ("same words", "odd"),
    ("same words", "even"),
    ("same words", "even"),
    ("a tie", "odd"),
    ("a tie", "even"),
]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("drop", []),
        ("majority", [("same words", "even")]),
        ("first", [("a tie", "odd"), ("same words", "odd")]),
        ("keep", [("a tie", "even"), ("a tie", "odd"), ("same words", "even"), ("same words", "odd")]),
    ],
)
def test_contradictions_are_settled_as_chosen(
    tmp_path: Path, policy: str, kept: list[tuple[str, str]]
) -> None:
    prepared = run(tmp_path / "x", {"train": distinct(60) + CLASH}, contradictions=policy)
    every = pd.concat(prepared.parts.values())
    left = every[every["text"].isin(["same words", "a tie"])]
    assert sorted(zip(left["text"], left["label"], strict=True)) == kept
    found = prepared.report["contradictions"]["files"]["train.csv"]
    assert (found["texts"], found["records"]) == (2, 5)
    if policy == "drop":
        reasons = dict(zip(prepared.rejected["row"], prepared.rejected["reason"], strict=True))
        assert reasons[61] == "contradicts train.csv row 62"
        assert reasons[62] == reasons[63] == "contradicts train.csv row 61"


@pytest.mark.parametrize(("policy", "count"), [("drop", 60), ("keep", 63)])
def test_repeats_are_settled_as_chosen(tmp_path: Path, policy: str, count: int) -> None:
    rows = distinct(60)
    repeats = [rows[0], rows[5], (f"  {rows[5][0]}", rows[5][1])]  # the last is the same once cleaned
    prepared = run(tmp_path / "x", {"train": rows + repeats}, duplicates=policy)
    every = pd.concat(prepared.parts.values())
    assert len(every) == count
    assert every["id"].is_unique
    assert prepared.report["duplicates"]["files"]["train.csv"]["found"] == 3
    if policy == "drop":
        assert prepared.rejected["reason"].tolist() == [
            "duplicate of train.csv row 1", "duplicate of train.csv row 6", "duplicate of train.csv row 6",
        ]  # fmt: skip


def test_a_text_in_two_files_stays_in_the_test_whatever_is_chosen(tmp_path: Path) -> None:
    train, validation, test = distinct(60, 1), distinct(20, 2), distinct(20, 3)
    train += [test[0], (test[1][0], "even" if test[1][1] == "odd" else "odd"), validation[0]]
    validation.append(test[2])
    prepared = run(
        tmp_path / "x", {"train": train, "validation": validation, "test": test},
        duplicates="keep", contradictions="keep", near_duplicates="off",
    )  # fmt: skip
    table = prepared.rejected[["source", "row", "reason"]].to_dict("split")["data"]
    assert table == [
        ["train.csv", 61, "duplicate of test.csv row 1 (test part)"],
        ["train.csv", 62, "contradicts test.csv row 2 (test part)"],
        ["train.csv", 63, "duplicate of validation.csv row 1 (validation part)"],
        ["validation.csv", 21, "duplicate of test.csv row 3 (test part)"],
    ]
    assert len(prepared.parts["test"]) == 20


def test_a_given_test_file_keeps_its_repeats_unless_asked(tmp_path: Path) -> None:
    test = distinct(20, 3)
    files = {"train": distinct(60, 1), "test": [*test, test[0]]}
    assert len(run(tmp_path / "x", files).parts["test"]) == 21
    assert len(run(tmp_path / "x", files, deduplicate_given_parts=True).parts["test"]) == 20


def alter(text: str, words: int) -> str:
    """The text with its last words written otherwise."""
    parts = text.split()
    return " ".join(parts[: len(parts) - words] + ["otherwise"] * words)


def test_near_duplicates_give_way_to_the_test_and_to_validation(tmp_path: Path) -> None:
    train, validation, test = distinct(60, 1), distinct(20, 2), distinct(20, 3)
    train += [(alter(test[0][0], 1).upper(), "odd"), (alter(validation[1][0], 1), "odd")]
    validation.append((alter(test[2][0], 1), "odd"))
    files = {"train": train, "validation": validation, "test": test}
    prepared = run(tmp_path / "x", files)
    rejected = dict(zip(prepared.rejected["row"], prepared.rejected["reason"], strict=True))
    assert list(rejected) == [61, 62, 21]
    similarity = jaccard(train[60][0], test[0][0])
    assert rejected[61] == f"near duplicate ({similarity:.2f}) of test.csv row 1 (test part)"
    assert "of validation.csv row 2 (validation part)" in rejected[62]
    assert "of test.csv row 3 (test part)" in rejected[21]
    report = prepared.report["near_duplicates"]
    assert report["pairs"] == 3
    assert report["between"] == {"validation → test": 1, "train → test": 1, "train → validation": 1}
    kept = run(tmp_path / "x", files, near_duplicates="keep")
    assert (len(kept.rejected), kept.report["near_duplicates"]["pairs"]) == (0, 3)
    off = run(tmp_path / "x", files, near_duplicates="off")
    assert (len(off.rejected), off.report["near_duplicates"]["pairs"]) == (0, 0)


def ngrams(text: str) -> set[str]:
    return {text[at : at + 5] for at in range(len(text) - 4)}


@pytest.mark.parametrize("threshold", [0.6, 0.85, 0.95])
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(threshold: float) -> None:
    rng = random.Random(5)
    higher = [sentence(rng) for _ in range(150)]
    lower = [alter(rng.choice(higher), rng.randrange(0, 9)) for _ in range(200)] + [
        sentence(rng) for _ in range(50)
    ]
    ours, theirs = [ngrams(text) for text in lower], [ngrams(text) for text in higher]
    exact = {
        at
        for at, mine in enumerate(ours)
        if any(len(mine & other) / len(mine | other) >= threshold for other in theirs)
    }
    every = np.ones(len(lower), dtype=bool), np.ones(len(higher), dtype=bool)
    found = find_near_duplicates(Side(lower), Side(higher), threshold, *every)
    assert set(found.lower) <= exact
    assert len(found.lower) >= 0.97 * len(exact) > 0
    for ours, theirs, similarity in zip(found.lower, found.higher, found.similarity, strict=True):
        assert similarity == jaccard(lower[ours], higher[theirs]) >= threshold


def test_many_variants_of_one_template_take_no_quadratic_time() -> None:
    text = " ".join(WORDS)
    lower, higher = (
        [f"{text} number {n}" for n in range(3000)],
        [f"{text} number {n}" for n in range(3000, 6000)],
    )
    every = np.ones(3000, dtype=bool)
    found = find_near_duplicates(Side(lower), Side(higher), 0.85, every, every)
    assert len(found.lower) == 3000  # 9 million pairs, of which some thousands were compared


def test_texts_that_do_not_count_are_no_partners() -> None:
    texts = [" ".join(WORDS)]
    none, one = np.zeros(1, dtype=bool), np.ones(1, dtype=bool)
    assert len(find_near_duplicates(Side(texts), Side(texts), 0.85, one, none).lower) == 0
    assert len(find_near_duplicates(Side(texts), Side(texts), 0.85, none, one).lower) == 0
    assert len(find_near_duplicates(Side(texts), Side([]), 0.85, one, np.zeros(0, dtype=bool)).lower) == 0


def test_jaccard_by_hand() -> None:
    assert jaccard("abcdef", "ABCDEG") == pytest.approx(1 / 3)  # {abcde, bcdef}, {abcde, bcdeg}
    assert jaccard("ok", "ok") == 1.0
    assert jaccard("ok", "no") == 0.0
    assert jaccard("漢字仮名交", "漢字仮名交じ") == pytest.approx(11 / 14)  # each character three times over


def test_the_bands_find_pairs_at_the_threshold_with_99_percent() -> None:
    for threshold in (0.5, 0.7, 0.85, 0.95, 1.0):
        bands = band_count(threshold)
        assert 1 - (1 - threshold ** (128 // bands)) ** bands >= 0.99


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "aa bb", "x y z"]), min_size=30, max_size=60), st.integers(0, 3)
)
def test_no_text_is_ever_in_two_parts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("property")
    base = distinct(80, seed)
    rows = base + [(text, "odd") for text in texts]
    prepared = run(folder / "x", {"train": rows, "test": base[:5] + distinct(20, 9)}, duplicates="keep")
    parts = [set(part["text"]) for part in prepared.parts.values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sum(map(len, prepared.parts.values())) + len(prepared.rejected) == len(rows) + 25

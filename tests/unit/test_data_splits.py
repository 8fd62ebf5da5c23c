"""Splits by content: stable, separate, about the right size, and honest about small classes."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from catena.data.splits import assign_parts, check_classes, content_fractions
from catena.errors import DataError

TEXTS = [f"text number {number}" for number in range(20_000)]


def test_adding_removing_and_reordering_data_moves_no_record() -> None:
    before = dict(zip(TEXTS[:5000], assign_parts(TEXTS[:5000], 0, 0.2, 0.1), strict=True))
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    after = dict(zip(shuffled, assign_parts(shuffled, 0, 0.2, 0.1), strict=True))
    assert all(after[text] == part for text, part in before.items())


def test_a_larger_test_part_takes_from_the_others_and_gives_nothing_back() -> None:
    small, large = assign_parts(TEXTS, 0, 0.1, 0.1), assign_parts(TEXTS, 0, 0.3, 0.1)
    assert (large[small == "test"] == "test").all()
    stayed = large != "test"
    assert (large[stayed] == small[stayed]).all()


def test_a_test_file_that_comes_later_leaves_the_validation_part_as_it_was() -> None:
    with_split, without = assign_parts(TEXTS, 0, 0.2, 0.1), assign_parts(TEXTS, 0, None, 0.1)
    stayed = with_split != "test"
    assert (with_split[stayed] == without[stayed]).all()


def test_the_parts_have_the_sizes_asked_for_within_four_standard_deviations() -> None:
    parts = assign_parts(TEXTS, 3, 0.2, 0.1)
    for part, share in (("test", 0.2), ("validation", 0.8 * 0.1)):
        deviation = np.sqrt(len(TEXTS) * share * (1 - share))
        assert abs((parts == part).sum() - share * len(TEXTS)) < 4 * deviation


def test_fractions_are_uniform_and_another_seed_or_purpose_gives_others() -> None:
    one = content_fractions(TEXTS, 0, "test")
    assert ((one >= 0) & (one < 1)).all()
    histogram, _ = np.histogram(one, bins=20, range=(0, 1))
    expected = len(TEXTS) / 20
    assert (
        (histogram - expected) ** 2 / expected
    ).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    for other in (content_fractions(TEXTS, 1, "test"), content_fractions(TEXTS, 0, "validation")):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_the_split_of_known_texts_never_changes_between_versions() -> None:
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    parts = dict(zip(words.split(), assign_parts(words.split(), 0, 0.4, 0.4), strict=True))
    assert [word for word, part in parts.items() if part == "test"] == [
        "gamma",
        "delta",
        "zeta",
        "eta",
        "theta",
    ]
    assert [word for word, part in parts.items() if part == "validation"] == ["kappa"]


def frame(counts: dict[str, int]) -> tuple[pd.Series, pd.Series]:
    texts = [f"{name} {number}" for name, count in counts.items() for number in range(count)]
    labels = [name for name, count in counts.items() for _ in range(count)]
    return pd.Series(texts, dtype="str"), pd.Series(labels, dtype="str")


def test_a_class_that_misses_a_part_is_named_with_a_split_seed_that_works() -> None:
    texts, labels = frame({"common": 200, "rare": 8})
    fractions = {"test": 0.1, "validation": 0.1}
    for seed in range(50):
        parts = pd.Series(assign_parts(texts, seed, 0.1, 0.1), dtype="str")
        rare = set(parts[labels == "rare"])
        if rare != {"train", "validation", "test"}:
            break
    with pytest.raises(DataError, match=r"Class 'rare' \(8 records\) is too small for its share") as caught:
        check_classes(labels, parts, ["test", "validation"], 3, texts, seed, fractions)
    with pytest.raises(DataError, match="none of it: add records, merge"):  # where no seed has a say
        check_classes(labels, parts, ["test", "validation"], 3, texts, None, fractions)
    better = int(str(caught.value).split("split_seed: ")[1].split("`")[0])
    parts = pd.Series(assign_parts(texts, better, 0.1, 0.1), dtype="str")
    assert check_classes(labels, parts, ["test", "validation"], 3, texts, better, fractions) == []


def test_a_class_that_no_split_can_serve_asks_for_records() -> None:
    texts, labels = frame({"common": 200, "pair": 2})
    parts = pd.Series(["train"] * len(texts), dtype="str")
    parts[:40] = "test"
    with pytest.raises(DataError, match="add records, merge classes"):
        check_classes(labels, parts, ["test"], 2, texts, 0, {"test": 0.2})


def test_a_given_part_without_a_class_is_a_warning() -> None:
    texts, labels = frame({"a": 20, "b": 20})
    parts = pd.Series(["train"] * 38 + ["test"] * 2, dtype="str")
    assert check_classes(labels, parts, [], 3, texts, 0, {}) == [
        "the validation file has no records of 'a', 'b'",
        "the test file has no records of 'a'",
    ]


def test_too_few_training_records_name_the_class_and_the_number() -> None:
    texts, labels = frame({"a": 20, "b": 2})
    with pytest.raises(DataError, match=r"class 'b' \(2\): 3 are needed"):
        check_classes(labels, pd.Series(["train"] * 22, dtype="str"), [], 3, texts, 0, {})

"""Augmentation: seeded, in the training part only, and doing what its report says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from catena.data.augmentation import Augmenter
from catena.data.preparation import Prepared, prepare
from catena.problems import get_problem
from catena.settings import AugmentationSettings, parse_settings

TEXTS = [
    "The old ship carries golden grain across the wide sea",
    "银行借钱给农民种粮食",
    "ไทยกินข้าว",
    "Ca fait mal à l'âme",
]


def augmenter(folder: Path = Path(), seed: int = 0, texts: list[str] = TEXTS, **rates: object) -> Augmenter:
    return Augmenter(AugmentationSettings(copies=1, **rates), folder, seed, texts)


def alter(one: Augmenter, text: str, name: str = "r") -> tuple[str, Counter[str]]:
    changes: Counter[str] = Counter()
    return one.alter(text, name, changes), changes


def test_the_same_seed_and_record_give_the_same_copy_and_others_another() -> None:
    text = TEXTS[0]
    one = alter(augmenter(character_noise=0.3), text)[0]
    assert alter(augmenter(character_noise=0.3), text)[0] == one
    assert alter(augmenter(character_noise=0.3, seed=1), text)[0] != one
    assert alter(augmenter(character_noise=0.3), text, "another record")[0] != one


def test_word_dropout_leaves_words_out_and_keeps_at_least_one() -> None:
    text = TEXTS[0]
    shorter, changes = alter(augmenter(word_dropout=0.4), text)
    assert len(shorter.split()) == len(text.split()) - changes["word_dropout"] < len(text.split())
    assert set(shorter.split()) < set(text.split())
    last, changes = alter(augmenter(word_dropout=1.0), text)
    assert (last, changes["word_dropout"]) == ("sea", 9)


def test_word_dropout_needs_no_spaces_between_words() -> None:
    shorter, changes = alter(augmenter(word_dropout=0.5), TEXTS[1])
    assert 0 < len(shorter) == len(TEXTS[1]) - changes["word_dropout"] < len(TEXTS[1])


def test_character_noise_hits_about_the_share_asked_for_in_any_script() -> None:
    for text in (TEXTS[0] * 50, TEXTS[1] * 100):
        noisy, changes = alter(augmenter(character_noise=0.1), text)
        letters = sum(map(str.isalnum, text))
        assert 0.07 * letters < changes["character_noise"] < 0.13 * letters
        assert noisy != text
        assert abs(len(noisy) - len(text)) < 0.05 * len(text)


def test_character_noise_keeps_combining_marks_on_their_letters() -> None:
    noisy = alter(augmenter(character_noise=1.0), "a\u0301b\u0301c\u0301d\u0301" * 5)[0]
    assert noisy
    assert not noisy.startswith("\u0301")
    assert "\u0301\u0301" not in noisy


def test_swapped_words_come_from_the_training_texts_by_their_frequency() -> None:
    texts = ["common " * 90 + "rare " * 10]
    swapped, changes = alter(augmenter(texts=texts, backoff_swap=1.0), "one two three four " * 100)
    counts = Counter(swapped.split())
    assert set(counts) == {"common", "rare"}
    assert changes["backoff_swap"] == 400
    assert 330 < counts["common"] < 390  # 360 expected; four standard deviations are 24


def test_synonyms_keep_capitals_and_word_boundaries_and_need_no_spaces(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("ship\tvessel\ngrain\twheat\tcorn\n农民\t农夫\n", encoding="utf-8")
    one = augmenter(tmp_path, synonym=1.0, synonyms_file="words.tsv")
    assert alter(one, "Ship and shipment") == ("Vessel and shipment", Counter(synonym=1))
    assert alter(one, "the GRAIN!")[0] in ("the Wheat!", "the Corn!")
    assert alter(one, "银行借钱给农民种")[0] == "银行借钱给农夫种"


def run(folder: Path, **augmentation: object) -> Prepared:
    folder.mkdir()
    rows = [
        (f"{word} carries item {number} over the {word} sea", "odd" if number % 2 else "even")
        for number in range(40)
        for word in ("ship", "barge", "train")
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "train.csv", index=False)
    values = {
        "data": {"name": "x"},
        "preparation": {"near_duplicates": "off", "augmentation": augmentation},
    }
    return prepare(parse_settings(values), get_problem("classification"), folder)


def test_only_the_training_part_is_augmented_and_the_report_says_how(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    rich = run(tmp_path / "rich", copies=2, word_dropout=0.2, character_noise=0.05, classes=["odd"])
    for part in ("validation", "test"):
        pd.testing.assert_frame_equal(rich.parts[part], plain.parts[part])
        assert not rich.parts[part]["augmented"].any()
    train = rich.parts["train"]
    copies = train[train["augmented"]]
    pd.testing.assert_frame_equal(train[~train["augmented"]], plain.parts["train"])
    assert set(copies["label"]) == {"odd"}
    assert train["id"].is_unique
    assert set(copies["id"].str.slice(0, 16)) <= set(train["id"])
    everything = pd.concat(plain.parts.values())["text"]
    assert not copies["text"].isin(everything).any()
    report = rich.report["augmentation"]
    assert report["copies"] == len(copies) == rich.report["parts"]["train"]["augmented"]
    odd = int((plain.parts["train"]["label"] == "odd").sum())
    assert report["copies"] + report["unchanged_copies_left_out"] == 2 * odd
    assert report["changes"]["word_dropout"] > 0 < report["changes"]["character_noise"]
    assert report["changes"]["synonym"] == report["changes"]["backoff_swap"] == 0
    assert report["examples"][0]["before"] != report["examples"][0]["after"]
    assert plain.report["augmentation"] is None


@pytest.mark.parametrize("text", ["", " ", "!", "a"])
def test_tiny_texts_do_no_harm(text: str) -> None:
    one = augmenter(word_dropout=0.9, character_noise=0.9, backoff_swap=0.9)
    for name in range(20):
        alter(one, text, str(name))

"""Writing systems without spaces: what counts as a word, and nothing that assumes letters or spaces."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len

from catena.data.augmentation import Augmenter
from catena.data.inspect import inspect_file, write_params
from catena.data.near_duplicates import jaccard
from catena.data.scripts import joined, latin_share, shortened, unspaced_share, whole_word, width, word_counts
from catena.evaluation.perturbations import Perturbation
from catena.settings import AugmentationSettings, load_settings

TITLE = "央行宣布下调存款准备金率零点五个百分点"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("half past ten", 3),
        ("股市大涨", 4),
        ("股市 大涨 3.5%", 5),
        ("買iPhone了", 3),
        ("서울 주식 시장", 3),
        ("𠮷野家", 3),
        ("", 0),
    ],
)
def test_words_are_runs_between_spaces_or_characters_where_there_are_none(text: str, count: int) -> None:
    assert word_counts(pd.Series([text], dtype="str")).tolist() == [count]


def test_shares_of_letters_ignore_digits_and_punctuation() -> None:
    assert unspaced_share(["股市ab", "12，。!?"]) == 0.5
    assert latin_share(["股市ab", "ÄÖ"]) == pytest.approx(4 / 6)
    assert unspaced_share(["123"]) == 0.0


def test_a_whole_word_needs_boundaries_only_where_its_script_has_them() -> None:
    import re

    assert re.search(whole_word("银行"), "央行和银行股")
    assert not re.search(whole_word("bank"), "bankrupt")
    assert re.search(whole_word("iPhone"), "买iPhone了")


@pytest.mark.parametrize("text", [TITLE, "abc", "ａｂｃ", "サッカー", "mixed 中文 text"])
def test_width_is_that_of_the_terminal(text: str) -> None:
    assert width(text) == cell_len(text)


def test_a_shortened_text_fits_and_a_short_one_stays() -> None:
    assert shortened(TITLE, 11) == "央行宣布下…"
    assert shortened("abcdef", 6) == "abcdef"
    assert width(shortened(TITLE, 12)) <= 12


def test_one_changed_character_in_chinese_weighs_as_much_as_a_short_word_in_english() -> None:
    """19 characters, one changed in the middle: of 57 - 4 n-grams, 7 differ on either side."""
    other = TITLE.replace("存", "贷")
    assert jaccard(TITLE, other) == pytest.approx(46 / 60)
    assert jaccard(TITLE, TITLE) == 1.0
    assert jaccard(TITLE, "".join(reversed(TITLE))) < 0.1


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"append": "吧"}, "股市大涨", "股市大涨吧"),
        ({"prepend": ["快讯："]}, "股市大涨", "快讯： 股市大涨"),
        ({"append": "ok"}, "股市大涨", "股市大涨 ok"),
        ({"replace": {"银行": "基金"}}, "央行和银行股", "央行和基金股"),
    ],
)
def test_perturbations_change_chinese_without_spaces(change: object, before: str, after: str) -> None:
    assert Perturbation.model_validate(change).apply(before, random.Random(0)) == after


def test_a_dropped_word_is_a_character_in_chinese() -> None:
    after = Perturbation.model_validate("drop_word").apply(TITLE, random.Random(3))
    assert len(after) == len(TITLE) - 1
    assert Perturbation.model_validate("drop_word").apply("股市大涨", random.Random(3)) == "股市大涨"
    assert joined("大", "涨") == "大涨"


def test_augmentation_leaves_out_and_swaps_characters(tmp_path: Path) -> None:
    chosen = AugmentationSettings(copies=1, word_dropout=0.2, backoff_swap=0.2)
    changes: Counter[str] = Counter()
    altered = Augmenter(chosen, tmp_path, 1, [TITLE] * 3).alter(TITLE, "x", changes)
    assert " " not in altered
    assert len(TITLE) - len(altered) == changes["word_dropout"] > 0
    assert set(altered) <= set(TITLE)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_chinese_file_without_a_header_becomes_a_project_made_from_scratch(
    tmp_path: Path, encoding: str
) -> None:
    rng = random.Random(0)
    words = list("股市银行利率基金球队夺冠联赛进教练下调上涨")
    rows = [f"{''.join(rng.choices(words, k=rng.randint(12, 22)))}\t{rng.randrange(2)}" for _ in range(300)]
    (tmp_path / "titles.txt").write_bytes("\n".join(rows).encode(encoding))
    inspection = inspect_file(tmp_path / "titles.txt")
    assert inspection.data.column_names == ("text", "label")
    assert (inspection.text, inspection.label, inspection.records) == ("text", "label", 300)
    assert inspection.unspaced > 0.99
    assert inspection.words["max"] == inspection.characters["max"] == 22
    settings = load_settings(write_params(inspection, tmp_path / "project"))
    assert settings.backbone.source == "scratch"
    assert settings.tokenization.tokenizer == "characters"
    assert settings.tokenization.max_length == 32  # 22 characters and the two ends, in sixteens
    assert settings.evaluation.baselines == ("tfidf",)
    assert settings.data.encoding.replace("-", "").lower() in ("utf8", "gb18030", "gb2312", "gbk")

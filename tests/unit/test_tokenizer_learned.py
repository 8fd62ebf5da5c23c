"""Tokenizers learned from texts: always the same, no spaces needed, and what is unknown is told."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys

import pytest

from catena.errors import DataError, SettingsError
from catena.settings import TokenizationSettings
from catena.training.tokenizer import SPECIAL, learn_tokenizer
from tests.tiny_project import REPOSITORY, environment

TEXTS = [
    "股市今日大涨 银行股领先",
    "央行下调利率，基金上涨",
    "球队昨晚夺冠，球员庆祝",
    "足球联赛：主队客场取胜",
    "iPhone 销量大涨，股价创新高",
    "The bank raised its rate again",
    "ธนาคารกลางขึ้นดอกเบี้ย",
] * 3
KINDS = {"characters": 200, "wordpiece": 400, "bpe": 300}


def learned(kind: str, texts: list[str] = TEXTS, **values: object):  # type: ignore[no-untyped-def]
    settings = {"tokenizer": kind, "vocabulary_size": KINDS[kind], **values}
    return learn_tokenizer(texts, TokenizationSettings.model_validate(settings))


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_learns_the_same_file_whatever_the_order_of_the_texts(kind: str) -> None:
    """The library's hash tables are seeded anew in each process, so only other processes can tell."""
    script = (
        "import sys, json, hashlib\n"
        "from catena.settings import TokenizationSettings\n"
        "from catena.training.tokenizer import learn_tokenizer\n"
        "kind, size, texts = json.loads(sys.argv[1])\n"
        "made = learn_tokenizer(texts, TokenizationSettings(tokenizer=kind, vocabulary_size=size))\n"
        "print(hashlib.sha256(made.backend_tokenizer.to_str().encode()).hexdigest())\n"
    )
    found = {hashlib.sha256(learned(kind).backend_tokenizer.to_str().encode()).hexdigest()}
    for seed in range(2):
        texts = random.Random(seed).sample(TEXTS, len(TEXTS))
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps([kind, KINDS[kind], texts])],
            cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_bracketed_and_the_special_tokens_come_first(kind: str) -> None:
    tokenizer = learned(kind)
    assert tokenizer.convert_ids_to_tokens(range(5)) == SPECIAL
    ids = tokenizer("股市大涨")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.pad_token_id == 0
    assert len(tokenizer) <= KINDS[kind]


def test_characters_are_those_seen_often_enough_by_falling_frequency() -> None:
    tokenizer = learned("characters", ["涨涨涨", "涨跌", "跌", "平"], min_frequency=2)
    assert sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get) == [*SPECIAL, "涨", "跌"]
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("涨平鿫跌")["input_ids"])
    assert pieces == ["[CLS]", "涨", "[UNK]", "[UNK]", "跌", "[SEP]"]


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_a_known_text_comes_back_as_it_was(kind: str) -> None:
    tokenizer = learned(kind)
    for text in TEXTS[:7]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_wordpiece_takes_each_chinese_character_for_a_word_and_cuts_up_long_runs_without_spaces() -> None:
    tokenizer = learned("wordpiece")
    assert tokenizer.tokenize("今日大涨") == list("今日大涨")
    thai = "ธ" + "นาคารกลาง" * 30
    assert tokenizer.unk_token not in tokenizer.tokenize(thai)


def test_nothing_is_unknown_to_bytes() -> None:
    tokenizer = learned("bpe")
    text = "😀 鿫 ß"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_lower_case_is_the_tokenizers_business_only_when_asked(kind: str) -> None:
    texts = ["abc ABC", *TEXTS]
    assert learned(kind, texts)("ABC")["input_ids"] != learned(kind, texts)("abc")["input_ids"]
    lower = learned(kind, texts, lowercase=True)
    assert lower("ABC")["input_ids"] == lower("abc")["input_ids"]


def test_a_vocabulary_too_small_for_the_characters_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"`tokenization\.vocabulary_size` 30 is too small"):
        learned("wordpiece", vocabulary_size=30)


def test_without_texts_there_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="no texts to learn a tokenizer from"):
        learned("characters", ["", "  "])

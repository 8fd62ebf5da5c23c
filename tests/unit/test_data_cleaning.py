"""Cleaning: each step does what its setting says, and the same text always comes out the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.data.cleaning import Cleaner
from catena.settings import PreparationSettings


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "  a \t b\n\u00a0c  ", "a b c"),
        ({}, "e\u0301", "é"),
        ({"normalization": "NFKC"}, "ﬁne ① Ａ", "fine 1 A"),
        ({"normalization": "none"}, "e\u0301", "e\u0301"),
        ({"collapse_whitespace": False}, " a  b ", " a  b "),
        ({"unescape_html": True}, "I&#039;m &lt;b&gt;fine&amp;dandy&nbsp;", "I'm <b>fine&dandy"),
        ({"unescape_html": True}, "AT&T & co", "AT&T & co"),
        ({"strip_quotes": True}, '"""It works."""', "It works."),
        ({"strip_quotes": True}, '"one" and "two', '"one" and "two'),
        ({"strip_quotes": True}, '"', '"'),
        ({"lowercase": True}, "ÄÖ STRASSE", "äö strasse"),
        ({"unescape_html": True, "strip_quotes": True, "lowercase": True}, "&quot;YES&quot;", "yes"),
    ],
)
def test_each_option_does_what_it_says(options: dict[str, object], text: str, expected: str) -> None:
    assert Cleaner(**options).clean([text]) == [expected]


def test_the_settings_that_travel_with_a_model_make_an_equal_cleaner() -> None:
    cleaner = Cleaner.from_settings(
        PreparationSettings(unescape_html=True, normalization="NFKC", lowercase=True)
    )
    assert Cleaner(**cleaner.as_dict()) == cleaner


@given(st.text(), st.booleans(), st.booleans(), st.sampled_from(["none", "NFC", "NFKC"]))
def test_cleaning_twice_changes_nothing_more(text: str, quotes: bool, lower: bool, form: str) -> None:
    cleaner = Cleaner(normalization=form, strip_quotes=quotes, lowercase=lower)
    once = cleaner.clean([text])
    assert cleaner.clean(once) == once


@given(st.lists(st.text(), max_size=5))
def test_texts_do_not_touch_each_other(texts: list[str]) -> None:
    cleaner = Cleaner(unescape_html=True, strip_quotes=True)
    assert cleaner.clean(texts) == [cleaner.clean([text])[0] for text in texts]

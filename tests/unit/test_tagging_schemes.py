"""Tag schemes, spans, and what of them cannot be used."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB2, Entities

from catena.data.alignment import align
from catena.data.cleaning import Cleaner
from catena.problems.spans import (
    canonical,
    cuts_a_word,
    from_canonical,
    read_entities,
    word_tags,
    words_of,
)
from catena.problems.tag_schemes import read_tags, tag_names

LABELS = ["PER", "LOC"]


@st.composite
def sentences(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, str]]]:
    """A number of words and entities in them, in order and without overlap."""
    parts = draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(LABELS)), max_size=6)
    )
    entities, at = [], 0
    for gap, length, label in parts:
        entities.append((at + gap, at + gap + length, label))
        at += gap + length
    return at + draw(st.integers(0, 2)), entities


def written(words: int, entities: list[tuple[int, int, str]], scheme: str) -> list[str]:
    """The tags of a sentence, by the definition of each scheme."""
    tags = ["O"] * words
    for number, (start, end, label) in enumerate(entities):
        for at in range(start, end):
            tags[at] = f"I-{label}"
        before = entities[number - 1] if number else None
        touches = before is not None and before[1] == start and before[2] == label
        if scheme != "IOB1" or touches:
            tags[start] = f"B-{label}"
        if scheme == "BIOES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{label}"
    return tags


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES"])
@given(sentences())
def test_every_scheme_gives_back_the_entities_it_was_written_from(
    scheme: str, sentence: tuple[int, list[tuple[int, int, str]]]
) -> None:
    words, entities = sentence
    tags = written(words, entities, scheme)
    assert read_tags(tags, scheme) == entities
    assert read_tags(tags, "auto") == entities


@given(sentences())
def test_iob2_is_read_as_seqeval_reads_it(sentence: tuple[int, list[tuple[int, int, str]]]) -> None:
    words, entities = sentence
    if not words:
        return
    found = Entities([written(words, entities, "IOB2")], IOB2).entities[0]
    assert [(one.start, one.end, one.tag) for one in found] == read_tags(written(words, entities, "IOB2"))


def test_bilou_and_bmes_are_bioes_with_other_letters() -> None:
    expected = [(0, 3, "LOC"), (4, 5, "PER")]
    for tags in (
        ["B-LOC", "I-LOC", "L-LOC", "O", "U-PER"],
        ["B-LOC", "M-LOC", "E-LOC", "O", "S-PER"],
    ):
        assert read_tags(tags) == expected


@pytest.mark.parametrize(
    ("tags", "scheme", "said"),
    [
        (["PER", "O"], "auto", "unknown tag 'PER'"),
        (["X-PER"], "auto", "unknown tag 'X-PER'"),
        (["B_PER"], "auto", "unknown tag 'B_PER'"),
        ([""], "auto", "unknown tag ''"),
        (["B-"], "auto", "without a label"),
        (["O", "I-PER"], "IOB2", "begins an entity, which IOB2 marks with B"),
        (["B-PER"], "IOB1", "follows no entity of its label"),
        (["E-PER"], "IOB1", "none of IOB1"),
        (["B-PER", "O", "S-LOC"], "auto", "never ended with E"),
        (["O", "E-PER"], "BIOES", "no B began"),
        (["B-PER"], "BIOES", "never ended with E"),
    ],
)
def test_malformed_tags_are_named(tags: list[str], scheme: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_tags(tags, scheme)


def test_the_head_says_o_then_b_and_i_of_each_label() -> None:
    assert tag_names(["LOC", "PER"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@given(sentences())
def test_words_tags_and_spans_are_the_same_thing_said_twice(
    sentence: tuple[int, list[tuple[int, int, str]]],
) -> None:
    words, entities = sentence
    text = " ".join("w" * (1 + at % 3) for at in range(words))
    tags = written(words, entities, "IOB1")
    spans = read_entities(json.dumps(tags), text, "IOB1")
    assert not cuts_a_word(text, spans)
    assert word_tags(words_of(text), spans) == written(words, entities, "IOB2")
    assert from_canonical(canonical(spans)) == spans


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        ([{"start": 0, "end": 30, "label": "LOC"}], "outside its text"),
        ([{"start": -1, "end": 3, "label": "LOC"}], "outside its text"),
        ([{"start": 5, "end": 3, "label": "LOC"}], "outside its text"),
        ([[0, 5, "LOC"], [4, 8, "PER"]], "overlapping"),
        ([[0, 5, "LOC"], [0, 5, "LOC"]], "overlapping"),
        ([[0, 5, " "]], "without a label"),
        ([{"start": 0, "end": 5}], "without a label"),
        ([[0, 5, 7]], "not a list of start, end and label"),
        ([[0, 5.5, "LOC"]], "not a list of start, end and label"),
        ([[True, 5, "LOC"]], "not a list of start, end and label"),
        ([["a", "b"]], "not a list of start, end and label"),
        ({"start": 0}, "not a list of start, end and label"),
        ([[5, 6, "LOC"]], "empty entity"),
        (["O"], "tokens and tags of different length"),
        (["O", "O", "O", "O"], "tokens and tags of different length"),
    ],
)
def test_spans_that_cannot_be_used_say_why(entities: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_entities(json.dumps(entities), "Paris is nice", "auto")


def test_spans_are_sorted_and_lose_the_white_space_at_their_ends() -> None:
    text = "Paris  and Rome "
    assert read_entities('[[10, 16, " LOC"], {"start": 0, "end": 6, "label": "LOC"}]', text, "auto") == [
        (0, 5, "LOC"),
        (11, 15, "LOC"),
    ]


CLEANERS = [
    Cleaner(),
    Cleaner(normalization="NFKC", unescape_html=True),
    Cleaner(normalization="none", collapse_whitespace=False, lowercase=True),
    Cleaner(strip_quotes=True, lowercase=True),
]


@pytest.mark.parametrize("cleaner", CLEANERS)
@given(st.text(st.sampled_from('ab  "É\u0301e\u3000\uff11東ンﾊ\uff9e&amp;;lt#39\u00a0\nİ'), max_size=24))
def test_an_alignment_says_for_each_character_where_it_came_from(cleaner: Cleaner, text: str) -> None:
    found = align(text, cleaner)
    assert found.cleaned == cleaner.clean([text])[0]
    assert len(found.starts) == len(found.ends) == len(found.cleaned)
    assert found.starts == sorted(found.starts)
    assert found.ends == sorted(found.ends)
    assert all(0 <= start <= end <= len(text) for start, end in zip(found.starts, found.ends, strict=True))
    for at, character in enumerate(found.cleaned):
        if character in "b東":  # which nothing else becomes
            assert text[found.starts[at] : found.ends[at]].startswith(character)


@pytest.mark.parametrize(
    ("text", "entity", "cleaner", "expected"),
    [
        ("in  New   York  now", "New   York", Cleaner(), "New York"),
        ("at Cafe\u0301 Noir", "Cafe\u0301 Noir", Cleaner(), "Café Noir"),
        ("AT&amp;T said", "AT&amp;T", Cleaner(unescape_html=True), "AT&T"),
        ('"Paris is nice"', "Paris", Cleaner(strip_quotes=True), "Paris"),
        ("İstanbul is big", "İstanbul", Cleaner(lowercase=True), "i\u0307stanbul"),
        ("東京\uff12\uff10区に", "\uff12\uff10区", Cleaner(normalization="NFKC"), "20区"),
    ],
)
def test_spans_follow_a_text_through_cleaning_and_back(
    text: str, entity: str, cleaner: Cleaner, expected: str
) -> None:
    start = text.index(entity)
    found = align(text, cleaner)
    first, last = found.to_cleaned(start, start + len(entity))
    assert found.cleaned[first:last] == expected
    assert found.to_given(first, last) == (start, start + len(entity))

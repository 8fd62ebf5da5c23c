"""Word pieces, windows, decoding: what the network is shown, and what is made of its answer."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics
from seqeval.scheme import IOB2

from catena.backbones import get_backbone
from catena.data.cleaning import Cleaner
from catena.problems import Problem, get_problem
from catena.problems.features import pad_inputs
from catena.problems.spans import canonical
from catena.problems.tag_decoding import allowed_transitions, best_tags, decode, log_softmax, word_scores
from catena.problems.tag_features import IGNORED
from catena.problems.tag_schemes import read_tags, tag_names
from catena.problems.word_pieces import lowers_case, shape, special_tokens, split_pieces, windows
from catena.settings import ProblemSettings, TokenizationSettings
from tests.tiny_project import write_backbone

LABELS = ("LOC", "PER")
TAGS = tag_names(LABELS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    write_backbone(folder)
    return get_backbone("pretrained").tokenizer(folder)


def tagging(**options: object) -> Problem:
    return get_problem(ProblemSettings.model_validate({"name": "tagging", **options}))


def records(*texts: str, entities: list[list[tuple[int, int, str]]] | None = None) -> pd.DataFrame:
    table = pd.DataFrame({"text": list(texts)})
    return table if entities is None else table.assign(entities=[canonical(one) for one in entities])


def certain(features: dict[str, list[Any]], tags: dict[tuple[int, int], str], sure: float = 8.0) -> list[Any]:
    """Logits that say the tag in `tags` for the pieces of a word, and O for all others."""
    outputs = []
    for starts, ends in zip(features["word_starts"], features["word_ends"], strict=True):
        logits = np.zeros((len(starts), len(TAGS)), np.float32)
        for at, span in enumerate(zip(starts, ends, strict=True)):
            logits[at, TAGS.index(tags.get(span, "O"))] = sure
        outputs.append(logits)
    return outputs


def test_the_first_piece_of_each_word_learns_its_tag(tokenizer: Any) -> None:
    text = "harbour xyz of Gulf"
    features = tagging().encode(
        records(text, entities=[[(0, 11, "LOC"), (15, 19, "PER")]]), tokenizer, TokenizationSettings(), LABELS
    )
    pieces = tokenizer.convert_ids_to_tokens(features["input_ids"][0])
    assert pieces == ["[CLS]", "harbour", "x", "##y", "##z", "of", "gulf", "[SEP]"]
    said = [TAGS[label] if label != IGNORED else "-" for label in features["labels"][0]]
    assert said == ["-", "B-LOC", "I-LOC", "-", "-", "O", "B-PER", "-"]
    assert features["word_starts"][0] == [-1, 0, 8, -1, -1, 12, 15, -1]
    assert features["n_tokens"] == [len(pieces)]


def test_all_pieces_may_learn_the_tag(tokenizer: Any) -> None:
    features = tagging(labelled_pieces="all").encode(
        records("xyz of", entities=[[(0, 3, "LOC")]]), tokenizer, TokenizationSettings(), LABELS
    )
    said = [TAGS[label] if label != IGNORED else "-" for label in features["labels"][0]]
    assert said == ["-", "B-LOC", "I-LOC", "I-LOC", "O", "-"]


def test_words_end_at_spaces_or_where_the_tokenizer_ends_them(tokenizer: Any) -> None:
    (spaces,) = split_pieces(["u.s. wheat, oats"], tokenizer, own_words=False)
    (own,) = split_pieces(["u.s. wheat, oats"], tokenizer, own_words=True)
    assert spaces.words == [(0, 4), (5, 11), (12, 16)]
    assert own.words == [(0, 1), (1, 2), (2, 3), (3, 4), (5, 10), (10, 11), (12, 16)]
    assert [at for at, first in enumerate(spaces.firsts) if first] == [0, 4, 6]


def test_lines_are_kept_apart_by_a_separator_that_speaks_for_no_word(
    tokenizer: Any,
) -> None:
    two, one = split_pieces(["wheat oats\nbank", "wheat oats bank"], tokenizer, own_words=False)
    assert two.ids == [*one.ids[:2], tokenizer.sep_token_id, one.ids[2]]
    assert (two.numbers, two.firsts) == ([0, 1, -1, 2], [True, True, False, True])
    assert [two.words[at] for at in (1, 2)] == [(6, 10), (11, 15)]


def test_no_entity_is_found_across_the_end_of_a_line() -> None:
    tags = tag_names(["LOC"])
    words = [(0, 3), (4, 8)]
    logits = np.log(np.array([[0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]))  # B-LOC, then I-LOC
    assert decode((words, logits), tags, "New York")[0] == [((0, 8, "LOC"), pytest.approx(0.7))]
    # on a line of its own, York can be no I: O has 0.2, B has 0.1
    found, sure = decode((words, logits), tags, "New\nYork")
    assert found == [((0, 3, "LOC"), pytest.approx(0.8))]
    assert sure == pytest.approx(0.2)


def test_scripts_without_spaces_are_divided_as_the_tokenizer_does(tokenizer: Any) -> None:
    (pieces,) = split_pieces(["wheat 东京2020年 bank"], tokenizer, own_words=False)
    assert pieces.words == [(0, 5), (6, 7), (7, 8), (8, 12), (12, 13), (14, 18)]


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 30))
def test_windows_own_every_piece_once_and_reach_their_capacity(
    count: int, capacity: int, overlap: int
) -> None:
    found = windows(count, capacity, overlap)
    assert [at for window in found for at in range(window.owned_from, window.owned_to)] == list(range(count))
    assert all(window.start <= window.owned_from <= window.owned_to <= window.end for window in found)
    if count > capacity:
        assert all(window.end - window.start == capacity for window in found)
        shared = [before.end - after.start for before, after in itertools.pairwise(found)]
        assert all(one >= min(overlap, capacity // 2) for one in shared)
        for before, after in itertools.pairwise(found):
            for at in range(after.start, before.end):  # the owner is nowhere nearer to an edge
                left, right = before.end - at, at - after.start
                owner = before if at < before.owned_to else after
                assert (left >= right - 1) if owner is before else (right >= left - 1)


def test_windows_of_a_long_text_lose_no_entity(tokenizer: Any) -> None:
    words = ["wheat", "xyz", "bank", "of", "qq"] * 12
    text = " ".join(words)
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    spans = [(int(start), int(start) + len(word)) for start, word in zip(starts, words, strict=True)]
    entities = [(spans[at][0], spans[at + 2][1], LABELS[at % 2]) for at in range(0, 58, 3)]
    problem = tagging(window_overlap=6)
    settings = TokenizationSettings(max_length=16)
    features = problem.encode(records(text, entities=[entities]), tokenizer, settings, LABELS)
    assert len(features["input_ids"]) > 6
    assert max(map(len, features["input_ids"])) == 16
    assert sum(features["n_tokens"]) == len(tokenizer(text)["input_ids"])
    expected = {}
    for start, end, label in entities:
        inside = [span for span in spans if start <= span[0] < end]
        expected |= dict.fromkeys(inside, f"I-{label}") | {inside[0]: f"B-{label}"}
    learned = {
        (start, end): TAGS[tag]
        for row in range(len(features["labels"]))
        for start, end, tag in zip(
            features["word_starts"][row], features["word_ends"][row], features["labels"][row], strict=True
        )
        if tag != IGNORED
    }
    assert learned == {span: expected.get(span, "O") for span in spans}
    predicted = problem.predictions(certain(features, expected), records(text), features, LABELS)
    assert predicted["prediction"].tolist() == [canonical(entities)]


@pytest.mark.parametrize("pieces", ["first", "all"])
def test_predictions_read_the_windows_they_were_made_in(tokenizer: Any, pieces: str) -> None:
    problem = tagging(labelled_pieces=pieces, window_overlap=4)
    table = records("xyz bank of gulf", "", "oats")
    features = problem.encode(table, tokenizer, TokenizationSettings(max_length=8), LABELS)
    tags = {(0, 3): "B-PER", (12, 16): "B-LOC"}
    outputs = certain(features, tags)
    if pieces == "all":  # what the other pieces of the word should say
        for row, starts in enumerate(features["word_starts"]):
            for at in range(1, len(starts)):
                if features["record"][row] == 0 and starts[at] == starts[at - 1] == 0:
                    outputs[row][at] = 0.0
                    outputs[row][at, TAGS.index("I-PER")] = 8.0
    predicted = problem.predictions(outputs, table, features, LABELS)
    assert predicted["prediction"].tolist() == ['[[0,3,"PER"],[12,16,"LOC"]]', "[]", "[]"]
    first = json.loads(predicted["spans"][0])
    assert [one["text"] for one in first] == ["xyz", "gulf"]
    sure = np.exp(8) / (np.exp(8) + 4)
    if pieces == "first":
        assert predicted["confidence"][0] == pytest.approx(sure, abs=1e-6)
        assert first[0]["score"] == pytest.approx(sure, abs=1e-4)
    assert predicted["confidence"][1] == 1.0  # nothing to be unsure of


def test_entities_are_spans_of_the_text_as_it_was_given(tokenizer: Any) -> None:
    problem = tagging()
    given_text = "  Wheat &amp; Oats\t of   Gulf "
    table = problem.clean(records(given_text, "oats"), Cleaner(unescape_html=True))
    assert table["text"].tolist() == ["Wheat & Oats of Gulf", "oats"]
    features = problem.encode(table, tokenizer, TokenizationSettings(), LABELS)
    tags = {(0, 5): "B-PER", (6, 7): "I-PER", (8, 12): "I-PER", (16, 20): "B-LOC"}
    predicted = problem.predictions(certain(features, tags), table, features, LABELS)
    entities = json.loads(predicted["prediction"][0])
    assert [given_text[start:end] for start, end, _ in entities] == ["Wheat &amp; Oats", "Gulf"]
    assert predicted["prediction"][1] == "[]"


scores = st.integers(1, 5).flatmap(
    lambda words: st.lists(
        st.lists(st.floats(-6, 6), min_size=len(TAGS), max_size=len(TAGS)), min_size=words, max_size=words
    )
)


@given(scores)
def test_decoding_finds_the_best_of_all_valid_sequences(values: list[list[float]]) -> None:
    found = np.array(values)
    first, following = allowed_transitions(TAGS)
    best = best_tags(found, first, following)
    valid = [
        one
        for one in itertools.product(range(len(TAGS)), repeat=len(found))
        if is_valid([TAGS[at] for at in one])
    ]
    assert is_valid([TAGS[at] for at in best])
    totals = [found[np.arange(len(found)), list(one)].sum() for one in valid]
    assert found[np.arange(len(found)), best].sum() == pytest.approx(max(totals))


def is_valid(tags: list[str]) -> bool:
    try:
        read_tags(tags, "IOB2")
    except ValueError:
        return False
    return True


def test_a_word_of_several_pieces_is_b_only_if_the_others_are_i() -> None:
    logits = np.log(np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]))
    found = word_scores(logits, np.array([0, 0, 1]), ["O", "B-LOC", "I-LOC"])
    expected = np.sqrt([0.5 * 0.1, 0.4 * 0.8, 0.1 * 0.8])
    np.testing.assert_allclose(np.exp(found[0]), expected / expected.sum())
    np.testing.assert_allclose(np.exp(found[1]), [0.9, 0.05, 0.05])


def test_log_probabilities_are_those_of_scipy() -> None:
    from scipy.special import log_softmax as theirs

    logits = np.random.default_rng(0).normal(size=(7, 5)) * 40
    np.testing.assert_allclose(log_softmax(logits), theirs(logits, axis=1))


def test_the_way_a_word_is_written_has_a_number() -> None:
    words = ["1996", "wheat", "Paris", "EU", "U", "McDonald", "İstanbul", "東京", "B52", "ÉTÉ"]
    assert [shape(word) for word in words] == [1, 2, 3, 4, 5, 6, 3, 1, 5, 4]


def test_shapes_are_told_where_the_tokenizer_drops_case(tokenizer: Any) -> None:
    assert lowers_case(tokenizer)
    table = records("Gulf bank of XYZ-oats")
    features = tagging().encode(table, tokenizer, TokenizationSettings(), LABELS)
    pieces = tokenizer.convert_ids_to_tokens(features["input_ids"][0])
    assert dict(zip(pieces, features["shape_ids"][0], strict=True)) == {
        "[CLS]": 0, "gulf": 3, "bank": 2, "of": 2, "x": 4, "##y": 4, "##z": 4, "[UNK]": 1, "oats": 2,
        "[SEP]": 0,
    }  # fmt: skip
    off = tagging(case_shapes="off").encode(table, tokenizer, TokenizationSettings(), LABELS)
    assert "shape_ids" not in off


def test_special_tokens_stand_around_every_window(tokenizer: Any) -> None:
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert special_tokens(tokenizer) == ([cls], [sep])
    features = tagging().encode(records("wheat " * 30), tokenizer, TokenizationSettings(max_length=9), LABELS)
    assert all(ids[0] == cls and ids[-1] == sep for ids in features["input_ids"])


def test_validation_scores_are_those_of_seqeval() -> None:
    chance = np.random.default_rng(1)
    rows = [chance.integers(1, 12) for _ in range(40)]
    truth, outputs = [], []
    for length in rows:
        logits = chance.normal(size=(length, len(TAGS)))
        first, following = allowed_transitions(TAGS)
        tags = best_tags(chance.normal(size=(length, len(TAGS))), first, following)
        logits[np.arange(length), tags] += 1.5
        outputs.append(np.concatenate([logits, chance.normal(size=(2, len(TAGS)))]).astype(np.float32))
        truth.append(np.concatenate([tags, [IGNORED, IGNORED]]))
    found = tagging().validation_metrics(outputs, truth)
    expected = [[TAGS[at] for at in row[:-2]] for row in truth]
    first, following = allowed_transitions(TAGS)
    said = [[TAGS[at] for at in best_tags(log_softmax(row[:-2]), first, following)] for row in outputs]
    options = {"mode": "strict", "scheme": IOB2}
    assert 0.3 < found["entity_f1"] < 0.95
    assert found["entity_f1"] == pytest.approx(metrics.f1_score(expected, said, **options))
    assert found["entity_precision"] == pytest.approx(metrics.precision_score(expected, said, **options))
    assert found["entity_recall"] == pytest.approx(metrics.recall_score(expected, said, **options))
    assert found["word_accuracy"] == pytest.approx(metrics.accuracy_score(expected, said))


def test_what_each_token_has_is_padded_along_with_it() -> None:
    rows = [{"input_ids": [5, 6, 7], "shape_ids": [1, 2, 3], "labels": [0, 4, 0]}, {"input_ids": [8]}]
    rows[1] |= {"shape_ids": [1], "labels": [2]}
    batch = pad_inputs(rows, 9, 2, {"shape_ids": 0, "labels": -1, "others": 3})
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[5, 6, 7, 9], [8, 9, 9, 9]],
        "attention_mask": [[1, 1, 1, 0], [1, 0, 0, 0]],
        "shape_ids": [[1, 2, 3, 0], [1, 0, 0, 0]],
        "labels": [[0, 4, 0, -1], [2, -1, -1, -1]],
    }
    for problem, filling in ((tagging(), IGNORED), (get_problem("answering"), 0)):
        batch = problem.collate(rows, 9, 4)
        assert batch["labels"].tolist() == [[0, 4, 0, filling], [2, filling, filling, filling]]
        assert batch["shape_ids"].tolist() == [[1, 2, 3, 0], [1, 0, 0, 0]]
    assert "labels" not in tagging().collate([{"input_ids": [8]}], 9)

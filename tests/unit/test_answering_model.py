"""Answering: windows and their labels, the loss, the best span, answers in the passage as it was given."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from catena.backbones import get_backbone
from catena.data.cleaning import Cleaner
from catena.errors import SettingsError
from catena.problems import get_problem
from catena.problems.answer_features import ALLOWED, ENDS, STARTS, answer_features
from catena.problems.answer_spans import best_span, best_spans, token_overlap, token_scores
from catena.problems.answering import ANSWER, NO_ANSWER
from catena.problems.answers import canonical, from_canonical
from catena.settings import ProblemSettings, TokenizationSettings
from tests.tiny_language_model import tiny_tokenizer
from tests.tiny_project import write_backbone

CONTEXT = "wheat and maize and barley in silo of crew that said vessel port cargo dock hull"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return get_backbone("pretrained").tokenizer(folder)


def features(tokenizer: Any, target: str | None, max_length: int = 64, **more: Any) -> dict[str, list[Any]]:
    targets = None if target is None else [target]
    return answer_features(
        ["vessel of wheat"], [CONTEXT], targets, tokenizer, max_length, 4, more.pop("hints", True), **more
    )


def test_one_window_marks_the_pieces_of_the_answer(tokenizer: Any) -> None:
    start = CONTEXT.index("crew")
    found = features(tokenizer, canonical([(start, "crew that said")]))
    (labels,), (starts,), (ends,) = found["labels"], found["char_starts"], found["char_ends"]
    assert [starts[at] for at, bits in enumerate(labels) if bits & STARTS] == [start]
    assert [ends[at] for at, bits in enumerate(labels) if bits & ENDS] == [start + len("crew that said")]
    # [CLS] and the passage may be said, the question and [SEP] may not
    allowed = [at for at, bits in enumerate(labels) if bits & ALLOWED]
    assert allowed == [0, *(at for at, place in enumerate(starts) if place >= 0)]
    assert len(found["input_ids"][0]) == 1 + 3 + 1 + len(CONTEXT.split()) + 1


def test_hints_tell_question_passage_and_shared_words(tokenizer: Any) -> None:
    found = features(tokenizer, None)
    shapes = found["shape_ids"][0]
    assert shapes[:5] == [0, 1, 1, 1, 0]
    shared = [word for word, shape in zip(CONTEXT.split(), shapes[5:-1], strict=True) if shape >= 5]
    assert shared == ["wheat", "of", "vessel"]
    assert "shape_ids" not in features(tokenizer, None, hints=False)


def test_long_passages_are_cut_into_windows_that_cover_everything_and_overlap(tokenizer: Any) -> None:
    start = CONTEXT.index("crew")
    found = features(tokenizer, canonical([(start, "crew")]), max_length=16)
    assert len(found["record"]) > 1 and set(found["record"]) == {0}
    assert all(len(ids) <= 16 for ids in found["input_ids"])
    seen = [{place for place in starts if place >= 0} for starts in found["char_starts"]]
    assert len(set.union(*seen)) == len(CONTEXT.split())
    assert all(len(one & other) == 4 for one, other in pairwise(seen))
    # a token counts once: the first window's all, of the others only what is new
    assert sum(found["n_tokens"]) == 1 + 3 + 1 + len(CONTEXT.split()) + 1
    for starts, labels in zip(found["char_starts"], found["labels"], strict=True):
        here = [starts[at] for at, bits in enumerate(labels) if bits & STARTS]
        assert here == ([start] if start in starts else [-1])  # else the first token says "not here"


def test_an_answer_that_a_window_cuts_is_not_in_it(tokenizer: Any) -> None:
    # 4 tokens of overlap are too few for this answer where a window begins inside it
    answer = "crew that said vessel port cargo"
    found = features(tokenizer, canonical([(CONTEXT.index(answer), answer)]), max_length=16)
    for starts, ends, labels in zip(found["char_starts"], found["char_ends"], found["labels"], strict=True):
        whole = CONTEXT.index(answer) in starts and CONTEXT.index(answer) + len(answer) in ends
        assert bool(labels[0] & STARTS) is not whole


def test_a_question_longer_than_a_window_leaves_room_for_the_passage(tokenizer: Any) -> None:
    found = answer_features(["crop " * 300], [CONTEXT], None, tokenizer, 32, 4, True)
    seen = {place for starts in found["char_starts"] for place in starts if place >= 0}
    assert len(seen) == len(CONTEXT.split())


def test_unanswerable_questions_have_the_first_token_as_their_answer(tokenizer: Any) -> None:
    (labels,) = features(tokenizer, "[]")["labels"]
    assert labels[0] == STARTS | ENDS | ALLOWED
    assert not any(bits & (STARTS | ENDS) for bits in labels[1:])


def test_other_passages_teach_that_there_is_no_answer(tokenizer: Any) -> None:
    problem = get_problem(ProblemSettings(name="answering", other_passages=1))
    contexts = [CONTEXT, "bank dollar yen and wheat", "gulf dock canal of crew"]
    records = pd.DataFrame(
        {
            "question": ["wheat of vessel", "bank of yen", "gulf dock"],
            "context": contexts,
            "answers": [canonical([(0, context.split()[0])]) for context in contexts],
        }
    )
    settings = TokenizationSettings(max_length=64)
    found = problem.encode(records, tokenizer, settings, (ANSWER,))
    assert sorted(found["record"]) == [0, 0, 1, 1, 2, 2]
    silent = [bool(labels[0] & STARTS) for labels in found["labels"]]
    assert sum(silent) == 3
    # the passage that is shown does not hold the answer ("wheat" is in the second)
    other = [
        ids
        for ids, none, at in zip(found["input_ids"], silent, found["record"], strict=True)
        if none and at == 0
    ]
    assert "bank" not in tokenizer.decode(other[0])
    # to predict takes the passage alone
    assert len(problem.encode(records.drop(columns="answers"), tokenizer, settings, (ANSWER,))["record"]) == 3


def test_the_loss_is_the_mean_of_start_and_end_by_hand() -> None:
    problem = get_problem("answering")
    labels = torch.tensor([[ALLOWED, 0, ALLOWED | STARTS, ALLOWED | ENDS, ALLOWED | STARTS | ENDS, 0]])
    logits = torch.zeros(1, 6, 2)
    logits[0, 1] = 50.0  # the question, which cannot be said and does not count
    # four allowed tokens, all alike; two starts and two ends are right: each -log(2/4)
    assert float(problem.loss(logits, labels)) == pytest.approx(np.log(2))
    logits[0, 2, 0] = 100.0
    assert float(problem.loss(logits, labels)) == pytest.approx(np.log(2) / 2, abs=1e-5)


def test_windows_that_shortening_left_without_an_answer_do_not_count() -> None:
    problem = get_problem("answering")
    lost = torch.full((1, 4), ALLOWED)
    whole = torch.tensor([[ALLOWED, ALLOWED | STARTS | ENDS, ALLOWED, 0]])
    logits = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0))
    both = problem.loss(logits, torch.cat([lost, whole]))
    assert float(both) == pytest.approx(float(problem.loss(logits[1:], whole)))
    assert float(problem.loss(logits[:1], lost)) == 0.0
    assert problem.weight(torch.cat([lost, whole])) == 2, "a start and an end"


def test_the_best_span_is_found_among_all_that_are_allowed() -> None:
    chance = np.random.default_rng(1)
    inside = np.array([False, False, False, *[True] * 9, False])
    for _ in range(20):
        scores = token_scores(chance.normal(size=(13, 2)), inside)
        assert np.exp(scores[inside | (np.arange(13) == 0)]).sum(axis=0) == pytest.approx([1, 1])
        best = best_span(scores, inside, 4)
        assert best is not None
        spans = [(first, last) for first in range(3, 12) for last in range(first, min(first + 4, 12))]
        assert best[0] == pytest.approx(max(scores[first, 0] + scores[last, 1] for first, last in spans))


def test_a_span_is_found_where_all_good_ends_lie_before_all_good_starts() -> None:
    inside = np.array([False, *[True] * 60])
    scores = np.zeros((61, 2))
    scores[31:, 0], scores[1:31, 1] = 5.0, 5.0
    assert best_span(token_scores(scores, inside), inside, 4) is not None
    assert best_span(token_scores(scores, inside), np.zeros(61, bool), 4) is None


def test_the_space_before_a_word_is_no_part_of_an_answer() -> None:
    tokenizer = tiny_tokenizer(template=None)
    context = "and of grass? green.  two words"
    answer = canonical([(context.index("green"), "green")])
    found = answer_features(["of grass?"], [context], [answer], tokenizer, 96, 8, True)
    starts, ends, labels = (found[name][0] for name in ("char_starts", "char_ends", "labels"))
    first = next(at for at, bits in enumerate(labels) if bits & STARTS)
    last = next(at for at, bits in enumerate(labels) if bits & ENDS)
    assert context[starts[first] : ends[last]] == "green"
    texts = [context[start:end] for start, end in zip(starts, ends, strict=True) if start >= 0]
    assert all(text == text.strip() != "" for text in texts)
    assert "".join(texts) == context.replace(" ", "")


def test_spans_are_compared_over_windows_and_the_least_sure_silence_counts() -> None:
    rows = {
        "record": [0, 0],
        "char_starts": [[-1, -1, 0, 5], [-1, -1, 5, 10]],
        "char_ends": [[-1, -1, 4, 9], [-1, -1, 9, 14]],
    }
    sure_of_none = np.array([[5.0, 5.0], [9.0, 9.0], [0.0, 0.0], [0.0, 0.0]])
    sure = np.array([[0.0, 0.0], [9.0, 9.0], [0.0, 0.0], [4.0, 4.0]])
    (found,) = best_spans([sure_of_none, sure], rows, 1, 30)
    assert (found.start, found.end) == (10, 14)
    share = np.exp(4) / (np.exp(4) + 2)
    assert found.probability == pytest.approx(share**2)
    assert found.nothing == pytest.approx((1 / (np.exp(4) + 2)) ** 2)


def test_overlap_of_tokens_by_hand() -> None:
    assert token_overlap((3, 6), [(5, 6)]) == pytest.approx(2 * 2 / (4 + 2))
    assert token_overlap((0, 0), [(4, 5)]) == 0.0
    assert token_overlap((4, 5), [(0, 0), (4, 5)]) == 1.0


def predicted(context: str, span: tuple[int, int], labels: tuple[str, ...], none: float = 0.0) -> pd.Series:
    """What is said of a passage of two tokens, the second of which is `span`."""
    problem = get_problem("answering")
    records = problem.clean(
        pd.DataFrame({"question": ["who?"], "context": [context]}), Cleaner(unescape_html=True)
    )
    rows = {"record": [0], "char_starts": [[-1, 0, span[0]]], "char_ends": [[-1, 1, span[1]]]}
    outputs = [np.array([[none, none], [0.0, 0.0], [6.0, 6.0]])]
    return problem.predictions(outputs, records, rows, labels).iloc[0]


def test_answers_are_given_in_the_passage_as_it_was_before_cleaning() -> None:
    given = "  A  &amp;   B   Caf\u00e9   closed"
    cleaned = "A & B Caf\u00e9 closed"
    start = cleaned.index("B Caf")
    said = predicted(given, (start, start + len("B Caf\u00e9")), (ANSWER,))
    assert said["answer"] == "B Caf\u00e9"
    assert given[said["start"] : said["end"]] == "B   Caf\u00e9"


def test_only_a_model_that_has_seen_questions_without_answer_says_there_is_none() -> None:
    assert predicted("A Bert", (2, 6), (ANSWER,), none=9.0)["answer"] == "Bert"
    said = predicted("A Bert", (2, 6), (ANSWER, NO_ANSWER), none=9.0)
    assert (said["prediction"], said["answer"], said["start"]) == ("[]", "", -1)
    assert said["confidence"] == said["no_answer"] > 0.8
    assert predicted("A Bert", (2, 6), (ANSWER, NO_ANSWER))["answer"] == "Bert"


def test_label_names_say_whether_there_may_be_no_answer() -> None:
    problem = get_problem("answering")
    some = pd.DataFrame({"answers": ["[]", canonical([(0, "a")])]})
    assert problem.label_names(some) == (ANSWER, NO_ANSWER)
    assert problem.label_names(some.iloc[1:]) == (ANSWER,)
    with pytest.raises(SettingsError, match=r"data\.labels"):
        problem.read_targets(["[]"], {"a": "b"})


def test_validation_metrics_by_hand() -> None:
    problem = get_problem("answering")
    labels = [[ALLOWED, 0, ALLOWED | STARTS, ALLOWED | ENDS], [ALLOWED | STARTS | ENDS, 0, ALLOWED, ALLOWED]]
    right = np.array([[0.0, 0.0], [0.0, 0.0], [60.0, 0.0], [0.0, 60.0]])
    half = np.array([[0.0, 0.0], [0.0, 0.0], [60.0, 60.0], [0.0, 0.0]])
    found = problem.validation_metrics([right, half], labels)
    assert (found["f1"], found["exact"]) == (0.5, 0.5)  # the second says a token where there is no answer
    # of the first nothing is lost; of the second all: 60 nats at the start and at the end
    assert found["log_loss"] == pytest.approx(30.0)


def test_no_records_give_no_predictions(tokenizer: Any) -> None:
    problem = get_problem("answering")
    none = pd.DataFrame({"question": pd.Series(dtype="str"), "context": pd.Series(dtype="str")})
    found = problem.encode(none, tokenizer, TokenizationSettings(), (ANSWER,))
    assert found["input_ids"] == []
    assert problem.predictions(np.empty((0, 1)), none, found, (ANSWER,)).empty
    assert from_canonical("[]") == []

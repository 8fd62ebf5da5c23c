"""Bits per byte, perplexity, ROUGE, variety: worked by hand, or as rouge-score 0.1.2 gives them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from catena.evaluation.baselines import BaselineData
from catena.evaluation.byte_model import ByteModel
from catena.evaluation.generation import GenerationEvaluation, nearest
from catena.evaluation.overlap import Diversity, distinct, rouge_l, rouge_n, words
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.settings import ProblemSettings

REFERENCE = "The quick brown fox jumps over the lazy dog. It runs away!"


@pytest.mark.parametrize(
    ("written", "expected"),
    [  # rouge_score.RougeScorer(["rouge1", "rouge2", "rougeL"]).score(REFERENCE, written)[…].fmeasure
        ("The lazy dog jumps over the quick brown fox", (0.857142857, 0.736842105, 0.380952381)),
        ("a dog runs", (0.266666667, 0.0, 0.266666667)),
        (REFERENCE, (1.0, 1.0, 1.0)),
        ("", (0.0, 0.0, 0.0)),
    ],
)  # fmt: skip
def test_rouge_is_that_of_another_library(written: str, expected: tuple[float, ...]) -> None:
    theirs, ours = words(REFERENCE), words(written)
    found = (rouge_n(theirs, ours, 1), rouge_n(theirs, ours, 2), rouge_l(theirs, ours))
    assert found == pytest.approx(expected)


def test_the_longest_common_sequence_is_that_of_the_textbook_algorithm() -> None:
    chance = np.random.default_rng(0)
    for _ in range(200):
        one = chance.integers(0, 4, chance.integers(1, 90)).astype(str).tolist()
        other = chance.integers(0, 4, chance.integers(1, 90)).astype(str).tolist()
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, a in enumerate(one):
            for j, b in enumerate(other):
                table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
        assert rouge_l(one, other) == pytest.approx(2 * table[-1, -1] / (len(one) + len(other)))


def test_words_of_every_script_count() -> None:
    assert words("Привет, МИР") == ["привет", "мир"]
    assert rouge_n(words("今天天气好"), words("天气很好"), 1) == pytest.approx(2 * 3 / 9)
    assert rouge_l(words("مرحبا بالعالم"), words("مرحبا")) == pytest.approx(2 / 3)


def test_variety_is_the_share_of_what_is_different() -> None:
    tokens = words("a b a b a b")
    assert distinct(tokens, 1) == pytest.approx(2 / 6)
    assert distinct(tokens, 2) == pytest.approx(2 / 5)
    assert distinct(tokens, 4) == pytest.approx(2 / 3)
    assert distinct(words("one"), 2) is None
    both = Diversity.of(["a b a b a b", "a b"])
    # words 2 of 8, pairs 2 of 6, 4-grams abab baba abab: 1 of 3 came before
    assert (both.distinct_1, both.distinct_2, both.repetition, both.words) == pytest.approx(
        (2 / 8, 2 / 6, 1 / 3, 4)
    )


def table(**columns: Any) -> pd.DataFrame:
    values = {
        "id": ["1", "2"],
        "prompt": [json.dumps([{"role": "user", "content": "q"}])] * 2,
        "response": ["the sky", "green grass grows"],
        "prediction": ["the sky", "grass"],
        "target_loss": [4.0, 6.0],
        "target_tokens": [3, 5],
        "target_bytes": [7, 17],
        **columns,
    }
    return pd.DataFrame(values)


def evaluation(form: str = "conversation") -> GenerationEvaluation:
    return GenerationEvaluation(ProblemSettings.model_validate({"name": "generation", "form": form}))


PLAN = EvaluationPlan((), "f", problem={"name": "generation"}, samples=200)


def test_perplexity_is_per_token_and_bits_are_per_byte_of_all_records_together() -> None:
    values = evaluation().values(table(), PLAN)
    assert values["perplexity"] == pytest.approx(math.exp(10 / 8))
    assert values["bits_per_byte"] == pytest.approx(10 / math.log(2) / 24)
    assert values["rouge_l"] == pytest.approx((1 + 2 * 1 / 4) / 2)
    assert values["distinct_2"] == pytest.approx(1.0)  # of the one text that has pairs
    assert "repetition" not in values  # no text has four words


def test_a_rival_that_foresees_nothing_is_compared_by_what_it_writes_alone(tmp_path: Path) -> None:
    records = table(
        **{
            "baseline:nearest": ["the sea", "green grass grows"],
            "baseline:backbone": ["a", "b"],
            "baseline:backbone:confidence": [-8.0 / 7, -12.0 / 17],  # nats per byte
        }
    )
    metrics = evaluation().score(Predictions(records, PLAN))
    assert "perplexity" not in metrics["baselines"]["nearest"]
    assert metrics["baselines"]["nearest"]["rouge_l"] == pytest.approx(0.75)
    assert metrics["baselines"]["backbone"]["perplexity"] == pytest.approx(math.exp(20 / 8))
    (only,) = metrics["comparison"]
    assert only["baseline"] == "backbone"
    assert only["difference"] == pytest.approx(-10 / math.log(2) / 24)
    assert only["p_value"] < 0.05


def test_a_chart_of_rivals_is_of_the_metric_that_its_caption_names(tmp_path: Path) -> None:
    from catena.evaluation.report import ReportSource

    judged, predictions = evaluation(), Predictions(table(**{"baseline:nearest": ["the sea", "grass"]}), PLAN)
    source = ReportSource("talk", predictions, judged.score(predictions), None, None, {})
    judged.write_report(tmp_path / "report.html", source)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "ROUGE-L with its interval; the model in colour." in page
    assert "bits per byte with its interval" not in page  # `nearest` foresees nothing


def test_the_gate_compares_likelihoods_on_the_same_records() -> None:
    ours, theirs = table(), table(target_loss=[5.0, 7.5])
    test = evaluation().paired(ours, theirs, "bits_per_byte", PLAN, 0.95)
    assert test.difference == pytest.approx(-2.5 / math.log(2) / 24)
    assert not test.higher_is_better


def test_samples_are_in_the_report_and_escaped(tmp_path: Path) -> None:
    from catena.evaluation.report import ReportSource

    attack = "<script>alert('x')</script>"
    records = table(prediction=[attack, "two\nlines"])
    judged = evaluation()
    predictions = Predictions(records, PLAN)
    source = ReportSource("talk", predictions, judged.score(predictions), None, None, {})
    judged.write_report(tmp_path / "report.html", source)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Samples" in page
    assert "user: q" in page
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


def test_bytes_are_foreseen_as_witten_and_bell_have_it() -> None:
    model = ByteModel(["ab"], order=1)
    # order 0: a and b once each, two kinds: (1 + 2/256) / 4 each
    alone = (1 + 2 / 256) / 4
    after_start = (1 + 1 * alone) / 2  # a, once after the start
    after_a = (1 + 1 * alone) / 2  # b, once after a
    assert model.log_likelihood("ab") == pytest.approx(math.log(after_start * after_a))
    unseen = (0 + 2 / 256) / 4
    # x after a: nothing seen of it, so the rest of a's chances
    assert model.log_likelihood("ax") == pytest.approx(math.log(after_start * unseen / 2))


def test_the_chances_of_all_bytes_are_one() -> None:
    model = ByteModel(["to be or not to be", "that is the question"], order=3)
    for context in ("to ", "xyz", ""):
        chances = model._chances([0, 0, 0, *context.encode()])
        assert chances.sum() == pytest.approx(1.0)
        for byte in b"bt\xe4":
            one, other = (
                model.log_likelihood(context),
                # the likelihood of a text is that of its beginning times the chance of its last byte
                float(np.log(chances[byte])),
            )
            if byte < 128:
                assert model.log_likelihood(context + chr(byte)) == pytest.approx(one + other)


def test_bytes_learned_from_a_text_foresee_it_better_than_another() -> None:
    verse = ["shall i compare thee to a summer's day", "thou art more lovely and more temperate"] * 5
    model = ByteModel(verse)
    per_byte = -model.log_likelihood(verse[0]) / len(verse[0]) / math.log(2)
    assert per_byte < 1.0 < -model.log_likelihood("zyxwvuts") / 8 / math.log(2)
    written = model.write("shall i", 20, np.random.default_rng(0))
    assert len(written) == 20


def test_a_text_of_which_the_model_reads_a_part_is_no_harder_for_the_bytes_before() -> None:
    lines = ["shall i compare thee to a summer's day", "thou art more lovely and more temperate"] * 5
    train = pd.DataFrame({"prompt": [line[:9] for line in lines], "response": [line[9:] for line in lines]})
    test = train.head(2)
    data = BaselineData(train, test, Path(), 128, 0, columns=("prompt", "response"))
    written, confidences = evaluation("text").ngram(data)
    model = ByteModel(train["prompt"] + train["response"])
    texts = (test["prompt"] + test["response"]).tolist()
    nats = -sum(model.log_likelihood(text) for text in texts)
    sizes = [len(text.encode()) for text in texts]
    for read in (sizes, [size // 2 for size in sizes]):  # whole, and cut to `tokenization.max_length`
        records = test.assign(
            prediction=written,
            target_loss=1.0,
            target_tokens=[size // 3 for size in read],
            target_bytes=read,
            **{"baseline:ngram": written, "baseline:ngram:confidence": confidences},
        )
        counts = evaluation("text").counts(records, PLAN, "baseline:ngram")
        bits = evaluation("text").scores(counts.sum(axis=0))["bits_per_byte"]
        assert bits == pytest.approx(nats / math.log(2) / sum(sizes), rel=0.01)


def test_the_nearest_prompt_gives_its_response() -> None:
    def prompt(text: str) -> str:
        return json.dumps([{"role": "user", "content": text}])

    train = pd.DataFrame(
        {
            "prompt": [prompt("where is my card"), prompt("how do i pay rent")],
            "response": ["coming", "online"],
        }
    )
    test = pd.DataFrame({"prompt": [prompt("my card is where?"), prompt("rent")], "response": ["", ""]})
    data = BaselineData(train, test, Path(), 128, 0, columns=("prompt", "response"))
    assert nearest(data)[0].tolist() == ["coming", "online"]
    assert nearest(data)[1] is None

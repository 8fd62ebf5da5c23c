"""BLEU and chrF from counts of single records are sacreBLEU's own; what rivals and tables say."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from catena.errors import SettingsError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.translation import TranslationEvaluation, copied, memory

PLAN = EvaluationPlan(label_names=(), fingerprint="f" * 16, problem={"name": "translation"}, samples=200)
TEXT = "ein Hund läuft , über die grüne Wiese . Zwei Männer sitzen auf einer Bank und lesen Zeitung !"
WORDS = TEXT.split()


def pairs(count: int, likeness: float, seed: int = 1) -> pd.DataFrame:
    """References of made-up sentences, and predictions in which words are replaced or missing."""
    chance = random.Random(seed)
    there, said = [], []
    for _ in range(count):
        words = chance.choices(WORDS, k=chance.randint(3, 14))
        there.append(" ".join(words))
        kept = [word if chance.random() < likeness else chance.choice(WORDS) for word in words]
        said.append(" ".join(word for word in kept if chance.random() < 0.9))
    return pd.DataFrame(
        {
            "id": [f"r{row}" for row in range(count)],
            "text": [f"sentence {row} " + "word " * (row % 9) for row in range(count)],
            "translation": there,
            "prediction": said,
            "target_loss": np.linspace(5.0, 9.0, count),
            "target_tokens": np.arange(count) % 7 + 4,
        }
    )


@pytest.mark.parametrize("likeness", [0.9, 0.5, 0.0])
@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_scores_of_a_corpus_are_those_of_sacrebleu(likeness: float, tokenizer: str) -> None:
    table = pairs(120, likeness)
    found = TranslationEvaluation(tokenizer).values(table, PLAN)
    said, references = table["prediction"].tolist(), [table["translation"].tolist()]
    assert found["bleu"] == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(said, references).score)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(said, references).score)
    assert found["perplexity"] == pytest.approx(
        np.exp(table["target_loss"].sum() / table["target_tokens"].sum())
    )


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("", "Ein Hund läuft ."),
        ("Katze", "Ein Hund läuft ."),
        ("Ein Hund läuft .", "Ein Hund läuft ."),
        ("Ein Hund", "Ein Hund läuft über die Wiese ."),
        ("Guten Tag zusammen", "Hi"),
        ("Ein Hund über Wiese die läuft .", "Ein Hund läuft über die Wiese ."),
    ],
)
def test_scores_of_one_sentence_are_those_of_sacrebleu_even_where_nothing_is_right(
    said: str, there: str
) -> None:
    table = pairs(1, 1.0).assign(prediction=said, translation=there)
    found = TranslationEvaluation().values(table, PLAN)
    assert found["bleu"] == pytest.approx(BLEU().corpus_score([said], [[there]]).score, abs=1e-9)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score([said], [[there]]).score, abs=1e-9)


def test_references_that_are_shorter_than_an_n_gram_count_as_sacrebleu_has_it() -> None:
    said, there = ["Guten Tag zusammen", "Ein Hund läuft ."], ["Hi", "Ein Hund läuft"]
    table = pairs(2, 1.0).assign(prediction=said, translation=there)
    found = TranslationEvaluation().values(table, PLAN)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(said, [there]).score, abs=1e-9)


def test_the_report_says_how_the_scores_were_computed_and_breaks_them_down_by_length() -> None:
    table = pairs(80, 0.7)
    table["baseline:copy"] = table["text"]
    metrics = TranslationEvaluation().score(Predictions(table, PLAN))
    assert metrics["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
    low, high = metrics["intervals"]["bleu"]
    assert low < metrics["bleu"] < high
    assert "perplexity" not in metrics["baselines"]["copy"]
    (lengths,) = metrics["tables"]
    assert sum(row["records"] for row in lengths["rows"]) == 80
    assert "tok:13a" in lengths["caption"]


def test_a_better_model_is_found_better_in_a_paired_test() -> None:
    good, bad = pairs(100, 0.9), pairs(100, 0.4)
    evaluation = TranslationEvaluation()
    bad["translation"] = good["translation"]
    found = evaluation.paired(good, bad, "bleu", PLAN, 0.95)
    assert found.difference > 0
    assert found.p_value < 0.05


def test_rivals_copy_the_source_or_look_it_up_among_what_was_learned_from(tmp_path: Path) -> None:
    train = pd.DataFrame({"text": ["a red dog", "two men sit", "a blue car"], "translation": ["A", "B", "C"]})
    test = pd.DataFrame({"text": ["two old men sit down", "the blue car"], "translation": ["x", "y"]})
    data = BaselineData(train, test, tmp_path, 8, 0, columns=("text", "translation"))
    assert copied(data)[0].tolist() == test["text"].tolist()
    assert memory(data)[0].tolist() == ["B", "C"]


def test_scores_that_say_nothing_of_two_models_cannot_decide() -> None:
    for metric in ("perplexity", "length_ratio"):
        with pytest.raises(SettingsError, match="does not say which of two models"):
            TranslationEvaluation().check_metric(metric)

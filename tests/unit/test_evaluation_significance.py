"""Intervals cover what they promise, and the paired test tells differences from noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from catena.errors import DataError, SettingsError
from catena.evaluation.bootstrap import resampled_margins, resampled_weights
from catena.evaluation.rivals import METRICS, Rival
from catena.evaluation.significance import intervals, paired_difference, wilson_interval

NAMES = ["a", "b", "c"]


def predictions(seed: int, records: int = 300, strength: float = 2.0, noise: float = 0.0) -> pd.DataFrame:
    """Records whose labels depend on `seed` alone, predicted the worse the more `noise` there is."""
    generator = np.random.default_rng(seed)
    actual = generator.choice(3, size=records, p=[0.6, 0.3, 0.1])
    logits = generator.normal(size=(records, 3))
    logits[np.arange(records), actual] += strength
    logits += noise * np.random.default_rng(seed + 1).normal(size=logits.shape)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.array(NAMES, dtype=object)
    return pd.DataFrame(
        {
            "id": [f"{number:06d}" for number in range(records)],
            "label": names[actual],
            "prediction": names[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            **{f"p:{name}": probabilities[:, number] for number, name in enumerate(NAMES)},
        }
    )


def test_intervals_hold_the_score_and_are_the_same_for_the_same_seed() -> None:
    model = Rival.of(predictions(1), NAMES)
    found = intervals(model, METRICS, 400, 7, 0.95)
    assert set(found) == set(METRICS)
    assert found == intervals(model, METRICS, 400, 7, 0.95)
    assert found != intervals(model, METRICS, 400, 8, 0.95)
    for metric in ("accuracy", "macro_f1", "roc_auc", "pr_auc", "log_loss", "brier"):
        low, high = found[metric]
        assert low < model.score(metric) < high


def test_intervals_by_drawn_cells_do_not_depend_on_the_order_of_records() -> None:
    table = predictions(2)
    shuffled = table.sample(frac=1.0, random_state=3)
    first = intervals(Rival.of(table, NAMES), ["accuracy", "macro_f1"], 300, 7, 0.95)
    assert first == intervals(Rival.of(shuffled, NAMES), ["accuracy", "macro_f1"], 300, 7, 0.95)


def test_drawing_cells_is_the_same_bootstrap_as_drawing_records() -> None:
    model = Rival.of(predictions(3), NAMES)
    (cells,) = resampled_margins(model.actual, [model.predicted], 3, 20_000, 1)
    (weights,) = (np.concatenate(list(resampled_weights(300, 20_000, 2))),)
    by_records = weights @ model.correct / 300
    assert np.mean(cells.score("accuracy")) == pytest.approx(by_records.mean(), abs=1e-3)
    assert np.std(cells.score("accuracy")) == pytest.approx(by_records.std(), rel=0.03)


def test_every_resample_draws_as_many_records_as_there_are() -> None:
    weights = np.concatenate(list(resampled_weights(50, 20, 1)))
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()


def test_ninety_percent_intervals_cover_the_true_accuracy_in_about_ninety_percent_of_samples() -> None:
    truth = 0.8
    generator = np.random.default_rng(11)
    covered = 0
    for number in range(300):
        right = generator.random(200) < truth
        actual = generator.integers(2, size=200)
        model = Rival(("a", "b"), actual, np.where(right, actual, 1 - actual))
        low, high = intervals(model, ["accuracy"], 300, number, 0.9)["accuracy"]
        covered += low <= truth <= high
    assert 0.85 <= covered / 300 <= 0.95


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert wilson_interval(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_does_not_differ_from_itself(metric: str) -> None:
    table = predictions(4)
    test = paired_difference(table, table.sample(frac=1.0, random_state=1), metric, 200, 5)
    assert (test.difference, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_clearly_better_model_is_found_to_be_better(metric: str) -> None:
    good, bad = predictions(5, 600, strength=3.0), predictions(5, 600, strength=3.0, noise=3.0)
    test = paired_difference(good, bad, metric, 300, 5)
    back = paired_difference(bad, good, metric, 300, 5)
    assert test.gain > 0
    assert test.p_value < 0.01
    assert test.low <= test.difference <= test.high
    assert back.difference == pytest.approx(-test.difference)


def test_two_equally_good_models_rarely_differ_significantly() -> None:
    significant = 0
    for seed in range(100):
        first = predictions(seed, 200)
        second = first.copy()
        # The two err on different records, equally often.
        rows = np.random.default_rng(seed).permutation(200)[:40]
        first.loc[rows[:20], "prediction"] = "a"
        second.loc[rows[20:], "prediction"] = "a"
        significant += paired_difference(first, second, "accuracy", 300, seed).p_value < 0.05
    assert significant <= 12


def test_the_difference_is_that_of_the_two_scores() -> None:
    first = pd.DataFrame({"id": ["1", "2", "3", "4"], "label": list("aabb"), "prediction": list("aabb")})
    second = first.assign(prediction=list("abbb"))
    test = paired_difference(first, second, "accuracy", 100, 1)
    assert (test.score_a, test.score_b, test.difference) == (1.0, 0.75, 0.25)
    # Nothing speaks for the second model, but with one record of four it often is not drawn.
    assert test.p_value > 0.05


def test_tables_with_different_records_or_labels_are_refused() -> None:
    table = predictions(6, 20)
    with pytest.raises(DataError, match="not tested on the same records"):
        paired_difference(table, table.iloc[1:], "accuracy", 100, 1)
    other = table.copy()
    other.loc[3, "label"] = "c" if other.loc[3, "label"] != "c" else "a"
    with pytest.raises(DataError, match="Record '000003' has label"):
        paired_difference(table, other, "accuracy", 100, 1)
    with pytest.raises(DataError, match="record '000000' twice"):
        paired_difference(table, pd.concat([table, table.iloc[:1]]), "accuracy", 100, 1)
    with pytest.raises(DataError, match="first model's predictions have no column `id`"):
        paired_difference(table.drop(columns="id"), table, "accuracy", 100, 1)
    with pytest.raises(SettingsError, match="no metric `f3`"):
        paired_difference(table, table, "f3", 100, 1)

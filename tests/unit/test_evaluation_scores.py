"""Scores agree with hand-worked values and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from catena.errors import DataError, SettingsError
from catena.evaluation.calibration import bin_numbers, calibration_error, reliability
from catena.evaluation.rivals import METRICS, Rival
from catena.evaluation.scores import class_numbers, confusion_matrix, margins

NAMES = ("a", "b", "c", "d")


def rival(actual: np.ndarray, probabilities: np.ndarray) -> Rival:
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    return Rival(NAMES[: probabilities.shape[1]], actual, predicted, confidence, probabilities)


@st.composite
def rivals(draw: st.DrawFn) -> Rival:
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    classes = draw(st.integers(2, 4))
    records = draw(st.integers(classes, 60))
    actual = np.concatenate([np.arange(classes), generator.integers(classes, size=records - classes)])
    # Rounded, so that ties occur.
    logits = generator.normal(size=(records, classes)).round(1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return rival(actual, probabilities)


def test_scores_of_a_small_confusion_matrix_are_those_worked_out_by_hand() -> None:
    # Two of three a right, one b right, the other b taken for a.
    actual = np.array([0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 1, 1, 0])
    scores = margins(confusion_matrix(actual, predicted, 2))
    assert scores.precision.tolist() == pytest.approx([2 / 3, 1 / 2])
    assert scores.recall.tolist() == pytest.approx([2 / 3, 1 / 2])
    assert float(scores.score("accuracy")) == pytest.approx(3 / 5)
    assert float(scores.score("macro_f1")) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert float(scores.score("weighted_f1")) == pytest.approx(3 / 5 * 2 / 3 + 2 / 5 * 1 / 2)


def test_macro_scores_count_a_class_of_the_list_that_never_occurs_as_zero() -> None:
    scores = margins(confusion_matrix(np.array([0, 1]), np.array([0, 1]), 3))
    assert float(scores.score("macro_f1")) == pytest.approx(2 / 3)
    assert float(scores.score("balanced_accuracy")) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(rivals())
def test_every_score_equals_scikit_learns(one: Rival) -> None:
    actual, predicted = one.actual, one.predicted
    labels = range(len(one.label_names))
    probabilities = one.probabilities
    assert probabilities is not None
    expected = {
        "accuracy": reference.accuracy_score(actual, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(actual, predicted),
        "matthews_correlation": reference.matthews_corrcoef(actual, predicted),
        "log_loss": reference.log_loss(actual, probabilities, labels=list(labels)),
        "brier": reference.brier_score_loss(actual, probabilities, labels=list(labels), scale_by_half=False),
    }
    for average in ("micro", "macro", "weighted"):
        values = reference.precision_recall_fscore_support(
            actual, predicted, labels=list(labels), average=average, zero_division=0
        )
        expected |= {
            f"{average}_{kind}": value
            for kind, value in zip(("precision", "recall", "f1"), values[:3], strict=True)
        }
    binary = np.eye(len(one.label_names))[actual]
    expected["roc_auc"] = reference.roc_auc_score(binary, probabilities, average="macro")
    expected["pr_auc"] = reference.average_precision_score(binary, probabilities, average="macro")
    for name, value in expected.items():
        assert one.score(name) == pytest.approx(value, abs=1e-9), name


@settings(max_examples=30, deadline=None)
@given(rivals(), st.integers(0, 1000))
def test_scores_do_not_depend_on_the_order_of_records(one: Rival, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(one.actual))
    assert one.probabilities is not None
    shuffled = rival(one.actual[order], one.probabilities[order])
    for name in METRICS:
        assert shuffled.score(name) == pytest.approx(one.score(name), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(rivals(), st.integers(0, 1000))
def test_a_record_drawn_twice_counts_like_the_record_written_twice(one: Rival, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, size=len(one.actual))
    counts[: len(one.label_names)] += 1
    repeated = np.repeat(np.arange(len(one.actual)), counts)
    assert one.probabilities is not None
    written = rival(one.actual[repeated], one.probabilities[repeated])
    for name in ("roc_auc", "pr_auc", "log_loss", "brier", "calibration_error"):
        weighted = float(one.weighted(name, counts.astype(float)))
        assert weighted == pytest.approx(written.score(name), abs=1e-9)


def test_the_calibration_error_is_the_one_worked_out_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    # |0.75 - 0.95| over four records, |0.5 - 0.55| over two.
    expected = (4 * 0.2 + 2 * 0.05) / 6
    assert float(calibration_error(confidence, correct, np.ones(6))) == pytest.approx(expected)
    assert [one.records for one in reliability(confidence, correct)] == [2, 4]


def test_a_confidence_on_the_edge_belongs_to_the_bin_that_ends_there() -> None:
    assert bin_numbers(np.array([0.0, 0.2, 0.2000001, 1.0])).tolist() == [0, 2, 3, 14]


def test_areas_under_curves_leave_out_classes_that_do_not_occur() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])
    one = rival(np.array([0, 1]), probabilities)
    assert one.score("roc_auc") == 1.0
    assert np.isnan(rival(np.array([0, 0]), probabilities).score("roc_auc"))


def test_an_unknown_label_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match=r"`label`, row 2: 'x' is not among the model's 2 labels"):
        class_numbers(pd.Series(["a", "x"]), ["a", "b"], "label")


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    one = rival(np.array([0, 1]), np.array([[0.7, 0.3], [0.3, 0.7]]))
    with pytest.raises(SettingsError, match="no metric `f2`; choose one of accuracy"):
        one.score("f2")


def test_a_metric_needs_the_columns_it_is_computed_from() -> None:
    table = pd.DataFrame({"label": ["a", "b"], "prediction": ["a", "b"]})
    one = Rival.of(table, ["a", "b"])
    assert one.score("accuracy") == 1.0
    with pytest.raises(DataError, match="no column `p:<label>`"):
        one.score("log_loss")


def test_probabilities_that_are_none_are_refused() -> None:
    table = pd.DataFrame({"label": ["a"], "prediction": ["a"], "confidence": [1.5]})
    with pytest.raises(DataError, match="`confidence` holds something other than probabilities"):
        Rival.of(table, ["a", "b"])

"""Scores from sums: the bootstrap, paired tests, slices and the report of any counted evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, root_mean_squared_error

from catena.errors import DataError, SettingsError
from catena.evaluation.counted import ResultTable
from catena.evaluation.images import ImageEvaluation
from catena.evaluation.numbers import NumberEvaluation
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.report import ReportSource
from catena.evaluation.sets import SetEvaluation
from catena.problems.multilabel import canonical_labels, membership
from catena.problems.regression import canonical_number
from catena.registry.gate import Contender, Resampling, decide
from catena.settings import GateSettings

NUMBERS = EvaluationPlan(("0 ± 1",), "f" * 64, problem={"name": "regression"}, samples=200, seed=5)
SETS = EvaluationPlan(("a", "b", "c"), "f" * 64, problem={"name": "multilabel"}, samples=200, seed=5)


def number_table(noise: float, records: int = 80, seed: int = 1) -> pd.DataFrame:
    """Targets that do not depend on `noise`, and predictions that are off by about as much."""
    generator = np.random.default_rng(seed)
    there = generator.normal(5.0, 2.0, records).round(1)
    said = there + noise * generator.normal(0.0, 1.0, records)
    return pd.DataFrame(
        {
            "id": [f"{n:04d}" for n in range(records)],
            "text": [f"text {n} " + "word " * (n % 9) for n in range(records)],
            "region": [f"r{n % 2}" for n in range(records)],
            "target": [canonical_number(value) for value in there],
            "prediction": [canonical_number(value) for value in said],
        }
    )


def set_table(right: float, records: int = 60, seed: int = 1) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    there = generator.random((records, 3)) < 0.4
    said = np.where(generator.random((records, 3)) < right, there, ~there)
    names = np.array(["a", "b", "c"], dtype=object)
    return pd.DataFrame(
        {
            "id": [f"{n:04d}" for n in range(records)],
            "text": [f"text {n}" for n in range(records)],
            "labels": [canonical_labels(names[row]) for row in there],
            "prediction": [canonical_labels(names[row]) for row in said],
        }
    )


def draws(records: int, plan: EvaluationPlan) -> np.ndarray:
    """The records of each resample `(samples, records)`, drawn as NumPy draws them from the seed."""
    return np.random.default_rng(plan.seed).integers(records, size=(plan.samples, records))


def resampled(
    table: pd.DataFrame, plan: EvaluationPlan, score: Callable[[pd.DataFrame], float]
) -> np.ndarray:
    return np.array([score(table.iloc[chosen]) for chosen in draws(len(table), plan)])


def as_numbers(score: Callable[..., float]) -> Callable[[pd.DataFrame], float]:
    return lambda table: score(table["target"].astype(float), table["prediction"].astype(float))


def micro_f1(table: pd.DataFrame) -> float:
    there, said = (membership(table[column], SETS.label_names) for column in ("labels", "prediction"))
    return float(f1_score(there, said, average="micro"))


def test_intervals_are_those_of_scoring_each_resample_anew() -> None:
    table = number_table(1.0)
    intervals = NumberEvaluation().score(Predictions(table, NUMBERS))["intervals"]
    scores = {"mae": mean_absolute_error, "rmse": root_mean_squared_error, "r2": r2_score}
    for name, score in scores.items():
        expected = np.quantile(resampled(table, NUMBERS, as_numbers(score)), [0.025, 0.975])
        assert intervals[name] == pytest.approx(expected.tolist(), abs=1e-6)
    sets = set_table(0.8)
    found = SetEvaluation().score(Predictions(sets, SETS))["intervals"]["micro_f1"]
    assert found == pytest.approx(np.quantile(resampled(sets, SETS, micro_f1), [0.025, 0.975]), abs=1e-6)


def test_a_paired_difference_resamples_the_same_records_for_both() -> None:
    ours, theirs = number_table(1.0), number_table(2.0)
    test = NumberEvaluation().paired(ours, theirs.sample(frac=1.0, random_state=0), "mae", NUMBERS, 0.9)
    mae = as_numbers(mean_absolute_error)
    differences = resampled(ours, NUMBERS, mae) - resampled(theirs, NUMBERS, mae)
    assert (test.low, test.high) == pytest.approx(tuple(np.quantile(differences, [0.05, 0.95])))
    assert test.difference == pytest.approx(mae(ours) - mae(theirs))
    # None of the 200 resamples has it the other way round; the observed one counts too.
    assert (differences < 0).all()
    assert test.p_value == pytest.approx(2 / 201)


def test_less_error_is_a_gain_and_more_f1_is_one_too() -> None:
    better, worse = number_table(1.0), number_table(2.0)
    evaluation = NumberEvaluation()
    forth = evaluation.paired(better, worse, "mae", NUMBERS, 0.95)
    back = evaluation.paired(worse, better, "mae", NUMBERS, 0.95)
    assert forth.difference < 0 < forth.gain
    assert back.gain == pytest.approx(-forth.gain)
    sets = SetEvaluation().paired(set_table(0.9), set_table(0.6), "micro_f1", SETS, 0.95)
    assert sets.difference == sets.gain > 0
    assert sets.p_value < 0.05


def test_a_model_is_level_with_itself() -> None:
    table = number_table(1.0)
    test = NumberEvaluation().paired(table, table, "r2", NUMBERS, 0.95)
    assert (test.difference, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_models_tested_on_other_records_are_not_compared() -> None:
    table = number_table(1.0)
    evaluation = NumberEvaluation()
    with pytest.raises(DataError, match="not tested on the same records"):
        evaluation.paired(table, table[1:], "mae", NUMBERS, 0.95)
    with pytest.raises(DataError, match=r"has target '.*' in one table and '77' in the other"):
        evaluation.paired(table, table.assign(target="77"), "mae", NUMBERS, 0.95)
    with pytest.raises(SettingsError, match="There is no metric `accuracy`; choose one of mae, rmse"):
        evaluation.paired(table, table, "accuracy", NUMBERS, 0.95)


def test_slices_have_the_scores_of_their_records_and_a_bad_one_is_marked() -> None:
    table = number_table(1.0, records=120)
    there = table["target"].astype(float)
    bad = table["region"] == "r1"
    table.loc[bad, "prediction"] = [canonical_number(value + 4.0) for value in there[bad]]
    plan = replace(NUMBERS, slices=("region",))
    rows = NumberEvaluation().score(Predictions(table, plan))["slices"]
    regions = {row["name"]: row for row in rows if row["group"] == "region"}
    mae = as_numbers(mean_absolute_error)
    assert regions["r1"]["score"] == pytest.approx(4.0)
    assert regions["r1"]["rest"] == pytest.approx(mae(table[~bad]), abs=1e-6)
    assert (regions["r0"]["worse"], regions["r1"]["worse"]) == (False, True)
    assert {row["group"] for row in rows} == {"characters", "region"}


def _decide(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, bool]:
    evaluation = NumberEvaluation()
    sides = [Contender(name, table, ("0 ± 1",), 1) for name, table in (("2", ours), ("1", theirs))]
    decision = decide(
        sides[0],
        sides[1],
        GateSettings(max_latency_ratio=None),
        Resampling(200, 5),
        evaluation=evaluation,
        slices=evaluation.slices(ours, ["region"]),
    )
    return {check.name: check.passed for check in decision.checks}


def test_the_gate_lets_smaller_errors_pass_and_stops_a_slice_with_larger_ones() -> None:
    theirs = number_table(1.0, records=160)
    checks = _decide(number_table(0.5, records=160), theirs)
    assert all(checks.values())
    assert {"floor:r2", "paired:rmse", "slices"} <= set(checks)
    # Better on the whole, but twice as far off in one region.
    mixed = number_table(0.05, records=160)
    bad = mixed["region"] == "r1"
    there, said = theirs["target"].astype(float), theirs["prediction"].astype(float)
    mixed.loc[bad, "prediction"] = [canonical_number(value) for value in (there + 1.5 * (said - there))[bad]]
    checks = _decide(mixed, theirs)
    assert checks["paired:rmse"]
    assert not checks["slice:region=r1"]


def test_the_report_says_whether_fine_tuning_pays_also_where_lower_is_better(tmp_path: Path) -> None:
    evaluation = NumberEvaluation()
    for ours, theirs, sentence in (
        (0.5, 2.0, "Fine-tuning pays"),
        (2.0, 0.5, "A simpler model does better"),
        (1.0, 1.0, "Not shown to be better"),
    ):
        table = number_table(ours)
        table["baseline:mean"] = number_table(theirs)["prediction"]
        predictions = Predictions(table, NUMBERS)
        source = ReportSource("prices", predictions, evaluation.score(predictions))
        evaluation.write_report(tmp_path / "report.html", source)
        assert sentence in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_escapes_all_text_from_data_and_loads_nothing(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    table = set_table(0.7)
    names = (evil, "b", "c")
    for column in ("labels", "prediction"):
        table[column] = [target.replace('"a"', f'"{evil}"') for target in table[column]]
    table["text"] = evil + table["text"]
    table["source"], table["row"] = f"{evil}.csv", range(len(table))
    table["baseline:majority"] = "[]"
    predictions = Predictions(table, replace(SETS, label_names=names))
    evaluation = SetEvaluation()
    source = ReportSource(
        f"{evil}", predictions, evaluation.score(predictions), made_with={evil: {evil: evil}}
    )
    evaluation.write_report(tmp_path / "report.html", source)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    assert 'src="' not in page
    assert "http" not in page.replace("http://www.w3.org/", "")
    first = page
    evaluation.write_report(tmp_path / "report.html", source)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == first


def test_the_tables_are_written_for_plots(tmp_path: Path) -> None:
    predictions = Predictions(set_table(0.7), SETS)
    SetEvaluation().write_plots(tmp_path / "plots", predictions)
    table = pd.read_csv(tmp_path / "plots" / "classes.csv")
    assert table["class"].tolist()[:3] == ["a", "b", "c"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["classes.csv", "sizes.csv"]


def test_line_breaks_of_running_text_are_kept_in_the_report(tmp_path: Path) -> None:
    class WithVerses(NumberEvaluation):
        def tables(self, predictions: Predictions) -> list[ResultTable]:
            columns = {"name": "Name", "verse": "Verse", "code": "Code"}
            rows = [{"name": "n", "verse": "one\ntwo <b>", "code": "1\n2"}]
            return [ResultTable("verses", "Verses", columns, rows, running=("verse",))]

    evaluation = WithVerses()
    predictions = Predictions(number_table(1.0), NUMBERS)
    source = ReportSource("verses", predictions, evaluation.score(predictions))
    evaluation.write_report(tmp_path / "report.html", source)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<td class="text" style="white-space:pre-line">one\ntwo &lt;b&gt;</td>' in page
    assert '<td class="n">1\n2</td>' in page


def test_a_record_is_told_by_its_row_and_an_image_by_its_file() -> None:
    record = {"source": "a.csv", "row": 7, "file": "disc/1.png"}
    assert NumberEvaluation().where(record) == "a.csv, row 7"
    assert ImageEvaluation().where(record) == "disc/1.png"
    assert ImageEvaluation().where({"source": "a.csv", "row": 7}) == "a.csv, row 7"
    assert NumberEvaluation().where({"id": "1"}) == ""

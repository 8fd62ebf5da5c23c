"""The gate on predictions made up so that every figure can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from catena.errors import SettingsError
from catena.evaluation.classes import ClassEvaluation
from catena.evaluation.numbers import NumberEvaluation
from catena.evaluation.slices import Slice, find_slices
from catena.registry.gate import Contender, Decision, Resampling
from catena.registry.gate import decide as decide_by
from catena.settings import GateSettings

LABELS = ("no", "yes")
RESAMPLING = Resampling(samples=300, seed=1)
SETTINGS = GateSettings(metric="accuracy", floors={"accuracy": 0.5})


def decide(
    challenger: Contender,
    champion: Contender | None,
    settings: GateSettings,
    resampling: Resampling,
    **given: Any,
) -> Decision:
    """The gate's decision on classes."""
    return decide_by(challenger, champion, settings, resampling, evaluation=ClassEvaluation(), **given)


def contender(right: list[int], version: str = "1", size: int = 1000, confidence: float = 0.8) -> Contender:
    """A model that gets record i right where `right[i]` is 1; classes alternate."""
    labels = np.array([LABELS[number % 2] for number in range(len(right))], dtype=object)
    wrong = np.array([LABELS[(number + 1) % 2] for number in range(len(right))], dtype=object)
    predicted = np.where(np.array(right, dtype=bool), labels, wrong)
    table = pd.DataFrame(
        {
            "id": [f"{number:016x}" for number in range(len(right))],
            "label": labels,
            "prediction": predicted,
            "confidence": confidence,
            "p:no": np.where(predicted == "no", confidence, 1 - confidence),
            "p:yes": np.where(predicted == "yes", confidence, 1 - confidence),
        }
    )
    return Contender(version, table, LABELS, size)


def share(hits: int, records: int = 200) -> list[int]:
    return [1] * hits + [0] * (records - hits)


def failed(decision_checks: object) -> list[str]:
    return [check.name for check in decision_checks if not check.passed]  # type: ignore[attr-defined]


def test_without_a_champion_the_floors_alone_decide() -> None:
    passed = decide(contender(share(160)), None, SETTINGS, RESAMPLING)
    assert passed.promoted
    assert [check.name for check in passed.checks] == ["floor:accuracy"]
    assert passed.checks[0].challenger == pytest.approx(0.8)
    assert passed.reasons == [
        "The test accuracy of 0.8000 meets the floor of 0.5000.",
        "There was no champion to compare with.",
    ]
    assert not decide(contender(share(90)), None, SETTINGS, RESAMPLING).promoted


def test_a_floor_of_a_loss_is_a_ceiling() -> None:
    settings = GateSettings(floors={"log_loss": 0.3})
    # All right with confidence 0.8: log loss -ln 0.8 = 0.2231. With half wrong it is far above 0.3.
    assert decide(contender(share(200)), None, settings, RESAMPLING).promoted
    decision = decide(contender(share(100)), None, settings, RESAMPLING)
    assert failed(decision.checks) == ["ceiling:log_loss"]


def test_what_is_not_defined_meets_no_floor_and_is_worse_than_what_is() -> None:
    def numbers(values: list[float], targets: list[float]) -> Contender:
        table = pd.DataFrame({"target": targets, "prediction": values, "value": values}).astype("str")
        table["value"] = values
        return Contender("1", table.assign(id=[f"{row:x}" for row in range(len(values))]), (), 1000)

    evaluation = NumberEvaluation()
    constant = numbers([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    given: dict[str, Any] = {"resampling": RESAMPLING, "evaluation": evaluation}
    (floor,) = decide_by(constant, None, GateSettings(floors={"r2": 0.0}), **given).checks
    assert not floor.passed
    assert floor.text == "The test R² is not defined on these records and misses the floor of 0.0000."
    assert floor.as_dict()["challenger"] is None

    collapsed, varied = (numbers(values, [1.0, 2.0, 3.0]) for values in ([2.0] * 3, [1.1, 2.2, 2.9]))
    settings = GateSettings(metric="pearson", floors={})
    for rivals, passed in (((collapsed, varied), False), ((varied, collapsed), True)):
        check = decide_by(*rivals, settings, **given).checks[0]
        assert check.passed == passed
        assert check.text.endswith("is not defined on these records.")


def test_an_unknown_metric_is_named_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"no metric `acuracy`.*accuracy"):
        decide(contender(share(10)), None, GateSettings(floors={"acuracy": 0.5}), RESAMPLING)


def test_an_equal_challenger_passes_unless_improvement_is_required() -> None:
    equal = contender(share(160)), contender(share(160))
    decision = decide(*equal, SETTINGS, RESAMPLING)
    assert decision.promoted
    assert decision.checks[2].text == "No slice has the 30 test records it takes to decide."
    assert "level with" in decision.checks[1].text
    strict = SETTINGS.model_copy(update={"require_improvement": True})
    decision = decide(*equal, strict, RESAMPLING)
    assert failed(decision.checks) == ["paired:accuracy"]
    assert "a significant improvement is required" in decision.reasons[0]


def test_a_clearly_better_challenger_passes_where_improvement_is_required() -> None:
    strict = SETTINGS.model_copy(update={"require_improvement": True, "max_calibration_increase": 1.0})
    decision = decide(contender(share(190)), contender(share(150)), strict, RESAMPLING)
    assert decision.promoted
    assert "significantly better" in decision.checks[1].text


def test_a_clearly_worse_challenger_is_kept_out_with_the_figures_in_the_reason() -> None:
    decision = decide(contender(share(150)), contender(share(190)), SETTINGS, RESAMPLING)
    assert "paired:accuracy" in failed(decision.checks)
    assert decision.reasons[0].startswith(
        "The accuracy of 0.7500 is significantly worse than the champion's 0.9500 on the same 200 test"
    )


def test_the_order_of_the_champions_records_does_not_matter() -> None:
    champion = contender(share(150))
    shuffled = Contender("1", champion.predictions.sample(frac=1, random_state=3), LABELS, 1000)
    assert (
        decide(contender(share(190)), shuffled, SETTINGS, RESAMPLING).reasons
        == decide(contender(share(190)), champion, SETTINGS, RESAMPLING).reasons
    )


def sliced(lost: int, records: int) -> tuple[Contender, Contender, list[Slice]]:
    """A challenger that is right but on the first `lost` records, a champion right but on the last."""
    own = [0] * lost + [1] * (400 - lost)
    other = [1] * records + [1] * (400 - records - lost) + [0] * lost
    inside = np.arange(400) < records
    return contender(own), contender(other), [Slice("source", "phone", inside)]


def test_a_slice_made_worse_keeps_a_challenger_out_that_is_level_over_all() -> None:
    own, other, slices = sliced(lost=10, records=50)
    settings = SETTINGS.model_copy(update={"max_slice_drop": 0.1})
    decision = decide(own, other, settings, RESAMPLING, slices=slices)
    assert failed(decision.checks) == ["slice:source=phone"]
    check = next(check for check in decision.checks if check.name == "slice:source=phone")
    assert (check.challenger, check.champion) == (pytest.approx(0.8), 1.0)
    assert "50 test records with source phone falls from 1.0000 to 0.8000" in check.text


def test_small_slices_and_small_drops_do_not_decide() -> None:
    own, other, slices = sliced(lost=10, records=50)
    for change in ({"min_slice_records": 51}, {"max_slice_drop": 0.2}):
        assert decide(own, other, SETTINGS.model_copy(update=change), RESAMPLING, slices=slices).promoted


def test_slices_of_the_evaluation_fit_the_gate() -> None:
    own = contender([0] * 60 + [1] * 60)
    decision = decide(
        own, contender(share(120, 120)), SETTINGS, RESAMPLING, slices=find_slices(own.predictions)
    )
    assert {"slice:class=no", "slice:class=yes"} <= set(failed(decision.checks))


def test_worse_calibration_keeps_a_challenger_out() -> None:
    # All right: the error is 1 - confidence, so 0.05 for the champion and 0.4 for the challenger.
    own, other = contender(share(200), confidence=0.6), contender(share(200), confidence=0.95)
    decision = decide(own, other, SETTINGS, RESAMPLING)
    assert failed(decision.checks) == ["calibration"]
    check = next(check for check in decision.checks if check.name == "calibration")
    assert (check.challenger, check.champion) == (pytest.approx(0.4), pytest.approx(0.05))


@pytest.mark.parametrize(("ratio", "passes"), [(2.0, True), (2.01, False), (None, True)])
def test_latency_is_checked_where_it_was_measured_and_leaves_no_figure_behind(
    ratio: float | None, passes: bool
) -> None:
    decision = decide(contender(share(160)), contender(share(160)), SETTINGS, RESAMPLING, latency_ratio=ratio)
    assert decision.promoted == passes
    latency = [check for check in decision.checks if check.name == "latency"]
    assert len(latency) == (ratio is not None)
    assert all(check.challenger is None and check.champion is None for check in latency)


def test_a_model_grown_beyond_the_ratio_is_kept_out() -> None:
    decision = decide(
        contender(share(160), size=2001), contender(share(160), size=1000), SETTINGS, RESAMPLING
    )
    assert failed(decision.checks) == ["size"]
    assert decide(
        contender(share(160), size=2000), contender(share(160), size=1000), SETTINGS, RESAMPLING
    ).promoted


def test_a_class_that_the_champion_does_not_know_counts_against_it() -> None:
    new = contender(share(200))
    records = new.predictions.assign(
        label=["maybe"] * 60 + list(new.predictions["label"][60:]),
        prediction=["maybe"] * 60 + list(new.predictions["prediction"][60:]),
    )
    own = Contender("2", records.assign(**{"p:maybe": 0.0}), (*LABELS, "maybe"), 1000)
    other = Contender("1", contender(share(200)).predictions.assign(label=records["label"]), LABELS, 1000)
    strict = SETTINGS.model_copy(update={"require_improvement": True, "max_calibration_increase": 1.0})
    decision = decide(own, other, strict, RESAMPLING)
    assert decision.promoted
    assert decision.checks[1].champion == pytest.approx(0.7)


def test_the_same_predictions_give_the_same_report_each_time() -> None:
    decisions = [decide(contender(share(170)), contender(share(160)), SETTINGS, RESAMPLING) for _ in range(2)]
    assert [c.as_dict() for c in decisions[0].checks] == [c.as_dict() for c in decisions[1].checks]

"""A version meets a champion that was tested on the same records, whatever problem they solve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.problems import PROBLEMS
from catena.registry.contest import champion_predictions, predictions_name, stored_predictions
from catena.registry.gate import Contender, Resampling, decide
from catena.registry.packaging import LINEAGE
from catena.settings import GateSettings

#: The inputs of four records; the target; a prediction that is right, and one that is wrong.
RECORDS: dict[str, tuple[dict[str, Any], list[str], list[str], list[str]]] = {
    "classification": ({"text": list("wxyz")}, list("abab"), list("abab"), list("baba")),
    "images": ({"image": list("wxyz")}, list("abab"), list("abab"), list("baba")),
    "multilabel": ({"text": list("wxyz")}, ['["a"]', "[]"] * 2, ['["a"]', "[]"] * 2, ['["b"]'] * 4),
    "regression": ({"text": list("wxyz")}, list("1234"), list("1234"), list("4321")),
    "ranking": (
        {"query": list("qqrr"), "item": list("wxyz"), "list": list("1122")},
        list("1010"), ["0.9", "0.1"] * 2, ["0.1", "0.9"] * 2,
    ),
    "tagging": (
        {"text": ["Ann ran", "No one"] * 2},
        ['[[0,3,"a"]]', "[]"] * 2, ['[[0,3,"a"]]', "[]"] * 2, ["[]"] * 4,
    ),
    "answering": (
        {"question": ["Who?"] * 4, "context": ["Ann ran"] * 4},
        ['[[0,"Ann"]]'] * 4, ['[[0,"Ann"]]'] * 4, ['[[4,"ran"]]'] * 4,
    ),
    "translation": ({"text": list("wxyz")}, ["the sea is blue"] * 4, ["the sea is blue"] * 4, ["a hat"] * 4),
    "generation": ({"prompt": ["[]"] * 4}, ["the sea is blue"] * 4, ["the sea is blue"] * 4, ["a hat"] * 4),
}  # fmt: skip


def judged(name: str, good: bool) -> Predictions:
    inputs, target, right, wrong = RECORDS[name]
    plan = EvaluationPlan(("a", "b"), "f" * 64, problem={"name": name}, samples=50)
    problem = Predictions(pd.DataFrame(), plan).problem
    records = pd.DataFrame(
        {
            "id": list("1234"), **inputs, problem.target_role: target, "prediction": right if good else wrong,
            "confidence": 0.9, "target_loss": 2.0 if good else 9.0, "target_tokens": 4, "target_bytes": 15,
        }
    )  # fmt: skip
    for label in plan.label_names:
        records[f"p:{label}"] = [0.9 if said == label else 0.1 for said in records["prediction"]]
    if name in ("regression", "ranking"):
        records["prediction"] = records["prediction"].astype(float)
    return Predictions(records, plan)


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_better_version_wins_over_what_the_champion_left(name: str, tmp_path: Path) -> None:
    ours, theirs = judged(name, True), judged(name, False)
    stored = tmp_path / LINEAGE / predictions_name()
    stored.parent.mkdir(parents=True)
    stored.write_bytes(stored_predictions(theirs))
    left = champion_predictions(tmp_path, tmp_path, ours)
    assert left["prediction"].tolist() == theirs.records["prediction"].tolist()
    decision = decide(
        Contender("2", ours.records, ours.plan.label_names, 1),
        Contender("1", left, theirs.plan.label_names, 1),
        GateSettings(floors={}, max_latency_ratio=None),
        Resampling(50, 1),
        evaluation=ours.evaluation,
        slices=[],
    )
    assert decision.promoted, [check.text for check in decision.checks]
    assert any(check.name.startswith("paired:") for check in decision.checks)

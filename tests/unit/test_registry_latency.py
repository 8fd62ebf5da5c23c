"""Latency for the gate: measured on records as they are, with all the inputs of their problem."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from catena.errors import ModelError
from catena.registry.contest import typical_records
from catena.registry.latency import BUDGET, FEWEST_ROUNDS, ROUNDS, another_round, latencies
from tests.tiny_model import build_tiny_ranker


def test_typical_records_have_all_inputs_and_lengths_around_the_median() -> None:
    lengths = [*range(1, 101), 10_000]
    records = pd.DataFrame(
        {"query": ["q" * length for length in lengths], "item": ["i" * length for length in lengths], "x": 1}
    )
    found = typical_records(records, ("query", "item"))
    assert len(found) == ROUNDS == 40
    # The median of 1 … 100, 10,000 is 51; the 40 nearest are 31 … 70 or 32 … 71 (31 and 71 are as near).
    assert [len(one["query"]) for one in found][1:-1] == list(range(32, 70))
    assert all(one["item"] == "i" * len(one["query"]) and one.keys() == {"query", "item"} for one in found)


def test_nothing_is_measured_where_the_records_hold_no_input() -> None:
    assert typical_records(pd.DataFrame({"id": ["a"], "query": ["b"]}), ("query", "item")) == []
    assert typical_records(pd.DataFrame({"text": []}), ("text",)) == []


@pytest.mark.parametrize(
    ("seconds", "rounds"),
    [(0.01, 40), (1.4, 40), (3.0, 20), (7.0, 9), (30.0, 5)],  # 9 rounds: after 8 it is 56 s
)
def test_models_that_write_for_seconds_are_timed_less_often_but_five_times_at_least(
    seconds: float, rounds: int
) -> None:
    done = 0
    while another_round(done, done * seconds, FEWEST_ROUNDS, ROUNDS, BUDGET):
        done += 1
    assert done == rounds


def test_two_models_are_timed_on_the_same_records_in_a_process_of_their_own(tmp_path: Path) -> None:
    models = [build_tiny_ranker(tmp_path / name / "model", seed=seed) for seed, name in enumerate("ab")]
    records = [{"query": f"number {at}", "item": "wheat and barley"} for at in range(5)]
    own, other = latencies(models[0], models[1], records)
    assert 0 < own < 10 and 0 < other < 10
    (models[1] / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        latencies(models[0], models[1], records)

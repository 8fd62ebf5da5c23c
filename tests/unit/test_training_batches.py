"""Batches are planned: every record once an epoch, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catena.training.batches import PAD_TO, plan_inference, plan_training
from catena.training.timetable import evaluation_steps

lengths_lists = st.lists(st.integers(1, 200), min_size=1, max_size=300)


def plan(lengths, **options):  # type: ignore[no-untyped-def]
    defaults = {
        "batch_tokens": 256,
        "batch_size": 16,
        "epochs": 2.0,
        "gradient_accumulation": 1,
        "max_steps": None,
        "seed": 3,
    }
    return plan_training(lengths, **(defaults | options))


@settings(max_examples=60, deadline=None)
@given(lengths_lists)
def test_each_epoch_holds_every_record_exactly_once(lengths: list[int]) -> None:
    made = plan(lengths)
    first, second = made.epoch_ends
    for batches in (made.batches[:first], made.batches[first:second]):
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))


@settings(max_examples=60, deadline=None)
@given(lengths_lists)
def test_a_batch_keeps_to_the_token_budget_unless_one_record_alone_exceeds_it(lengths: list[int]) -> None:
    for batch in plan(lengths).batches:
        longest = max(lengths[row] for row in batch)
        padded = -(-longest // PAD_TO) * PAD_TO * len(batch)
        assert len(batch) <= 16
        assert padded <= 256 or len(batch) == 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 400)
    assert plan(lengths).batches == plan(lengths).batches
    assert plan(lengths).batches != plan(lengths, seed=4).batches


def test_epochs_differ_in_order() -> None:
    made = plan(np.full(200, 16))
    end = made.epoch_ends[0]
    assert made.batches[:end] != made.batches[end:]


def test_a_batch_holds_similar_lengths_so_little_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 128, 5000)
    made = plan(lengths, batch_tokens=4096, batch_size=32, epochs=1.0)
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in made.batches)
    assert padded / lengths.sum() < 1.06


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 25), (1.0, 50), (1.5, 75), (3.0, 150)])
def test_fractions_of_epochs_give_their_share_of_batches(epochs: float, expected: int) -> None:
    assert len(plan(np.full(800, 16), epochs=epochs, batch_tokens=256).batches) == expected


def test_accumulation_counts_optimiser_steps_and_never_mixes_epochs() -> None:
    made = plan(np.full(800, 16), gradient_accumulation=4)  # 50 batches an epoch, of which 48 fill steps
    assert made.epoch_ends == [12, 25]
    assert made.steps == 25
    assert len(made.batches) == 98


def test_epochs_that_do_not_fill_a_step_lose_nothing() -> None:
    made = plan(np.full(24, 16), batch_size=8, gradient_accumulation=4, epochs=10)  # three batches an epoch
    assert made.steps == 8
    assert np.bincount(np.concatenate(made.batches)).tolist() == [10] * 24
    assert made.epoch_ends[-1] == made.steps


def test_max_steps_ends_the_plan_early() -> None:
    made = plan(np.full(800, 16), max_steps=7)
    assert (made.steps, made.epoch_ends) == (7, [7])


def test_steps_map_to_epochs() -> None:
    made = plan(np.full(800, 16))
    assert [made.epoch(step) for step in (0, 25, 50, 75, 100)] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_evaluations_are_spread_over_each_epoch_and_the_last_step_is_one() -> None:
    assert evaluation_steps(plan(np.full(800, 16)), 2) == {25, 50, 75, 100}
    assert evaluation_steps(plan(np.full(800, 16), max_steps=60), 1) == {50, 60}


@settings(max_examples=40, deadline=None)
@given(lengths_lists)
def test_inference_covers_every_record_once_longest_first(lengths: list[int]) -> None:
    batches = plan_inference(lengths, batch_tokens=256, batch_size=16)
    order = [row for batch in batches for row in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)

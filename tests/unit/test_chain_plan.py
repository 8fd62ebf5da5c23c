"""How often each tail of a chain has its turn, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from catena.settings import ChainSettings, TrainingSettings
from catena.training.chain_plan import JoinedTable, plan_chain, shares
from catena.training.tokens import TokenTable, write_tokens

TRAINING = TrainingSettings(epochs=2, batch_size=4, batch_tokens=64, max_length=None)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> JoinedTable:
    """Three tails of 160, 40 and 10 texts of 8 tokens: 40, 10 and 3 batches of 4."""
    folder = tmp_path_factory.mktemp("tokens")
    tables = {}
    for name, count in (("many", 160), ("some", 40), ("few", 10)):
        ids = [[number, *range(7)] for number in range(count)]
        write_tokens(folder / f"{name}.arrow", [{"input_ids": ids, "labels": [0] * count}])
        tables[name] = TokenTable(folder / f"{name}.arrow")
    return JoinedTable(tables)


def turns(table: JoinedTable, batches: list[list[int]]) -> dict[str, int]:
    owners = [{table[row]["tail"] for row in batch} for batch in batches]
    assert all(len(owner) == 1 for owner in owners)
    names, counts = np.unique([owner.pop() for owner in owners], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_rows_of_a_joined_table_know_their_tail(table: JoinedTable) -> None:
    assert len(table) == 210
    assert (table[159]["tail"], int(table[159]["input_ids"][0])) == ("many", 159)
    assert (table[160]["tail"], int(table[160]["input_ids"][0])) == ("some", 0)
    assert (table[209]["tail"], table.start("few")) == ("few", 200)


def test_sampling_is_proportional_tempered_or_uniform() -> None:
    batches = {"a": 64, "b": 16, "c": 1}
    proportional = shares(batches, ChainSettings(), frozenset())
    assert proportional == pytest.approx({"a": 64 / 81, "b": 16 / 81, "c": 1 / 81})
    tempered = shares(batches, ChainSettings(sampling="temperature", temperature=2), frozenset())
    assert tempered == pytest.approx({"a": 8 / 13, "b": 4 / 13, "c": 1 / 13})  # square roots
    uniform = shares(batches, ChainSettings(sampling="uniform"), frozenset())
    assert uniform == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_a_proportional_epoch_shows_every_record_once(table: JoinedTable) -> None:
    plan = plan_chain(table, TRAINING, ChainSettings(), seed=1)
    assert plan.epoch_ends == [53, 106]
    assert turns(table, plan.batches[:53]) == {"many": 40, "some": 10, "few": 3}
    for epoch in (plan.batches[:53], plan.batches[53:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(210))
    assert plan.batches[:53] != plan.batches[53:]
    assert plan.batches == plan_chain(table, TRAINING, ChainSettings(), seed=1).batches
    assert plan.batches != plan_chain(table, TRAINING, ChainSettings(), seed=2).batches


def test_a_uniform_epoch_is_as_long_and_divides_it_evenly(table: JoinedTable) -> None:
    plan = plan_chain(table, TRAINING, ChainSettings(sampling="uniform"), seed=1)
    assert plan.epoch_ends == [53, 106]
    counts = turns(table, plan.batches[:53])
    assert sorted(counts.values()) == [17, 18, 18]
    few = [row - 200 for batch in plan.batches for row in batch if row >= 200]
    seen = np.bincount(few, minlength=10)
    assert seen.max() - seen.min() <= 1  # one pass over its data after the other


def test_replay_gives_the_earlier_tails_their_share_and_the_new_one_pass(table: JoinedTable) -> None:
    training = TRAINING.model_copy(update={"epochs": 1.0})
    plan = plan_chain(table, training, ChainSettings(replay=0.2), seed=1, earlier=frozenset({"many", "few"}))
    counts = turns(table, plan.batches)
    assert counts["some"] == 10
    assert sum(counts.values()) == 12  # 10 / 0.8, rounded
    assert set(counts) <= {"many", "some", "few"}


def test_steps_end_where_they_are_told_to(table: JoinedTable) -> None:
    training = TRAINING.model_copy(update={"max_steps": 20, "gradient_accumulation": 3})
    plan = plan_chain(table, training, ChainSettings(), seed=1)
    assert (plan.steps, len(plan.batches)) == (20, 60)
    assert plan.epoch_ends == [17, 20]  # 51 of 53 batches make whole steps

"""What a chain's params.yaml may say, and the sentence for what it may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from catena.errors import DataError, SettingsError
from catena.layout import Layout, TailLayout
from catena.settings import load_settings, parse_settings
from catena.training.chain_tails import check_tails
from tasks.prepare import prepare
from tasks.tails import prepare_tails
from tests.tiny_chain import PARAMS, write_chain_data


def values() -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load(PARAMS)
    return read


def test_a_tail_has_its_own_settings_and_shares_the_rest() -> None:
    whole = parse_settings(values())
    topics, entities = whole.tail("topics"), whole.tail("entities")
    assert (topics.problem.name, entities.problem.name) == ("classification", "tagging")
    assert (topics.tokenization.max_length, entities.tokenization.max_length) == (32, 16)
    assert (topics.data.name, topics.data.train, entities.data.train) == ("topics", "train.csv", "news.train")
    assert topics.gate.floors == {"accuracy": 0.2}
    assert topics.training == whole.training
    assert topics.model_name == entities.model_name == whole.model_name == "pair"
    assert (whole.problem_name, topics.problem.tails) == ("chain", None)


def test_what_is_measured_of_one_tail_is_said_for_it_alone() -> None:
    given = values()
    given["evaluation"] = {"tails": {"topics": {"baselines": ["majority"]}}}
    whole = parse_settings(given)
    assert whole.tail("topics").evaluation.baselines == ("majority",)
    assert whole.tail("entities").evaluation.baselines is None


def test_settings_of_one_problem_say_nothing_of_tails() -> None:
    dumped = parse_settings({}).model_dump()
    assert "tails" not in dumped["problem"]
    assert "tails" not in dumped["evaluation"]


def _tails(given: dict[str, Any]) -> Any:
    return given["problem"]["tails"]


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a tail without data": (
        lambda given: _tails(given).update(third={"problem": {"name": "tagging"}}),
        "the tail third has no `data`; say which files it learns from",
    ),
    "no tails": (lambda given: given["problem"].update(tails={}), "`tails` is empty"),
    "a problem beside the tails": (
        lambda given: given["problem"].update(name="tagging"),
        "`name` stands beside `tails`; each tail of a chain says in its own `problem`",
    ),
    "another method": (
        lambda given: given["method"].update(name="full"),
        "`problem.tails` and `method.name: chain` go together",
    ),
    "a chain without tails": (
        lambda given: given["problem"].pop("tails"),
        "`problem.tails` and `method.name: chain` go together",
    ),
    "images beside texts": (
        lambda given: _tails(given)["topics"].update(problem={"name": "images"}),
        "the tail topics sees images and the tail entities reads texts; one backbone cannot do both",
    ),
    "a tail in a tail": (
        lambda given: _tails(given)["topics"].update(problem={"tails": {}}),
        "unknown parameter `problem.tails.topics.problem.tails`",
    ),
    "a weight of no tail": (
        lambda given: given["method"]["chain"].update(weights={"topic": 2}),
        "`method.chain.weights` names 'topic', which is no tail; the tails are topics, entities",
    ),
    "a floor of no tail": (
        lambda given: given["gate"].update(floors={"accuracy": 0.5}),
        "`gate.floors` names 'accuracy', which is no tail",
    ),
    "an evaluation of no tail": (
        lambda given: given.update(evaluation={"tails": {"topic": {}}}),
        "`evaluation.tails` names 'topic', which is no tail",
    ),
    "a name that is no folder's": (
        lambda given: _tails(given).update({"../x": {"data": {"train": "a.csv"}}}),
        "'../x' is no name for a tail",
    ),
    "a misspelt setting of a tail": (
        lambda given: _tails(given)["topics"]["data"].update(trian="a.csv"),
        "unknown parameter `problem.tails.topics.data.trian`; did you mean `data.train`?",
    ),
    "a link before the first layer": (
        lambda given: given["method"]["chain"].update(links=[{"after": 0}]),
        "`method.chain.links.0.after`: input should be greater than or equal to 1",
    ),
    "texts without labels that nothing reads": (
        lambda given: _tails(given)["topics"]["data"].update(unlabelled="more.csv"),
        "a chain learns from the texts of `data.unlabelled` only in its pretraining",
    ),
    "layers left out": (
        lambda given: given["backbone"].update(keep_layers=[1]),
        "`backbone.keep_layers` is for models of one problem, not for chains",
    ),
    "a metric for all": (
        lambda given: given["training"].update(metric="accuracy"),
        "a chain is judged by each tail's own metric",
    ),
    "what a tail's problem refuses": (
        lambda given: (
            _tails(given)["topics"].update(problem={"name": "generation"}),
            given["training"].update(max_length=16),
        ),
        "the tail topics: `training.max_length` would cut off",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_in_a_sentence(case: str) -> None:
    change, message = BAD[case]
    given = copy.deepcopy(values())
    change(given)
    with pytest.raises(SettingsError) as caught:
        parse_settings(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_tails_of_the_same_name_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("    entities:\n", "    topics:\n"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r'params.yaml, line 9: found duplicate key "topics"') as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ({"name": "generation"}, "writes texts"),
        ({"name": "translation"}, "writes texts"),
        ({"name": "ranking", "architecture": "two_towers"}, "use `architecture: cross_encoder`"),
    ],
)
def test_a_problem_that_cannot_be_a_tail_is_refused_before_any_work(
    problem: dict[str, str], reason: str
) -> None:
    given = values()
    _tails(given)["topics"]["problem"] = problem
    with pytest.raises(
        SettingsError, match=r"`problem\.tails\.topics`: The problem .* cannot be a tail"
    ) as caught:
        check_tails(parse_settings(given))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given["training"].update(packing=True), "`training.packing` is not there for chains"),
        (
            lambda given: (
                given["backbone"].update(type="recurrent", source="scratch"),
                given.update(tokenization={"tokenizer": "characters"}),
            ),
            "`backbone.type` recurrent is made from scratch, and a chain of texts shares a pretrained",
        ),
    ],
)
def test_what_a_chain_cannot_do_is_said_before_any_work(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    given = values()
    change(given)
    with pytest.raises(SettingsError) as caught:
        check_tails(parse_settings(given))
    assert message in str(caught.value)


def test_a_tail_of_tags_may_be_a_conditional_random_field() -> None:
    given = values()
    _tails(given)["entities"]["problem"]["crf"] = True
    check_tails(parse_settings(given))


def test_a_missing_data_folder_is_named_and_earlier_results_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_chain_data(layout.raw("pair"))
    settings = parse_settings(values())
    summary = prepare_tails(prepare, settings, layout)
    assert summary["topics: test"] == "48 records"
    assert TailLayout(tmp_path, "entities", "pair").data_quality.is_file()
    before = sorted(path for path in layout.prepared.rglob("*"))

    (layout.raw("pair") / "entities").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"^The tail entities: .*data/raw/pair/entities"):
        prepare_tails(prepare, settings, layout)
    assert sorted(path for path in layout.prepared.rglob("*")) == before


def test_tails_that_are_gone_leave_nothing_behind(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_chain_data(layout.raw("pair"))
    prepare_tails(prepare, parse_settings(values()), layout)
    given = values()
    del _tails(given)["entities"], given["gate"]["floors"]["entities.entity_f1"]
    prepare_tails(prepare, parse_settings(given), layout)
    assert sorted(path.name for path in layout.prepared.iterdir()) == ["topics", "topics.quality.json"]

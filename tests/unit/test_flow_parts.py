"""The parts of a flow that need no server: the leash, parameters, how a stage's end is read, Markdown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from catena.errors import SettingsError
from catena.known_names import check_names
from catena.layout import Layout
from catena.settings import Settings, load_settings, parse_settings
from flows import stages
from flows.artifacts import markdown_lines
from flows.leash import on_leash
from flows.parameters import apply_overrides
from flows.preflight import read_project
from flows.reports import gate_sentence, metric_rows
from flows.summary import print_summary
from tests.tiny_project import PARAMS, REPOSITORY

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def gone(pid: int, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_leaving_the_block_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    grandchild = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"
    with on_leash([sys.executable, "-c", grandchild], tmp_path, os.environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 2
    assert all(gone(pid) for pid in family)


def test_a_command_does_not_outlive_a_starter_that_was_killed(tmp_path: Path) -> None:
    starter = (
        "import os, pathlib, sys; from flows.leash import on_leash\n"
        f"with on_leash([sys.executable, '-c', {SLEEPER!r}], pathlib.Path('.'), os.environ) as process:\n"
        "    process.stdout.readline(); print(process.pid, flush=True); process.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        leash = int(process.stdout.readline())
        family = [leash, *(child.pid for child in psutil.Process(leash).children(recursive=True))]
        assert len(family) == 2
        process.kill()
        assert all(gone(pid) for pid in family)


def test_the_exit_status_of_the_command_is_that_of_the_leash(tmp_path: Path) -> None:
    for code, expected in (("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)):
        with on_leash([sys.executable, "-c", code], tmp_path, os.environ) as process:
            assert process.wait() == expected


def project(folder: Path) -> Layout:
    (folder / "params.yaml").write_text(PARAMS)
    return Layout(folder)


def test_overrides_change_their_parameters_and_keep_comments(tmp_path: Path) -> None:
    layout = project(tmp_path)
    apply_overrides(layout, {"training.epochs": 2, "gate.significance": 0.01})
    settings = load_settings(layout.params)
    assert (settings.training.epochs, settings.gate.significance) == (2, 0.01)
    changed = set(layout.params.read_text().splitlines()) ^ set(PARAMS.splitlines())
    assert changed == {"  epochs: 1", "  epochs: 2", "  significance: 0.01"}
    before = layout.params.stat().st_mtime_ns
    apply_overrides(layout, {"training.epochs": 2})
    assert layout.params.stat().st_mtime_ns == before


def test_overrides_are_written_only_when_all_are_valid(tmp_path: Path) -> None:
    layout = project(tmp_path)
    with pytest.raises(SettingsError, match=r"did you mean `training.epochs`"):
        apply_overrides(layout, {"training.learning_rate": 0.1, "training.epochz": 2})
    with pytest.raises(SettingsError, match=r"`training.epochs.many`: `epochs` is a value"):
        apply_overrides(layout, {"training.epochs.many": 2})
    assert layout.params.read_text() == PARAMS


@pytest.mark.parametrize(
    ("status", "lines", "kind", "message"),
    [
        (0, ["Running stage 'train':"], "done", "done"),
        (0, ["Stage 'train' didn't change, skipping"], "skipped", "nothing to do"),
        (
            255,
            ["train: The disk is full.", "ERROR: failed to reproduce 'train': failed to run: python -m "
             "tasks.train, exited with 2"],
            "refused",
            "The disk is full.",
        ),
        (
            255,
            ["ERROR: failed to reproduce 'train': failed to run: python -m tasks.train, exited with -9"],
            "failed",
            "The stage train ended with signal 9; its lines above say why.",
        ),
        (1, ["ERROR: Unable to acquire lock. Most likely another DVC process is running"], "refused",
         "DVC is already working in this folder; wait for it to end and run again."),
        (255, ["ERROR: failed to reproduce 'train': missing data 'source': a"], "refused",
         "DVC did not run the stage train: failed to reproduce 'train': missing data 'source': a."),
        (255, ["ERROR: unexpected error - boom"], "failed",
         "DVC ended with status 255 in the stage train: unexpected error - boom."),
        (137, [], "failed", "DVC ended with status 137 in the stage train: no error message."),
    ],
)  # fmt: skip
def test_how_a_stage_ended_is_told_from_its_status_and_words(
    status: int, lines: list[str], kind: str, message: str
) -> None:
    outcome = stages.outcome("train", status, lines)
    assert (outcome.kind, outcome.message) == (kind, message)


def test_a_report_becomes_tables_below_headings_without_what_is_empty() -> None:
    lines = list(
        markdown_lines(
            {"records": 5, "none": [], "parts": {"train": 3}, "files": [{"name": "a|b", "rows": 2}]}
        )
    )
    assert lines == [
        *("| | |", "|---|---|", "| records | 5 |", ""),
        *("## parts", "", "| | |", "|---|---|", "| train | 3 |", ""),
        *("## files", "", "| name | rows |", "|---|---|", "| a\\|b | 2 |", ""),
    ]


def test_metrics_stand_beside_those_of_the_baselines() -> None:
    tfidf = {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}}
    metrics = {"accuracy": 0.75, "intervals": {"accuracy": [0.7, 0.8]}, "baselines": {"tfidf": tfidf}}
    metrics["baseline_titles"] = [["tfidf", "TF-IDF with logistic regression"]]
    assert metric_rows(metrics) == [
        {
            "metric": "accuracy",
            "This model": "0.7500 (0.7000–0.8000)",
            "TF-IDF with logistic regression": "0.5000 (0.4000–0.6000)",
        }
    ]


def test_the_gate_is_told_in_words() -> None:
    report = {"model": "news", "version": "3", "decision": "kept", "reasons": ["It was worse."]}
    assert gate_sentence(report) == "Version 3 of news did not become champion. It was worse."


def test_all_groups_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: {name: mine}\nbackbone: {name: x}\nseed: 3\ngate: {}\n")
    with pytest.raises(SettingsError) as raised:
        read_project(Layout(tmp_path))
    said = str(raised.value)
    assert said.startswith("params.yaml: `preparation`, `problem`, ")
    assert said.endswith("`evaluation: {}`, `registry: {}`.")
    assert "`seed`" not in said and "`gate`" not in said


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"gate": {"floors": {"accuracy": 0.5}}},
            "`gate`: There is no metric `accuracy`; choose one of ndcg",
        ),
        ({"gate": {"metric": "f1"}}, "`gate`: There is no metric `f1`"),
        (
            {"evaluation": {"baselines": ["majority"]}},
            "no baseline `majority`; there are: popularity, tfidf, bm25",
        ),
        ({"training": {"metric": "accuracy"}}, "`training.metric` accuracy is not one of ndcg, auc, mrr"),
        (
            {"data": {"name": "x", "keep": ["year", "id"]}},
            "`data.keep` names the column id, and records have",
        ),
        ({"data": {"name": "x", "keep": ["score"]}}, "`data.keep` names the column score"),
        (
            {"training": {"class_weights": "balanced"}},
            "`training.class_weights` says nothing to the problem rank",
        ),
    ],
)
def test_names_that_the_problem_does_not_know_are_refused_before_any_work(
    tmp_path: Path, groups: dict[str, Any], message: str
) -> None:
    named = {"data": {"name": "x"}, "backbone": {"name": "y"}, "problem": {"name": "ranking"}, "seed": 1}
    given = {name: groups.get(name, named.get(name, {})) for name in Settings.model_fields}
    (tmp_path / "params.yaml").write_text(json.dumps(given))
    with pytest.raises(SettingsError, match=message):
        read_project(Layout(tmp_path))


def test_names_of_a_chain_are_those_of_its_tails() -> None:
    text = {"data": {"train": "a.csv"}}
    tails = {"topics": text, "order": {**text, "problem": {"name": "ranking"}}}

    def chain(floors: dict[str, float]) -> Settings:
        return parse_settings(
            {"problem": {"tails": tails}, "method": {"name": "chain"}, "gate": {"floors": floors}}
        )

    check_names(chain({"topics.accuracy": 0.5, "order.ndcg": 0.5}))
    with pytest.raises(SettingsError, match="There is no metric `accuracy`; choose one of ndcg"):
        check_names(chain({"order.accuracy": 0.5}))


def test_a_chain_is_shown_tail_by_tail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path)
    names = {"topic.accuracy": 0.9, "stars.mae": 0.5}
    metrics = {
        "plan": {"confidence": 0.95}, "records": 30, "tails": {"topic": 20, "stars": 10},
        "headline": [["topic.accuracy", "topic: accuracy"], ["stars.mae", "stars: MAE"]],
        "baseline_titles": [["mean", "Mean of the training part"]],
        "baselines": {"mean": {"stars.mae": 1.25}},
        **names, "intervals": {"topic.accuracy": [0.8, 1.0]},
    }  # fmt: skip
    gate = {"model": "m", "version": 1, "decision": "promoted", "reasons": ["It is good."]}
    for path, report in ((layout.metrics, metrics), (layout.registry_report, gate)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report))
    print_summary(layout, 1.0)
    topic, stars = capsys.readouterr().out.split("stars: 10 test records")
    assert "topic: 20 test records" in topic and "0.9000 (0.8000–1.0000)" in topic
    assert "Mean of" not in topic and "MAE" not in topic
    assert "Mean of the training part" in stars and "1.2500" in stars

"""What users of DVC expect of a project: its commands work, and going back costs no training."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from catena.files import sha256_file
from tests.conftest import DeployedRun
from tests.tiny_project import run

pytestmark = pytest.mark.integration
WEIGHTS = Path("models/candidate/model.safetensors")


@pytest.fixture
def project(deployed_run: DeployedRun, tmp_path: Path) -> Path:
    """A project whose chain is up to date, with its `dvc.lock` committed."""
    copy = deployed_run.copy(tmp_path / "project")
    run(copy, "git", "add", "dvc.lock")
    run(copy, "git", "commit", "-q", "-m", "The chain")
    return copy


def test_the_graph_shows_the_stages_from_the_data_to_the_registry(project: Path) -> None:
    lines = run(project, "dvc", "dag", "--dot").stdout
    arrows = set(re.findall(r'"([^"]+)" -> "([^"]+)"', lines))
    assert ("data/raw/tiny.dvc", "prepare") in arrows
    assert {("prepare", "tokenize"), ("tokenize", "train"), ("train", "evaluate")} <= arrows
    assert ("evaluate", "register") in arrows


def test_parameters_metrics_and_plots_are_shown(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 1", "epochs: 2"))
    diff = json.loads(run(project, "dvc", "params", "diff", "--json").stdout)
    assert diff["params.yaml"]["training.epochs"] == {"old": 1, "new": 2, "diff": 1}
    metrics = json.loads(run(project, "dvc", "metrics", "show", "--json").stdout)
    shown = metrics[""]["data"]["reports/evaluation/metrics.json"]["data"]
    report = json.loads((project / "reports/evaluation/metrics.json").read_text())
    assert {name: shown[name] for name in ("accuracy", "macro_f1", "records")} == {
        name: report[name] for name in ("accuracy", "macro_f1", "records")
    }
    assert shown["baselines"]["tfidf"]["accuracy"] == report["baselines"]["tfidf"]["accuracy"]
    run(project, "dvc", "plots", "show", "--out", "plots")
    page = (project / "plots/index.html").read_text()
    for plot in ("Training", "Confusion_matrix"):
        assert f'<div id = "{plot}">' in page
    values = pd.read_csv(project / "reports/training/values.csv")
    curve = pd.read_csv(project / "reports/training/curve.csv")
    assert set(values["name"]) == set(curve.columns) - {"step", "epoch"}
    accuracy = values[values["name"] == "validation_accuracy"]
    assert accuracy["value"].tolist() == curve["validation_accuracy"].dropna().tolist()
    assert "validation_accuracy" in page


def test_an_experiment_trains_and_going_back_restores_without_training(project: Path) -> None:
    weights = sha256_file(project / WEIGHTS)
    tried = run(project, "dvc", "exp", "run", "-S", "training.learning_rate=1e-4").stdout
    assert re.findall(r"Running stage '(\w+)'", tried) == ["train", "evaluate", "register"]
    assert sha256_file(project / WEIGHTS) != weights
    experiments = run(project, "dvc", "exp", "show", "--csv").stdout
    assert "0.0001" in experiments

    run(project, "git", "checkout", "-q", "params.yaml")
    back = run(project, "dvc", "repro", "evaluate").stdout
    assert "Running stage" not in back
    assert "Stage 'train' is cached" in back
    assert sha256_file(project / WEIGHTS) == weights


def test_data_and_models_travel_through_the_default_remote(project: Path) -> None:
    weights = sha256_file(project / WEIGHTS)
    run(project, "dvc", "push", "-q")
    for name in (".dvc/cache", "data/raw/tiny", "data/prepared", "data/tokenized", "models/candidate"):
        shutil.rmtree(project / name)
    run(project, "dvc", "pull", "-q")
    assert sha256_file(project / WEIGHTS) == weights
    assert json.loads(run(project, "dvc", "status", "--json").stdout) == {}

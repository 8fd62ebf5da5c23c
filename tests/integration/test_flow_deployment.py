"""The chain as a deployment: a real Prefect server, a real process worker, a tiny project."""

from __future__ import annotations

import json

import pytest

from tests.conftest import LAST_LINE, DeployedRun

pytestmark = pytest.mark.integration
STAGES = ["prepare", "tokenize", "train", "evaluate", "register"]


def test_deploy_all_registers_every_deployment_and_schedules_stay_paused(deployed_run: DeployedRun) -> None:
    found = {entry["name"]: entry for entry in deployed_run.service.api("POST", "/deployments/filter")}
    assert set(found) == {"on-demand", "nightly", "weekly-thorough"}
    assert {entry["work_pool_name"] for entry in found.values()} == {"catena"}
    assert found["on-demand"]["schedules"] == []
    for name in ("nightly", "weekly-thorough"):
        assert [schedule["active"] for schedule in found[name]["schedules"]] == [False]
    assert found["weekly-thorough"]["parameters"]["parameters"] == {"evaluation.bootstrap_samples": 5000}


def test_a_worker_runs_the_chain_to_its_end_as_five_tasks_with_retries(deployed_run: DeployedRun) -> None:
    service = deployed_run.service
    flow_run = service.flow_run(deployed_run.run_id)
    assert flow_run["state_type"] == "COMPLETED", service.logs(deployed_run.run_id)[-30:]
    tasks = service.task_runs(deployed_run.run_id)
    assert [task["name"].rpartition("-")[0] for task in tasks] == STAGES
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    assert [task["empirical_policy"]["retries"] for task in tasks] == [1, 1, 2, 1, 3]
    assert tasks[2]["tags"] == ["training"]


def test_the_stages_lines_are_in_the_log_one_by_one(deployed_run: DeployedRun) -> None:
    logs = deployed_run.service.logs(deployed_run.run_id)
    assert LAST_LINE in logs
    for stage in STAGES:
        assert f"Running stage '{stage}':" in logs
        assert any(line.startswith(f"{stage}: done in") for line in logs)
    assert any(line.startswith("progress step=") for line in logs)
    assert not any("git add" in line for line in logs)


def test_progress_of_the_training_data_quality_metrics_and_gate_are_artifacts(
    deployed_run: DeployedRun,
) -> None:
    artifacts = deployed_run.service.artifacts(deployed_run.run_id)
    progress = artifacts["training-progress"]
    assert (progress["type"], progress["data"]) == ("progress", 100.0)
    assert progress["description"].startswith("Step ")
    assert artifacts["data-quality"]["type"] == "markdown"
    assert "# Data quality" in artifacts["data-quality"]["data"]
    assert artifacts["gate"]["type"] == "markdown"
    assert "Version 1 of tiny" in artifacts["gate"]["data"]
    metrics = json.loads(artifacts["metrics"]["data"])
    report = json.loads((deployed_run.project / "reports/evaluation/metrics.json").read_text())
    accuracy = next(row for row in metrics if row["metric"] == "accuracy")
    assert accuracy["This model"].startswith(f"{report['accuracy']:.4f} (")
    parts = {row["part"]: row["records"] for row in json.loads(artifacts["data-parts"]["data"])}
    assert parts["test"] == 60

"""The evaluate stage with a real (tiny) model, from prepared records to the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from catena.errors import DataError, ModelError, SettingsError
from catena.evaluation.metrics import evaluate_predictions
from catena.evaluation.predictions import read_predictions
from catena.layout import Layout
from catena.settings import Settings, parse_settings
from tests.tiny_model import LABELS, build_tiny_model, write_params
from tests.tiny_project import run, write_backbone, write_records

BEHAVIOUR = """\
tests:
  - name: wheat is grain
    kind: minimum_functionality
    label: grain
    texts: [wheat maize barley harvest]
  - name: capital letters change nothing
    kind: invariance
    records: 10
    perturbations: [uppercase]
"""


def settings(**evaluation: object) -> Settings:
    values = {"baselines": ["tfidf"], "bootstrap_samples": 100, "behaviour": "behaviour.yaml", **evaluation}
    return parse_settings(
        {
            "data": {"name": "tiny"},
            "backbone": {"name": "tiny", "source": "folder:backbone"},
            "registry": {"model": "tiny"},
            "evaluation": values,
        }
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate") / "project"
    layout = Layout(root)
    for part, count, seed in (("train", 90, 1), ("test", 60, 2)):
        write_records(root / f"{part}.csv", count=count, seed=seed)
        records = pd.read_csv(root / f"{part}.csv")
        records.insert(0, "id", [f"{part}-{number:03d}" for number in range(count)])
        records = records.assign(source=f"{part}.csv", row=range(1, count + 1), augmented=False)
        layout.prepared.mkdir(parents=True, exist_ok=True)
        records.to_parquet(layout.prepared / f"{part}.parquet")
    build_tiny_model(layout.candidate)
    write_backbone(layout.backbone("tiny"))
    (root / "behaviour.yaml").write_text(BEHAVIOUR, encoding="utf-8")
    write_params(
        root,
        backbone={"name": "tiny", "source": "folder:backbone"},
        evaluation={"baselines": ["tfidf"], "bootstrap_samples": 100, "behaviour": "behaviour.yaml"},
    )
    return root


@pytest.fixture
def layout(template: Path, tmp_path: Path) -> Layout:
    return Layout(Path(shutil.copytree(template, tmp_path / "project")))


@pytest.mark.integration
def test_the_stage_writes_all_reports_and_adds_them_to_the_run(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from tasks.evaluate import evaluate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    summary = evaluate(settings(), layout)
    assert summary["test records"] == "60"
    assert str(summary["behaviour"]).endswith("of 2 tests passed")
    metrics = json.loads(layout.metrics.read_text(encoding="utf-8"))
    behaviour = metrics.pop("behaviour")
    assert metrics == evaluate_predictions(layout.predictions)
    assert behaviour["results"][1]["cases"] == 10
    # The tiny BERT's tokenizer lower-cases, so capital letters cannot matter.
    assert behaviour["results"][1]["passed"] is True
    records = read_predictions(layout.predictions).records
    assert {"source", "row", "n_tokens", "truncated", "baseline:tfidf"} <= set(records)
    assert set(records["prediction"]) <= set(LABELS)
    assert metrics["baselines"]["tfidf"]["accuracy"] > metrics["accuracy"]

    record = json.loads(next((layout.private / "runs").glob("*.json")).read_text(encoding="utf-8"))
    client = MlflowClient(tracking_uri=record["tracking_uri"])
    logged = client.get_run(record["run_id"]).data.metrics
    assert logged["test_accuracy"] == metrics["accuracy"]
    assert logged["test_macro_f1_low"] == metrics["intervals"]["macro_f1"][0]
    assert {file.path for file in client.list_artifacts(record["run_id"], "evaluation")} == {
        "evaluation/metrics.json",
        "evaluation/plots",
        "evaluation/report.html",
    }

    first = {path: path.read_bytes() for path in layout.evaluation.rglob("*") if path.is_file()}
    shutil.rmtree(layout.private / "baselines")
    evaluate(settings(), layout)
    assert {path: path.read_bytes() for path in layout.evaluation.rglob("*") if path.is_file()} == first


def test_what_is_missing_or_wrong_is_said_before_anything_is_written(layout: Layout) -> None:
    from tasks.evaluate import evaluate

    with pytest.raises(SettingsError, match=r"`evaluation\.slices` names the column `town`"):
        evaluate(settings(slices=["town"]), layout)
    with pytest.raises(SettingsError, match=r"There is no .*absent.yaml"):
        evaluate(settings(behaviour="absent.yaml"), layout)
    (layout.root / "behaviour.yaml").write_text(
        BEHAVIOUR.replace("label: grain", "label: oil"), encoding="utf-8"
    )
    with pytest.raises(SettingsError, match=r"behaviour.yaml: test 'wheat is grain' names the label 'oil'"):
        evaluate(settings(), layout)
    test = layout.prepared / "test.parquet"
    records = pd.read_parquet(test)
    records.drop(columns="label").to_parquet(test)
    with pytest.raises(DataError, match=r"test.parquet has no column `label`; run the prepare stage again"):
        evaluate(settings(), layout)
    records.iloc[:0].to_parquet(test)
    with pytest.raises(DataError, match=r"test.parquet holds no records"):
        evaluate(settings(), layout)
    test.write_bytes(test.read_bytes()[:100])
    with pytest.raises(DataError, match=r"test.parquet is not a complete Parquet file"):
        evaluate(settings(), layout)
    test.unlink()
    with pytest.raises(DataError, match=r"There is no .*test.parquet; run the prepare stage first"):
        evaluate(settings(), layout)
    records.to_parquet(test)
    shutil.rmtree(layout.candidate)
    with pytest.raises(ModelError):
        evaluate(settings(behaviour=None), layout)
    assert not layout.evaluation.exists()


def test_a_label_the_model_has_never_seen_stops_the_stage(layout: Layout) -> None:
    from tasks.evaluate import evaluate

    test = layout.prepared / "test.parquet"
    records = pd.read_parquet(test)
    records.loc[4, "label"] = "zinc"
    records.to_parquet(test)
    with pytest.raises(DataError, match="`label`, row 5: 'zinc' is not among the model's 3 labels"):
        evaluate(settings(behaviour=None), layout)
    assert not layout.evaluation.exists()


def test_a_terminal_gets_one_sentence_and_exit_status_2(layout: Layout) -> None:
    (layout.root / "behaviour.yaml").write_text("tests: []\n", encoding="utf-8")
    done = run(
        layout.root, "python", "-m", "tasks.evaluate", check=False, PYTHONPATH=str(Path(__file__).parents[2])
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "evaluate: behaviour.yaml: `tests`: it has 0 entries, but needs at least 1."
    )
    assert not layout.evaluation.exists()

"""Two tasks on one backbone: `dvc repro` alone makes a chain of them, which answers both at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.tiny_chain import make_chain
from tests.tiny_project import run, write_records

pytestmark = pytest.mark.end_to_end

LOADED = """
import json, mlflow
model = mlflow.pyfunc.load_model("models:/pair@champion")
asked = {"text": ["wheat maize barley harvest", "the Bank of the Gulf"]}
print(json.dumps({
    "columns": [column.name for column in model.metadata.signature.outputs.inputs],
    "both": model.predict(asked).to_dict("records"),
    "one": model.predict(asked, params={"tails": "topics"}).to_dict("records"),
}))
"""


def test_two_tails_become_one_registered_model_and_a_third_joins_later(tiny_project: Path) -> None:
    make_chain(tiny_project)
    run(tiny_project, "dvc", "add", "-q", "data/raw/pair")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["topics.accuracy"] > 0.9
    assert metrics["entities.entity_f1"] > 0.9
    assert metrics["tails"] == {"topics": 48, "entities": 40}
    assert metrics["baselines"]["phrases"].keys() >= {"entities.entity_f1", "intervals"}
    page = (tiny_project / "reports/evaluation/report.html").read_text()
    assert page.count("<iframe") == 2
    for tail in ("topics", "entities"):
        own = json.loads((tiny_project / f"reports/evaluation/plots/{tail}/metrics.json").read_text())
        assert own["records"] == metrics["tails"][tail]
    shown = run(tiny_project, "dvc", "plots", "show")
    assert "failed" not in shown.stdout + shown.stderr
    report = json.loads((tiny_project / "reports/registry.json").read_text())
    assert report["decision"] == "promoted"
    assert run(tiny_project, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."

    answers = json.loads(
        run(tiny_project, "python", "-c", LOADED, MLFLOW_TRACKING_URI="sqlite:///mlflow.db").stdout
    )
    assert {"topics.prediction", "topics.p:grain", "entities.prediction", "entities.spans"} <= {
        *answers["columns"]
    }
    assert list(answers["both"][0]) == answers["columns"]
    assert answers["both"][0]["topics.prediction"] == "grain"
    assert [span["text"] for span in json.loads(answers["both"][1]["entities.spans"])] == ["Bank", "Gulf"]
    assert all(name.startswith("topics.") for row in answers["one"] for name in row)

    (tiny_project / "in.csv").write_text("text\nwheat barley harvest\nthe Bank of the Gulf\n")
    # where this tail learned from, the text was in column 1
    files = ("--input", "in.csv", "--output", "out.parquet", "--text", "text")
    run(tiny_project, "python", "-m", "catena.cli", "predict", *files, "--tail", "entities")
    said = pd.read_parquet(tiny_project / "out.parquet")
    assert said["entities.prediction"].tolist() == ["[]", '[[4,8,"ORG"],[16,20,"LOC"]]']
    assert not any(name.startswith("topics.") for name in said)

    add_a_tail(tiny_project)
    report = json.loads((tiny_project / "reports/registry.json").read_text())
    assert (report["version"], report["decision"]) == ("2", "promoted")
    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["tails"] == {"topics": 48, "entities": 40, "later": 30}
    assert metrics["later.accuracy"] > 0.5
    after = json.loads(
        run(tiny_project, "python", "-c", LOADED, MLFLOW_TRACKING_URI="sqlite:///mlflow.db").stdout
    )
    assert {"later.prediction", *answers["columns"]} <= {*after["columns"]}
    for before, row in zip(answers["both"], after["both"], strict=True):
        assert {name: row[name] for name in before} == before, "earlier tails answer as they did"


def add_a_tail(project: Path) -> None:
    """What the manual says: a copy of the chain as the backbone, and one tail more."""
    shutil.copytree(project / "models/candidate", project / "models/pair-1")
    for part, count, seed in (("train", 90, 3), ("test", 30, 4)):
        write_records(project / f"data/raw/pair/later/{part}.csv", count=count, seed=seed)
    yaml = YAML(typ="safe")
    params = yaml.load(project / "params.yaml")
    params["problem"]["tails"]["later"] = params["problem"]["tails"]["topics"]
    params["backbone"] |= {"name": "pair-1", "source": "folder:models/pair-1"}
    params["gate"]["floors"]["later.accuracy"] = 0.2
    yaml.dump(params, project / "params.yaml")
    run(project, "dvc", "add", "-q", "data/raw/pair")
    run(project, "python", "-m", "catena.cli", "fetch")
    run(project, "dvc", "repro", timeout=500)

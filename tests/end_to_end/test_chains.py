"""Two tasks on one backbone: `dvc repro` alone makes a chain of them, which answers both at once."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.tiny_chain import make_chain
from tests.tiny_project import run

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


def test_two_tails_become_one_registered_model_that_answers_both(tiny_project: Path) -> None:
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

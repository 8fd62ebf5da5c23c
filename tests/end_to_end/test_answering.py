"""Questions about passages: `catena init`, the chain, predictions, a knowledge base and `catena ask`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

_PLAIN = [
    "the", "of", "said", "in", "a", "and", "to", "was", "on", "for", "would", "that", "company", "after",
    "this", "year", "week", "month", "officials", "today", "reported", "sources", "told", "market", "new",
    "last", "from", "about", "with", "more", "than", "some", "prices", "expected", "government",
]  # fmt: skip
_NAMES = ["Wheat", "Maize", "Barley", "Vessel", "Port", "Cargo", "Bank", "Dollar", "Yen", "Silo", "Canal"]


def write_squad(path: Path, count: int, seed: int) -> list[dict[str, str]]:
    """Passages with one capitalized word, which answers the question, or with none: no answer either."""
    chance = random.Random(seed)
    paragraphs = []
    asked = []
    for number in range(count):
        words = chance.choices(_PLAIN, k=14)
        name = "" if number % 4 == 0 else chance.choice(_NAMES)
        if name:
            words[chance.randrange(14)] = name
        context = " ".join(words)
        answers = [{"text": name, "answer_start": context.index(name)}] if name else []
        question = " ".join(chance.sample(_PLAIN, 3))
        paragraphs.append(
            {
                "context": context,
                "qas": [
                    {"id": str(number), "question": question, "answers": answers, "is_impossible": not name}
                ],
            }
        )
        asked.append({"question": question, "context": context, "answer": name})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return asked


def test_a_squad_file_becomes_a_model_that_answers(tiny_project: Path, tmp_path: Path) -> None:
    write_squad(tmp_path / "questions.json", 240, seed=1)
    asked = write_squad(tmp_path / "exam.json", 80, seed=2)
    (tiny_project / "params.yaml").unlink()
    catena = ("python", "-m", "catena.cli")
    files = ("--data", tmp_path / "questions.json", "--test", tmp_path / "exam.json", "--name", "questions")
    made = run(tiny_project, *catena, "init", *files)
    assert "240 passages" in made.stdout

    params = tiny_project / "params.yaml"
    yaml = YAML()
    values = yaml.load(params)
    assert values["problem"]["name"] == "answering" and values["data"]["format"] == "squad"
    values["tokenization"]["max_length"] = 32
    values["backbone"] |= {"name": "tiny", "source": "folder:backbone"}
    values["preparation"] |= {"near_duplicates": "off", "validation_fraction": 0.2}
    values["training"] |= {
        "epochs": 8, "learning_rate": 0.01, "batch_size": 8, "batch_tokens": 256, "device": "cpu",
        "precision": "float32", "dropout": 0.0,
    }  # fmt: skip
    values["evaluation"]["bootstrap_samples"] = 100
    yaml.dump(values, params)
    run(tiny_project, "dvc", "add", "-q", "data/raw/questions")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["f1"] > 0.8 and metrics["no_answer_accuracy"] > 0.5
    assert metrics["f1"] > metrics["baselines"]["sentence"]["f1"]
    assert [table["name"] for table in metrics["tables"]] == ["questions", "confidence"]
    report = (tiny_project / "reports/evaluation/report.html").read_text()
    assert "exact match" in report
    registry = json.loads((tiny_project / "reports/registry.json").read_text())
    assert registry["aliases"]["champion"]

    # the same file again, as new questions
    files = ("--input", tmp_path / "exam.json", "--output", tmp_path / "said.parquet")
    run(tiny_project, *catena, "predict", *files)
    said = pd.read_parquet(tmp_path / "said.parquet")
    right = [one["answer"] == answer for one, answer in zip(asked, said["answer"], strict=True)]
    assert sum(right) > 0.75 * len(right)
    known = said[said["start"] >= 0]
    for context, start, end, answer in zip(
        *(known[c] for c in ("context", "start", "end", "answer")), strict=True
    ):
        assert context[start:end] == answer

    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "guide.md").write_text(
        "# Guide\n\n## Trade\n\nofficials reported that the Cargo was expected from this market\n\n"
        "## Money\n\nsources told the government about some new Dollar prices last week\n"
    )
    run(tiny_project, *catena, "knowledge", "build", "--input", documents, "--output", "base")
    question = "what was expected from this market officials reported"
    options = ("--knowledge", "base", "--json", "-k", "1", "--min-confidence", "0.05")
    reply = json.loads(run(tiny_project, *catena, "ask", question, *options).stdout)
    assert reply["kind"] == "read" and reply["answer"] == "Cargo"
    (source,) = reply["sources"]
    assert (source["source"], source["heading"]) == ("guide.md", "Guide › Trade")
    assert source["passage"][reply["start"] : reply["end"]] == "Cargo"
    options = ("--knowledge", "base", "--min-confidence", "0.99")
    assert run(tiny_project, *catena, "ask", "zq xk", *options).stdout.startswith("I do not know")

"""Translation from two parallel files: `catena init`, the chain, and what it writes for new texts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

_LEXICON = {
    "the": "die", "bank": "Bank", "vessel": "Jacht", "wheat": "Gerste", "dollar": "Mark", "sees": "sieht",
    "buys": "kauft", "old": "alte", "red": "rote", "company": "Firma", "ship": "Fähre", "and": "und",
}  # fmt: skip
_NOUNS = ["bank", "vessel", "wheat", "dollar", "company", "ship"]


def write_pairs(folder: Path, part: str, count: int, seed: int) -> None:
    """Sentences of a dozen words in two languages: word by word, but the adjective follows its noun."""
    chance = random.Random(seed)
    sides: dict[str, list[str]] = {"en": [], "xx": []}
    for _ in range(count):
        ours, theirs = [], []
        for verb in (chance.choice(["sees", "buys"]), ""):
            noun, adjective = chance.choice(_NOUNS), chance.choice(["old", "red", ""])
            ours += ["the", *([adjective] if adjective else []), noun, *([verb] if verb else [])]
            theirs += ["the", noun, *([adjective] if adjective else []), *([verb] if verb else [])]
        sides["en"].append(" ".join(ours))
        sides["xx"].append(" ".join(_LEXICON[word] for word in theirs))
    folder.mkdir(exist_ok=True)
    for language, lines in sides.items():
        (folder / f"{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_parallel_files_become_a_model_that_translates(tiny_project: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", "corpus", 400, seed=1)
    write_pairs(tmp_path / "pairs", "held", 60, seed=2)
    (tiny_project / "params.yaml").unlink()
    catena = ("python", "-m", "catena.cli")
    files = ("--data", tmp_path / "pairs/corpus.en", "--test", tmp_path / "pairs/held.en", "--name", "pairs")
    made = run(tiny_project, *catena, "init", *files)
    assert "parallel" in made.stdout

    params = tiny_project / "params.yaml"
    yaml = YAML()
    values = yaml.load(params)
    assert values["data"]["columns"] == {"text": "en", "translation": "xx"}
    values["tokenization"] |= {"tokenizer": "wordpiece", "vocabulary_size": 120, "vocabularies": "separate"}
    values["backbone"] |= {"layers": 1, "hidden_size": 48, "heads": 4, "intermediate_size": 96}
    values["training"] |= {
        "epochs": 24, "learning_rate": 0.01, "batch_size": 32, "batch_tokens": 512, "dropout": 0.0,
        "weight_averaging": 0.9, "evaluations_per_epoch": 1, "device": "cpu", "precision": "float32",
    }  # fmt: skip
    values["preparation"]["near_duplicates"] = "keep"
    values["evaluation"]["bootstrap_samples"] = 100
    yaml.dump(values, params)
    run(tiny_project, *catena, "fetch")
    run(tiny_project, "dvc", "add", "-q", "data/raw/pairs")
    run(tiny_project, "dvc", "repro", timeout=500)

    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["bleu"] > 80
    assert metrics["bleu"] > metrics["baselines"]["memory"]["bleu"]
    assert metrics["perplexity"] < 2
    assert metrics["signatures"]["bleu"].startswith("nrefs:1")
    curve = pd.read_csv(tiny_project / "reports/training/curve.csv")
    assert curve["validation_bleu"].max() > 70
    report = (tiny_project / "reports/evaluation/report.html").read_text()
    assert "By length of the source" in report
    registry = json.loads((tiny_project / "reports/registry.json").read_text())
    assert str(registry["version"]) == "1"

    said = run(tiny_project, *catena, "predict", "--json", "the  red ship sees the bank")
    assert json.loads(said.stdout)["prediction"] == "die Fähre rote sieht die Bank"
    said = run(tiny_project, *catena, "explain", "--json", "the red ship sees the bank")
    (claim,) = json.loads(said.stdout)["claims"]
    effects = {word["text"]: word["effect"] for word in claim["words"][1:]}
    assert all(effects[word] > 1 for word in ("red", "ship", "sees", "bank"))  # nats
    source, target = tmp_path / "pairs/held.en", tmp_path / "out.csv"
    run(tiny_project, *catena, "predict", "--input", source, "--output", target, "--format", "parallel")
    predictions = pd.read_parquet(tiny_project / "reports/evaluation/predictions.parquet")
    assert pd.read_csv(target)["prediction"].tolist() == predictions["prediction"].tolist()

    code = (
        "import mlflow, pandas as pd; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
        "model = mlflow.pyfunc.load_model('models:/pairs@champion'); "
        "print(model.predict(pd.DataFrame({'text': ['the red ship sees the bank']}))['prediction'][0])"
    )
    assert "die Fähre rote sieht die Bank" in run(tiny_project, "python", "-c", code).stdout

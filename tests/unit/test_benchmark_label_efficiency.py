"""The benchmark of few labels: what it reads, how it draws, and that its methods know its labels."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import label_efficiency, public_sets
from catena.methods import get_method
from catena.problems import get_problem


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the form of the three data sets."""
    for name in ("sst2", "phrasebank", "eprstmt"):
        (tmp_path / name).mkdir()
    for part in ("train", "dev", "test"):
        lines = [f'a {part} film {number} with "quotes\t{number % 2}' for number in range(40)]
        (tmp_path / "sst2" / f"{part}.tsv").write_text("\n".join(lines), encoding="utf-8")
    for part in ("train", "test"):
        labels = ("Negative", "Positive")
        said = [{"sentence": f"{part}还不错{row}", "label": labels[row % 2]} for row in range(20)]
        file = {"train": "train_few_all.json", "test": "test_public.json"}[part]
        text = "\n".join(json.dumps(one, ensure_ascii=False) for one in said)
        (tmp_path / "eprstmt" / file).write_text(text, encoding="utf-8")
    names = ("negative", "neutral", "positive")
    news = [f"profit @ H\u00e4meenlinna rose {row}@{names[row % 3]}" for row in range(1300)]
    (tmp_path / "phrasebank" / "Sentences_75Agree.txt").write_text("\n".join(news), encoding="iso-8859-1")
    text = json.dumps({"sentence": "物流很快", "label": "Positive"}, ensure_ascii=False)
    (tmp_path / "eprstmt" / "dev_few_all.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(public_sets, "FOLDER", tmp_path)
    return tmp_path


def test_benchmarks_import_what_is_there() -> None:
    # read, not run: importing all of them takes longer than all other tests of this file
    root = Path(label_efficiency.ROOT)
    for file in sorted((root / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("catena", "benchmarks", "tasks")
            ):
                module = root / str(node.module).replace(".", "/")
                source = module.with_suffix(".py") if not module.is_dir() else module / "__init__.py"
                there = (names_of(source) if source.is_file() else set()) | {
                    path.stem for path in module.glob("*")
                }
                assert {one.name for one in node.names} <= there, f"{file.name}: {node.module}"


@cache
def names_of(source: Path) -> set[str]:
    """What a module defines or imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {one.asname or one.name for one in node.names}
    return found


def test_texts_and_labels_are_read_as_their_authors_wrote_them(data: Path) -> None:
    read = {name: of() for name, of in label_efficiency.SETS.items()}
    film = read["sst2"].train.iloc[1].to_dict()
    assert film == {
        "text": 'a train film 1 with "quotes',
        "label": "positive",
    }
    news = read["phrasebank"]
    assert (len(news.train), len(news.test)) == (300, 1000)
    assert news.test["text"].str.startswith("profit @ Hämeenlinna rose ").all()
    assert set(news.train["label"]) == {"negative", "neutral", "positive"}
    assert read["eprstmt"].train.iloc[-1].to_dict() == {"text": "物流很快", "label": "positive"}
    assert len(read["eprstmt"].test) == 20


def test_all_methods_know_the_labels_and_words_of_all_data(data: Path) -> None:
    for of in label_efficiency.SETS.values():
        chosen = of()
        labels = sorted(chosen.train["label"].unique())
        assert sorted(chosen.descriptions) == labels
        for name, spec in label_efficiency.METHODS.items():
            if not spec:
                continue
            settings: Any = label_efficiency.settings_of(name, chosen, 4, 1, len(labels) * 4)
            problem = get_problem(settings.problem)
            get_method(settings.method).check(problem.name, problem.head(labels))
    assert set(label_efficiency.DEFAULT) <= set(label_efficiency.METHODS)


def test_records_to_learn_from_are_balanced_and_never_those_that_choose() -> None:
    table = pd.DataFrame({"text": [f"text {row}" for row in range(90)], "label": list("aab") * 30})
    seen = set()
    for seed in (1, 2):
        train, validation = label_efficiency.draw(table, 8, seed)
        assert train["label"].value_counts().to_dict() == {"a": 8, "b": 8}
        assert validation["label"].value_counts().to_dict() == {"a": 8, "b": 8}
        assert not set(train["text"]) & set(validation["text"])
        seen.add(tuple(train["text"]))
    assert len(seen) == 2, "each seed draws its own"
    train, validation = label_efficiency.draw(table, None, 1)
    assert len(train) + len(validation) == 90 and len(validation) == 60


@pytest.mark.parametrize(("records", "steps"), [(206, 120), (2388, 299), (6860, 480)])
def test_with_all_labels_each_record_is_seen_once_within_limits(records: int, steps: int) -> None:
    assert label_efficiency.steps_for(None, records) == steps
    assert label_efficiency.steps_for(64, records) == 80

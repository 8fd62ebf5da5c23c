"""A knowledge base asked: what is found, what is answered rightly, what is refused.

    python -m benchmarks.knowledge --project PROJECT --banking FOLDER

`PROJECT` is one in which `presets/xquad.yaml` has run (or only prepare: then nothing is read): all of its
paragraphs become the knowledge base, and the questions of its test part are asked. Those of BANKING77's test
file, which XQuAD says nothing about, should be refused. The other way round, BANKING77's training questions
become a list of frequent questions whose answer is the intent, and XQuAD's should be refused. The validation
part stands beside the test part because the thresholds were chosen on it. Writes
`benchmarks/results/knowledge.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from catena.evaluation.answer_matches import best_match
from catena.knowledge.asking import DEFAULT_THRESHOLDS, FOUND, READ, Reply, ask
from catena.knowledge.checking import is_right, levels
from catena.knowledge.index import KnowledgeBase
from catena.knowledge.passages import Passage
from catena.predictor import Predictor
from catena.problems.answers import from_canonical

ROOT = Path(__file__).resolve().parent.parent
#: Questions of BANKING77 that are asked, and training questions of each intent in the list.
STRANGE, LISTED = 100, 5


def recall(scores: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Share of questions whose own paragraph is among the first 1, 3 and 5."""
    better = (scores > scores[np.arange(len(right)), right][:, None]).sum(axis=1)
    return {f"recall@{depth}": round(float((better < depth).mean()), 4) for depth in (1, 3, 5)}


def retrieval(base: KnowledgeBase, records: pd.DataFrame, encoder: Path) -> dict[str, Any]:
    """How often the right paragraph is found by words, by meaning, and by both in two ways."""
    place = {passage.text: at for at, passage in enumerate(base.passages)}
    right = records["context"].map(place).to_numpy()
    questions = records["question"].tolist()
    words = base.words.scores(questions)
    vectors = KnowledgeBase.build([Passage(one, "", 0) for one in questions], encoder).vectors
    cosines = vectors @ base.vectors.T
    ranks = [np.argsort(np.argsort(-scores, axis=1), axis=1) for scores in (words, cosines)]
    both = cosines + 0.5 * words / np.maximum(words.max(axis=1, keepdims=True), 1e-9)
    return {
        "BM25": recall(words, right),
        "cosine": recall(cosines, right),
        "reciprocal ranks (60)": recall(sum(1 / (61 + rank) for rank in ranks), right),
        "cosine + half of relative BM25 (as built in)": recall(both, right),
    }


def end_to_end(
    base: KnowledgeBase,
    records: pd.DataFrame,
    strange: list[str],
    encoder: Path,
    reader: Predictor | None,
    count: int,
) -> dict[str, Any]:
    """Scores of all answers, and what the built-in threshold lets through."""
    answers = [[text for _, text in from_canonical(one)] for one in records["answers"]]
    questions = [*records["question"], *strange]
    started = time.perf_counter()
    replies = ask(base, questions, encoder=encoder, reader=reader, count=count, threshold=0.0)
    seconds = (time.perf_counter() - started) / len(questions)
    known = replies[: len(records)]
    matches = [best_match(reply.answer, right) for reply, right in zip(known, answers, strict=True)]
    expected = [right[0] for right in answers] + [""] * len(strange)
    sources = [
        reply.sources[0].passage.text == text for reply, text in zip(known, records["context"], strict=True)
    ]
    scores = {"exact_match": matches, "f1": matches} if reader is not None else {}
    return {
        "passages read": count,
        **{
            name: round(float(np.mean([pair[name == "f1"] for pair in both])), 4)
            for name, both in scores.items()
        },
        "right source first": round(float(np.mean(sources)), 4),
        "right (F1 of 0.5, or the passage holds it)": round(
            float(np.mean([is_right(*pair) for pair in zip(known, expected, strict=False)])), 4
        ),
        "seconds a question": round(seconds, 3),
        "by threshold": levels_at(replies, expected),
    }


def levels_at(replies: list[Reply], expected: list[str]) -> list[dict[str, float | None]]:
    return [
        {name: None if np.isnan(value) else round(value, 4) for name, value in asdict(level).items()}
        for level in levels(replies, expected)
        if level.threshold <= 0.8
    ]


def frequent(banking: Path, strange: list[str], encoder: Path) -> dict[str, Any]:
    """BANKING77 as a list of frequent questions: the intent of the nearest is the answer."""
    train, test = (pd.read_csv(banking / f"{part}.csv") for part in ("train", "test"))
    listed = train.groupby("category").head(LISTED)
    pairs = [
        Passage(row.category, "train.csv", at, question=row.text)
        for at, row in enumerate(listed.itertuples(), 1)
    ]
    base = KnowledgeBase.build(pairs, encoder)
    asked = test.sample(1000, random_state=0)
    replies = ask(base, [*asked["text"], *strange], encoder=encoder, count=3, threshold=0.0)
    expected = [*asked["category"], *[""] * len(strange)]
    right = [reply.answer == one for reply, one in zip(replies, expected, strict=True) if one]
    return {
        "questions listed": len(pairs),
        "questions asked": len(asked),
        "accuracy": round(float(np.mean(right)), 4),
        "by threshold": levels_at(replies, expected),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--banking", type=Path, required=True)
    parser.add_argument("--count", type=int, default=3)
    arguments = parser.parse_args()
    parts = {
        name: pd.read_parquet(arguments.project / f"data/prepared/{name}.parquet")
        for name in ("train", "validation", "test")
    }
    encoder = arguments.project / "models/backbones/all-MiniLM-L6-v2"
    model = arguments.project / "models/candidate"
    reader = Predictor.load(model) if model.is_dir() else None
    paragraphs = pd.concat(parts.values())["context"].unique()
    base = KnowledgeBase.build([Passage(text, "xquad", at) for at, text in enumerate(paragraphs, 1)], encoder)
    banking = pd.read_csv(arguments.banking / "test.csv")["text"].sample(STRANGE, random_state=0).tolist()
    output: dict[str, Any] = {
        "machine": describe(),
        "paragraphs": len(paragraphs),
        "thresholds": DEFAULT_THRESHOLDS,
        "retrieval": {name: retrieval(base, parts[name], encoder) for name in ("validation", "test")},
        READ: {
            name: end_to_end(base, parts[name], banking, encoder, reader, arguments.count)
            for name in ("validation", "test")
            if reader is not None
        },
        FOUND: {
            name: end_to_end(base, parts[name], banking, encoder, None, arguments.count)
            for name in ("validation", "test")
        },
        "frequent questions": frequent(arguments.banking, parts["test"]["question"].tolist(), encoder),
    }
    target = ROOT / "benchmarks" / "results" / "knowledge.json"
    target.write_text(json.dumps(output, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(output, indent=2))


if __name__ == "__main__":
    main()

"""A chain small enough to run in seconds: topics and entities, two tails on the tiny BERT."""

from __future__ import annotations

import random
from pathlib import Path

from tests.tiny_project import write_records

#: Words that an entity begins with, and those that may follow in it.
_WORDS = {
    "": ("the of said in a and to was on", "for would that company after this year wheat oats dollar yen"),
    "LOC": ("gulf port dock", "canal silo harbour"),
    "ORG": ("bank treasury bundesbank", "vessel tanker cargo"),
}

PARAMS = """\
seed: 7
data: {name: pair}
preparation: {}
problem:
  tails:
    topics:
      data: {format: csv, train: train.csv, test: test.csv}
      preparation: {validation_fraction: 0.2}
    entities:
      data:
        format: conll
        train: news.train
        test: news.test
        columns: {text: "1", entities: last}
      preparation: {validation_fraction: 0.2}
      problem: {name: tagging}
      max_length: 16
tokenization: {max_length: 32}
backbone: {name: tiny, source: "folder:backbone", pooling: mean}
method:
  name: chain
  chain:
    links: [{after: 1, kind: bottleneck, size: 8}]
    tail_size: 24
training:
  epochs: 3
  learning_rate: 0.01  # large, because the network is tiny
  batch_size: 8
  batch_tokens: 256
  dropout: 0.0
  device: cpu
  precision: float32
evaluation: {bootstrap_samples: 100}
registry: {model: pair}
gate:
  floors: {topics.accuracy: 0.2, entities.entity_f1: 0.1}
  max_latency_ratio: null
"""


def write_chain_data(folder: Path) -> None:
    """The data folders of both tails below `folder` (`data/raw/pair`)."""
    write_records(folder / "topics" / "train.csv", count=150, seed=1)
    write_records(folder / "topics" / "test.csv", count=48, seed=2)
    (folder / "entities").mkdir(parents=True, exist_ok=True)
    write_sentences(folder / "entities" / "news.train", count=200, seed=1)
    write_sentences(folder / "entities" / "news.test", count=40, seed=2)


def write_sentences(path: Path, count: int, seed: int) -> None:
    """Sentences in IOB1 whose capitalized words are places or organizations, of one word or two."""
    chance = random.Random(seed)
    lines = ["-DOCSTART- -X- O\n"]
    for _ in range(count):
        kind = ""
        for _ in range(chance.randint(6, 10)):
            kind = chance.choice([other for other in _WORDS if not kind or other != kind])
            for words in _WORDS[kind][: chance.randint(1, 2)]:
                word = chance.choice(words.split())
                lines.append(f"{word.capitalize() if kind else word} X {f'I-{kind}' if kind else 'O'}\n")
        lines.append("\n")
    path.write_text("".join(lines), encoding="utf-8")


def make_chain(project: Path) -> Path:
    """Turn a tiny project (`tests.tiny_project`) into that of the chain; returns its folder."""
    (project / "params.yaml").write_text(PARAMS, encoding="utf-8")
    write_chain_data(project / "data" / "raw" / "pair")
    return project

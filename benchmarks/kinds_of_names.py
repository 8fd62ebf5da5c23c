"""CoNLL-2003 as records for `multilabel`: which kinds of names a sentence has, if any.

    python -m benchmarks.kinds_of_names --data FOLDER --output data/raw/kinds-of-names
    python -m benchmarks.chain --preset presets/kinds-of-names.yaml --data data/raw/kinds-of-names

The kinds are persons, organizations, locations and others (MISC); a fifth of the sentences has none, a third
several. The parts are those of the shared task (Tjong Kim Sang and De Meulder 2003, arXiv cs/0306050).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

FILES = {"train": "eng.train", "validation": "eng.testa", "test": "eng.testb"}


def sentences(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Each sentence, and the kinds of its names in alphabetical order."""
    for block in file.read_text("utf-8").split("\n\n"):
        rows = [line.split() for line in block.splitlines() if line and not line.startswith("-DOCSTART-")]
        if rows:
            kinds = {row[-1].partition("-")[2] for row in rows if row[-1] != "O"}
            yield " ".join(row[0] for row in rows), sorted(kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for part, name in FILES.items():
        records = list(sentences(options.data / name))
        with (options.output / f"{part}.jsonl").open("w", encoding="utf-8") as stream:
            for text, kinds in records:
                stream.write(json.dumps({"text": text, "kinds": kinds}, ensure_ascii=False) + "\n")
        none = sum(not kinds for _, kinds in records)
        several = sum(len(kinds) > 1 for _, kinds in records)
        print(f"{part}: {len(records):,} sentences, {none:,} without names, {several:,} with several kinds")


if __name__ == "__main__":
    main()

"""The files of `presets/sst2-few-labels.yaml`: a few labelled sentences of SST-2, and the rest.

    python -m benchmarks.few_labels_of_sst2 FOLDER data/raw/sst2-few

Draws `--count` sentences of each class into few.tsv (seed 0); rest.tsv holds all others, with the labels that
only tell how many pseudo-labels are right.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path


def divide(lines: list[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` lines of each class, and the others, both in their order."""
    order = list(range(len(lines)))
    random.Random(seed).shuffle(order)
    counts: dict[str, int] = {}
    few: set[int] = set()
    for at in order:
        label = lines[at].rsplit("\t", 1)[1]
        if counts.get(label, 0) < count:
            counts[label] = counts.get(label, 0) + 1
            few.add(at)
    return [lines[at] for at in sorted(few)], [line for at, line in enumerate(lines) if at not in few]


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path, help="another folder, with train.tsv, dev.tsv, test.tsv")
    parser.add_argument("target", type=Path)
    parser.add_argument("--count", type=int, default=64, help="labelled sentences of each class")
    options = parser.parse_args()
    lines = (options.source / "train.tsv").read_text(encoding="utf-8").splitlines()
    options.target.mkdir(parents=True, exist_ok=True)
    for name, part in zip(("few.tsv", "rest.tsv"), divide(lines, options.count, 0), strict=True):
        (options.target / name).write_text("\n".join(part) + "\n", encoding="utf-8")
    for name in ("dev.tsv", "test.tsv"):
        shutil.copyfile(options.source / name, options.target / name)


if __name__ == "__main__":
    main()

"""MovieLens 100k as records for `ranking`: users' histories as text, split by time, the last film left out.

    python -m benchmarks.movielens --data FOLDER --output data/raw/movielens
    python -m benchmarks.chain --preset presets/movielens.yaml --data data/raw/movielens

A film rated 4 or 5 is relevant. For every user the last such film is the test's, the one before it the
validation's, and each earlier one is a training pair with the films liked before it as the query. Beside it
stand films that the user never rated, drawn at random: one in training, `--negatives` in the other two (the
protocol of He et al. 2017, arXiv 1708.05031, who draw 100). Harper and Konstan 2015 describe the data set.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

#: Films of a history that the query names, the latest first.
HISTORY = 4
#: Latest training pairs of a user that are used.
LATEST = 8
LIKED = 4
SEED = 7


def films(folder: Path) -> dict[str, str]:
    """Each film's text: title, year and genres."""
    genres = [
        line.rpartition("|")[0] for line in (folder / "u.genre").read_text("latin-1").splitlines() if line
    ]
    found = {}
    for line in (folder / "u.item").read_text("latin-1").splitlines():
        number, title, *rest = line.split("|")
        marks = rest[-len(genres) :]
        named = [name for name, mark in zip(genres, marks, strict=True) if mark == "1"]
        found[number] = f"{title}: {', '.join(named)}"
    return found


def ratings(folder: Path) -> dict[str, list[tuple[int, str, int]]]:
    """(time, film, rating) of each user, in order. User 0 is a placeholder and left out."""
    found: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for line in (folder / "u.data").read_text("latin-1").splitlines():
        user, film, rating, when = line.split()
        if user != "0":
            found[user].append((int(when), film, int(rating)))
    return {user: sorted(rows) for user, rows in found.items()}


def query(history: Sequence[str]) -> str:
    return "liked: " + "; ".join(film.partition(":")[0] for film in history[::-1][:HISTORY])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--negatives", type=int, default=49)
    arguments = parser.parse_args()
    named, by_user = films(arguments.data), ratings(arguments.data)
    generator = random.Random(SEED)
    rows: dict[str, list[tuple[str, str, int]]] = {"train": [], "validation": [], "test": []}
    for user in sorted(by_user, key=int):
        seen = {film for _, film, _ in by_user[user]}
        unseen = sorted(set(named) - seen, key=int)
        liked = [named[film] for _, film, rating in by_user[user] if rating >= LIKED]
        for position in range(max(1, len(liked) - LATEST - 2), len(liked)):
            part = {len(liked) - 1: "test", len(liked) - 2: "validation"}.get(position, "train")
            asked = query(liked[:position])
            rows[part].append((asked, liked[position], 1))
            drawn = generator.sample(unseen, 1 if part == "train" else arguments.negatives)
            rows[part] += [(asked, named[film], 0) for film in drawn]
    # Choosing among a handful of checkpoints does not take all users' lists.
    first = list(dict.fromkeys(asked for asked, _, _ in rows["validation"]))[:80]
    kept = set(first)
    rows["validation"] = [row for row in rows["validation"] if row[0] in kept]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part, records in rows.items():
        with (arguments.output / f"{part}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("query", "item", "relevance"))
            writer.writerows(records)
        print(f"{part}: {len(records):,} pairs, {len({asked for asked, _, _ in records}):,} queries")


if __name__ == "__main__":
    main()

"""MovieLens 100k as records for `ranking`: users' histories as text, split by time, the last film left out.

    python -m benchmarks.movielens --data FOLDER --output data/raw/movielens
    python -m benchmarks.chain --preset presets/movielens.yaml --data data/raw/movielens

A film rated 4 or 5 is relevant; 49 films that the user never rated stand beside it in a test's list.
Histories become records as by `catena histories`. Harper and Konstan 2015 describe the data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from catena.data.histories import Event, HistoryPlan, Item, as_records


def films(folder: Path) -> dict[str, Item]:
    """Each film's title with its year, and the same with its genres."""
    genres = [
        line.rpartition("|")[0] for line in (folder / "u.genre").read_text("latin-1").splitlines() if line
    ]
    found = {}
    for line in (folder / "u.item").read_text("latin-1").splitlines():
        number, title, *rest = line.split("|")
        marks = rest[-len(genres) :]
        named = [name for name, mark in zip(genres, marks, strict=True) if mark == "1"]
        found[number] = Item(title.partition(":")[0], f"{title}: {', '.join(named)}")
    return found


def ratings(folder: Path) -> dict[str, list[Event]]:
    """What each user rated, in order. User 0 is a placeholder and left out."""
    found: dict[str, list[Event]] = {}
    for line in (folder / "u.data").read_text("latin-1").splitlines():
        user, film, rating, when = line.split()
        if user != "0":
            found.setdefault(user, []).append(Event(float(when), film, float(rating)))
    return {user: sorted(events) for user, events in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--negatives", type=int, default=HistoryPlan.negatives)
    options = parser.parse_args()
    plan = HistoryPlan(negatives=options.negatives, validation_lists=80, seed=7)
    options.output.mkdir(parents=True, exist_ok=True)
    for part, records in as_records(ratings(options.data), films(options.data), plan).items():
        records.to_csv(options.output / f"{part}.csv", index=False)
        print(f"{part}: {len(records):,} pairs, {records['query'].nunique():,} queries")


if __name__ == "__main__":
    main()

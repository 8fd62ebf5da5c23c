"""The command `catena histories`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def histories(
    log: Annotated[
        Path,
        typer.Option(help="File with a row for each item that a user had: CSV, TSV, JSON Lines, Parquet."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for train.csv, validation.csv and test.csv.")],
    items: Annotated[
        Path | None,
        typer.Option(help="File that describes the items; without it their names are their texts."),
    ] = None,
    user: Annotated[str, typer.Option(help="Column of the log with the user.")] = "user",
    item: Annotated[str, typer.Option(help="Column of both files with the item's name.")] = "item",
    time: Annotated[str, typer.Option(help="Column of the log with the time.")] = "time",
    rating: Annotated[
        str | None, typer.Option(help="Column of the log with a rating; without it everything was liked.")
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(help="Column of the items with what a history calls them; by default `--text`."),
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the items with their whole text.")] = "text",
    liked_from: Annotated[float, typer.Option(help="Least rating of what was liked.")] = 4.0,
    length: Annotated[int, typer.Option(min=1, max=1000, help="Titles that a history names at most.")] = 4,
    latest: Annotated[
        int, typer.Option(min=1, max=100_000, help="Training pairs of a user at most, the latest.")
    ] = 8,
    negatives: Annotated[
        int, typer.Option(min=1, max=10_000, help="Other items beside one that was liked, in a test's list.")
    ] = 49,
    validation_lists: Annotated[int, typer.Option(min=1, help="Lists of the validation part at most.")] = 200,
    opening: Annotated[str, typer.Option(help="What stands before the titles.")] = "liked: ",
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 42,
) -> None:
    """Turn a log of who liked what into pairs for `ranking`, split by time."""
    from catena.data.histories import (
        COLUMNS,
        PARTS,
        HistoryPlan,
        as_records,
        item_names,
        read_items,
        read_log,
    )
    from catena.files import check_replaceable, complete_folder

    plan = HistoryPlan(liked_from, length, latest, negatives, validation_lists, opening, seed)
    sources = [log] if items is None else [log, items]
    check_replaceable(output, [f"{part}.csv" for part in PARTS], sources)
    columns = {"user": user, "item": item, "time": time} | ({"rating": rating} if rating else {})
    events = read_log(log, columns)
    described = {"item": item, "title": title or text, "text": text}
    known = item_names(events) if items is None else read_items(items, described)
    parts = as_records(events, known, plan)
    with complete_folder(output) as partial:
        for part, records in parts.items():
            records.to_csv(partial / f"{part}.csv", index=False)
    query, _, _ = COLUMNS
    for part, records in parts.items():
        print(f"{part}: {len(records):,} pairs, {records[query].nunique():,} queries")
    train, validation, test = (f"{part}.csv" for part in PARTS)
    print(
        f"Next: `catena init --data {output / train} --test {output / test}`, then "
        f"`validation: {validation}` in the group `data` of params.yaml"
    )

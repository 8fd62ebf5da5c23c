"""A log of who liked what, as records for `ranking`: what a user liked so far is the query for what follows.

The split is by time, leave-last-out: of each user the last item liked is the test's, the one before it the
validation's. Beside an item that was liked stand items that the user has nothing to do with, drawn at random
(He et al. 2017, arXiv 1708.05031, who draw 100 for a test).
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from catena.data.formats import read_records
from catena.errors import DataError
from catena.settings import DataSettings

#: The parts, and the columns of their records.
PARTS = ("train", "validation", "test")
COLUMNS = ("query", "item", "relevance")
#: Of each user the last pairs, which are not for training.
_HELD = 2
#: Digits of a name that is ordered as a number.
_DIGITS = 18


class Event(NamedTuple):
    """Something that a user did, at a time in seconds."""

    time: float
    item: str
    rating: float


class Item(NamedTuple):
    """What an item is called in a history, and its whole text."""

    title: str
    text: str


@dataclass(frozen=True)
class HistoryPlan:
    """How histories become records.

    `liked_from` is the least rating of an item that was liked; a query is `opening` and the titles of the
    last `length` items liked, the latest first; of a user the `latest` pairs before the validation's are for
    training, with one other item each, and in the other parts stand `negatives` beside the one that was
    liked. Validation takes the lists of `validation_lists` users: choosing a checkpoint needs no more.
    """

    liked_from: float = 4.0
    length: int = 4
    latest: int = 8
    negatives: int = 49
    validation_lists: int = 200
    opening: str = "liked: "
    seed: int = 42


def read_log(path: Path, columns: Mapping[str, str]) -> dict[str, list[Event]]:
    """The events of each user in order; `columns` names those of `user`, `item`, `time` and perhaps `rating`.

    Times are numbers or ISO 8601; without ratings everything counts as liked. Of the same item twice the
    last time counts. Raises `DataError` with the row where a value is missing or unreadable.
    """
    table = _table(path, columns)
    found: dict[str, dict[str, Event]] = defaultdict(dict)
    ratings = table["rating"] if "rating" in columns else [None] * len(table)
    for row, user, item, time, rating in zip(
        table["row"], table["user"], table["item"], table["time"], ratings, strict=True
    ):
        liked = math.inf if rating is None else _rating(rating, path, row)
        event = Event(_seconds(time, path, row), item, liked)
        if item not in found[user] or found[user][item] <= event:
            found[user][item] = event
    return {user: sorted(events.values()) for user, events in found.items()}


def read_items(path: Path, columns: Mapping[str, str]) -> dict[str, Item]:
    """Each item's title and text by its name; `columns` names those of `item`, `title` and `text`.

    Raises `DataError` where two rows have one name.
    """
    table = _table(path, columns)
    twice = table["item"].duplicated()
    if twice.any():
        row, item = table.loc[twice, ["row", "item"]].iloc[0]
        raise DataError(f"{path.name}: row {row} is a second one for the item {item!r}.")
    return {
        item: Item(title, text)
        for item, title, text in zip(table["item"], table["title"], table["text"], strict=True)
    }


def as_records(
    log: Mapping[str, Sequence[Event]], items: Mapping[str, Item], plan: HistoryPlan
) -> dict[str, pd.DataFrame]:
    """The records of each part, with `COLUMNS`; the same for the same `plan`.

    Raises `DataError` where the log names an item that is not among `items`, nobody liked enough, or there
    are not as many other items as are to be drawn.
    """
    for user, events in log.items():
        if strange := next((event.item for event in events if event.item not in items), None):
            raise DataError(
                f"The log says that user {user!r} had the item {strange!r}, which no row describes."
            )
    chance = random.Random(plan.seed)  # noqa: S311 (a sample, no secret)
    rows: dict[str, list[tuple[str, str, int]]] = {part: [] for part in PARTS}
    for user in sorted(log, key=_natural):
        known = {event.item for event in log[user]}
        others = sorted(set(items) - known, key=_natural)
        liked = [items[event.item] for event in log[user] if event.rating >= plan.liked_from]
        if len(liked) > 1 and len(others) < plan.negatives:
            raise DataError(
                f"Of the items user {user!r} knows all but {len(others)}, fewer than the {plan.negatives} "
                "that are to stand beside one that was liked; ask for fewer (`--negatives`)."
            )
        for place in range(max(1, len(liked) - plan.latest - _HELD), len(liked)):
            part = {len(liked) - 1: "test", len(liked) - 2: "validation"}.get(place, "train")
            query = plan.opening + "; ".join(item.title for item in liked[:place][::-1][: plan.length])
            rows[part].append((query, liked[place].text, 1))
            drawn = chance.sample(others, 1 if part == "train" else plan.negatives)
            rows[part] += [(query, items[item].text, 0) for item in drawn]
    if not all(rows.values()):
        raise DataError(
            f"Nobody liked four items or more (rated {plan.liked_from:g} or better), of which one is for the "
            "test, one for validation and one to learn; there is nothing to recommend from."
        )
    lists = dict.fromkeys(query for query, _, _ in rows["validation"])
    kept = set([*lists][: plan.validation_lists])
    rows["validation"] = [row for row in rows["validation"] if row[0] in kept]
    return {part: pd.DataFrame(records, columns=list(COLUMNS)) for part, records in rows.items()}


def _table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The file's columns by role, all there as text, and `row`."""
    names: dict[str, str] = {}
    for role, name in columns.items():  # one column may play two roles, and is read in the first
        names.setdefault(name, role)
    settings = DataSettings.model_validate({"columns": {role: name for name, role in names.items()}})
    batches = list(read_records(path, settings))
    for batch in batches:
        for row, reason in batch.broken[["row", "reason"]].itertuples(index=False):
            raise DataError(f"{path.name}: row {row} cannot be read ({reason}).")
    table = pd.concat([batch.records for batch in batches], ignore_index=True)
    for role, name in columns.items():
        table[role] = table[names[name]]
        empty = table[role].isna() | (table[role].astype("str").str.strip() == "")
        if empty.any():
            raise DataError(f"{path.name}: row {table.loc[empty, 'row'].iloc[0]} has no `{name}`.")
    return table


def _rating(value: str, path: Path, row: int) -> float:
    number = _number(value)
    if number is None:
        raise DataError(f"{path.name}: row {row} has {value!r:.40} where a rating was expected, a number.")
    return number


def _seconds(value: str, path: Path, row: int) -> float:
    """A time as seconds; one without a zone is taken for UTC."""
    number = _number(value)
    if number is not None:
        return number
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        raise DataError(
            f"{path.name}: row {row} has {value!r:.40} where a time was expected: a number, or ISO 8601 such "
            "as 2026-03-01T12:00."
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _number(value: str) -> float | None:
    """The finite number that is written, if one is."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _natural(name: str) -> tuple[bool, int, str]:
    """Numbers in their order, before all other names."""
    number = name.isdecimal() and len(name) <= _DIGITS
    return (False, int(name), name) if number else (True, 0, name)


def item_names(log: Mapping[str, Iterable[Event]]) -> dict[str, Item]:
    """The items of a log that nothing describes: their names are their texts."""
    return {event.item: Item(event.item, event.item) for events in log.values() for event in events}

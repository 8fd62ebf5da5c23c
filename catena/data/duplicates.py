"""Records with equal texts: repeats, contradictions, and texts on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from catena.errors import DataError

_EXAMPLES = 5


@dataclass
class Verdicts:
    """Which records go, and why: by position, a `kind` ("" stays) and the full `reason`."""

    kinds: np.ndarray
    reasons: np.ndarray

    @classmethod
    def none(cls, count: int) -> Verdicts:
        return cls(np.full(count, "", dtype=object), np.full(count, "", dtype=object))

    def reject(self, where: np.ndarray, kind: str, reasons: Any) -> None:
        self.kinds[where] = kind
        self.reasons[where] = reasons

    @property
    def stays(self) -> np.ndarray:
        return np.asarray(self.kinds == "", dtype=bool)


@dataclass(frozen=True)
class Repeats:
    """What was found among the records of one file."""

    duplicates: int
    contradictory_texts: int
    contradictory_records: int
    duplicate_examples: list[dict[str, Any]]
    contradiction_examples: list[dict[str, Any]]


def settle_repeats(
    keys: np.ndarray,
    records: pd.DataFrame,
    target: str,
    duplicates: Literal["drop", "keep", "error"],
    contradictions: Literal["drop", "majority", "first", "keep", "error"],
    verdicts: Verdicts,
    where: np.ndarray,
) -> Repeats:
    """Settle equal texts among the records at the positions `where` (all of one file).

    `keys` numbers the texts. Contradictions come first (a majority counts repeats), then duplicates
    among what is left. Raises `DataError` where the chosen policy is to stop.
    """
    part = pd.DataFrame(
        {"at": where, "key": keys[where], "label": pd.factorize(records[target].iloc[where])[0]}
    )
    repeated = part[part["key"].duplicated(keep=False)]
    clashing = repeated[repeated.groupby("key")["label"].transform("nunique") > 1]
    clash_examples = _clash_examples(clashing, records, target)
    if len(clashing) and contradictions == "error":
        raise DataError(_clash_sentence(clash_examples[0]))
    if len(clashing):
        _settle_clashes(clashing, records, target, contradictions, verdicts)
    left = part[verdicts.stays[where]]
    again = left.duplicated(["key", "label"])
    again_at = left["at"][again].to_numpy()
    firsts = left[~again].set_index(["key", "label"])["at"]
    first_at = firsts.loc[pd.MultiIndex.from_frame(left.loc[again, ["key", "label"]])].to_numpy()
    examples = [
        _pair(records, int(first), int(second), target)
        for first, second in zip(first_at[:_EXAMPLES], again_at[:_EXAMPLES], strict=True)
    ]
    if len(again_at) and duplicates == "error":
        one = examples[0]
        raise DataError(
            f"{one['kept']['source']} has the same record in row {one['kept']['row']} and row "
            f"{one['repeated']['row']} ({one['text']!r:.80}) and `preparation.duplicates` is `error`; remove "
            "one, or set it to `drop`."
        )
    if duplicates == "drop":
        verdicts.reject(again_at, "duplicate", _reasons("duplicate of", records, first_at))
    return Repeats(
        duplicates=len(again_at),
        contradictory_texts=int(clashing["key"].nunique()),
        contradictory_records=len(clashing),
        duplicate_examples=examples,
        contradiction_examples=clash_examples,
    )


def settle_sides(
    keys: np.ndarray, parts: np.ndarray, records: pd.DataFrame, target: str, verdicts: Verdicts
) -> None:
    """Reject records whose text is also in a part that takes precedence: test, validation, train."""
    rank = pd.Series(parts).map({"test": 0, "validation": 1, "train": 2}).to_numpy()
    stays = np.flatnonzero(verdicts.stays)
    table = pd.DataFrame({"at": stays, "key": keys[stays], "rank": rank[stays]})
    best = table.sort_values(["rank", "at"], kind="stable").drop_duplicates("key").set_index("key")
    chosen = best.loc[table["key"]]
    lower = table["rank"].to_numpy() > chosen["rank"].to_numpy()
    at, other = table["at"].to_numpy()[lower], chosen["at"].to_numpy()[lower]
    labels = records[target]
    agrees = labels.iloc[at].to_numpy() == labels.iloc[other].to_numpy()
    for same, kind, words in (
        (True, "duplicate across parts", "duplicate of"),
        (False, "contradiction across parts", "contradicts"),
    ):
        chosen_pairs = agrees == same
        verdicts.reject(at[chosen_pairs], kind, _reasons(words, records, other[chosen_pairs], parts))


def _settle_clashes(
    clashing: pd.DataFrame, records: pd.DataFrame, target: str, policy: str, verdicts: Verdicts
) -> None:
    if policy == "keep":
        return
    losing = pd.Series(True, index=clashing.index)
    if policy == "first":
        losing = clashing.groupby("key")["label"].transform("first") != clashing["label"]
    elif policy == "majority":
        votes = clashing.groupby(["key", "label"])["at"].transform("size")
        most = votes.groupby(clashing["key"]).transform("max")
        winners = clashing[votes == most].groupby("key")["label"].nunique()
        tied = clashing["key"].map(winners) > 1
        losing = (votes < most) | tied
    # The first record of the text with another label is named as the opponent.
    first = clashing.drop_duplicates("key").set_index("key")
    second = clashing[clashing["label"] != clashing["key"].map(first["label"])]
    second = second.drop_duplicates("key").set_index("key")
    is_first = clashing["label"] == clashing["key"].map(first["label"])
    opponent = clashing["key"].map(second["at"]).where(is_first, clashing["key"].map(first["at"]))
    at = clashing["at"][losing].to_numpy()
    verdicts.reject(
        at, "contradiction", _reasons("contradicts", records, opponent[losing].to_numpy(dtype=np.int64))
    )


def _reasons(
    words: str, records: pd.DataFrame, others: np.ndarray, parts: np.ndarray | None = None
) -> list[str]:
    sources = records["source"].iloc[others]
    rows = records["row"].iloc[others]
    side = [""] * len(others) if parts is None else [f" ({parts[other]} part)" for other in others]
    return [
        f"{words} {source} row {row}{where}" for source, row, where in zip(sources, rows, side, strict=True)
    ]


def _clash_examples(clashing: pd.DataFrame, records: pd.DataFrame, target: str) -> list[dict[str, Any]]:
    examples = []
    for _, group in clashing[clashing["key"].isin(clashing["key"].unique()[:_EXAMPLES])].groupby(
        "key", sort=False
    ):
        at = group["at"].to_numpy()[:_EXAMPLES]
        chosen = records.iloc[at]
        examples.append(
            {
                "text": str(chosen.iloc[0, 0])[:200],
                "records": [
                    {"source": str(source), "row": int(row), "label": str(label)}
                    for source, row, label in zip(
                        chosen["source"], chosen["row"], chosen[target], strict=True
                    )
                ],
            }
        )
    return examples


def _clash_sentence(example: dict[str, Any]) -> str:
    first = example["records"][0]
    other = next(record for record in example["records"] if record["label"] != first["label"])
    return (
        f"{first['source']}: rows {first['row']} and {other['row']} hold the same text with the labels "
        f"{first['label']!r} and {other['label']!r} and `preparation.contradictions` is `error`; correct one "
        "of them, or set it to `drop`, `majority` or `first`."
    )


def _pair(records: pd.DataFrame, first: int, second: int, target: str) -> dict[str, Any]:
    kept, repeated = records.iloc[first], records.iloc[second]
    return {
        "text": str(kept.iloc[0])[:200],
        "label": str(kept[target]),
        "kept": {"source": str(kept["source"]), "row": int(kept["row"])},
        "repeated": {"source": str(repeated["source"]), "row": int(repeated["row"])},
    }

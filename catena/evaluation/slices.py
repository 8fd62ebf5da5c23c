"""Parts of the test records with something in common, and where the model does worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catena.errors import SettingsError
from catena.evaluation.bootstrap import percentile_interval, resampled_margins
from catena.evaluation.rivals import Rival
from catena.evaluation.scores import confusion_matrix, margins
from catena.evaluation.significance import wilson_interval

#: Most values of a column that get a slice of their own; the rest share one.
_MOST_VALUES = 25


@dataclass(frozen=True)
class Slice:
    """The records `inside` `(records,)` for which `group` has the value `name`."""

    group: str
    name: str
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class SliceScore:
    """Scores on a slice, beside the accuracy on all other records.

    `p_value`: chance of an accuracy at least this much below the others' if the slice were no
    different (Fisher's exact test), multiplied for the number of slices looked at (Holm 1979).
    `macro_f1` runs over the classes that occur in the slice, and is absent for slices by class.
    """

    group: str
    name: str
    records: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float | None
    macro_f1_interval: tuple[float, float] | None
    rest_accuracy: float
    p_value: float
    worse: bool


def find_slices(
    records: pd.DataFrame, columns: Sequence[str] = (), classes: str | None = "label"
) -> list[Slice]:
    """Slices by class, by length and by the values of `columns`, none of them empty or everything.

    `classes` names the column with each record's one class, where there is such a thing.

    They depend on the records alone, never on predictions (but for `n_tokens` and `truncated`,
    which tell of the model's input): two models tested on the same records have the same slices.
    Raises `SettingsError` for a column that the records do not have.
    """
    found = [*_by_value(records[classes], "class")] if classes is not None else []
    if "text" in records:
        found += _by_quartile(records["text"].str.len(), "characters")
    if "n_tokens" in records:
        found += _by_quartile(records["n_tokens"], "tokens")
    if "truncated" in records:
        found += _by_value(records["truncated"].map({True: "yes", False: "no"}), "truncated")
    for column in columns:
        if column not in records:
            raise SettingsError(
                f"`evaluation.slices` names the column `{column}`, which the prepared records do not have; "
                "add it to `data.keep`."
            )
        found += _by_value(records[column], column)
    return [one for one in found if 0 < one.inside.sum() < len(records)]


def score_slices(
    rival: Rival, slices: Sequence[Slice], samples: int, seed: int, confidence: float
) -> list[SliceScore]:
    """Score each slice; those clearly worse than the rest are marked at level `1 - confidence`."""
    p_values = holm([_below_the_rest(rival.correct, one.inside) for one in slices])
    return [
        _score(rival, one, p_value, samples, seed, confidence)
        for one, p_value in zip(slices, p_values, strict=True)
    ]


def _score(
    rival: Rival, part: Slice, p_value: float, samples: int, seed: int, confidence: float
) -> SliceScore:
    inside = part.inside
    hits, records = int(rival.correct[inside].sum()), int(inside.sum())
    macro, interval = None, None
    if part.group != "class":
        present, actual = np.unique(
            np.concatenate([rival.actual[inside], rival.predicted[inside]]), return_inverse=True
        )
        actual, predicted = actual[:records], actual[records:]
        macro = float(margins(confusion_matrix(actual, predicted, len(present))).score("macro_f1"))
        (resampled,) = resampled_margins(actual, [predicted], len(present), samples, seed)
        interval = percentile_interval(resampled.score("macro_f1"), confidence)
    return SliceScore(
        group=part.group,
        name=part.name,
        records=records,
        accuracy=hits / records,
        interval=wilson_interval(hits, records, confidence),
        macro_f1=macro,
        macro_f1_interval=interval,
        rest_accuracy=float(rival.correct[~inside].mean()),
        p_value=p_value,
        worse=p_value < 1 - confidence,
    )


def _below_the_rest(correct: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float:
    """One-sided exact test that records inside are right less often than the others."""
    from scipy.stats import hypergeom

    return float(
        hypergeom.cdf(int(correct[inside].sum()), len(correct), int(correct.sum()), int(inside.sum()))
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down correction for looking at many slices."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, p_values[number] * (len(p_values) - rank)))
        adjusted[number] = highest
    return adjusted


def _by_value(values: pd.Series, group: str) -> Iterator[Slice]:
    """One slice for each value, the most frequent first; rare values share one beyond the most."""
    names = values.astype(object).where(values.notna(), "").astype(str).replace("", "(empty)").to_numpy()
    unique, counts = np.unique(names, return_counts=True)
    ordered = unique[np.lexsort((unique, -counts))]
    if group == "class" or len(ordered) <= _MOST_VALUES:
        for name in ordered:
            yield Slice(group, str(name), np.asarray(names == name))
        return
    for name in ordered[: _MOST_VALUES - 1]:
        yield Slice(group, str(name), np.asarray(names == name))
    rare = ordered[_MOST_VALUES - 1 :]
    yield Slice(group, f"({len(rare)} rarer values)", np.isin(names, rare))


def _by_quartile(lengths: pd.Series, group: str) -> Iterator[Slice]:
    """Four slices of about equal size by length, fewer where many lengths are the same."""
    values = lengths.to_numpy(dtype=np.int64)
    edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75, 1.0], method="lower"))
    low = int(values.min())
    for edge in edges:
        yield Slice(group, f"{low}–{edge}" if low < edge else f"{edge}", (values >= low) & (values <= edge))
        low = int(edge) + 1

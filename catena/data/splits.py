"""Which part a record belongs to, decided by its content alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from catena.errors import DataError

#: From the part that keeps its records to the one that gives them up.
PARTS = ("test", "validation", "train")
_SEEDS_TRIED = 200


def content_fractions(texts: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """A number in [0, 1) for each text, uniform over texts and fixed for text, `seed` and `purpose`."""
    salt = seed.to_bytes(16, "little", signed=False)
    person = purpose.encode()
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8"), digest_size=8, salt=salt, person=person).digest()
        for text in texts
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.float64) / 2.0**64


def assign_parts(
    texts: Sequence[str], seed: int, test_fraction: float | None, validation_fraction: float | None
) -> np.ndarray:
    """The part of each text: "test", "validation" or "train".

    A text is in the test when its own fraction is below `test_fraction`, else in validation by a second,
    independent fraction. No other record has a say, so adding or removing data moves none, equal texts
    share a part, and another `test_fraction` moves records in or out of the test only. For each class
    the shares are right on average; a class of `n` records strays by about √(n·f·(1−f)).
    None leaves a part out.
    """
    parts = np.full(len(texts), "train", dtype=object)
    if validation_fraction is not None:
        parts[content_fractions(texts, seed, "validation") < validation_fraction] = "validation"
    if test_fraction is not None:
        parts[content_fractions(texts, seed, "test") < test_fraction] = "test"
    return parts


def parts_in_order(
    records: int, test_fraction: float | None, validation_fraction: float | None
) -> np.ndarray:
    """The part of each of `records` in their order: the last are the test, those before it validation.

    `validation_fraction` is a share of what the test leaves, as in `assign_parts`.
    """
    parts = np.full(records, "train", dtype=object)
    end = records - round(records * (test_fraction or 0.0))
    parts[end:] = "test"
    parts[end - round(end * (validation_fraction or 0.0)) : end] = "validation"
    return parts


def check_parts(parts: pd.Series) -> None:
    """Raise `DataError` when a part has no records at all."""
    for part in ("train", "validation", "test"):
        if not (parts == part).any():
            raise DataError(
                f"The {part} part has no records at all; check what was rejected, add records, or change "
                "the fractions in `preparation`."
            )


def check_classes(
    labels: pd.Series,
    parts: pd.Series,
    split_off: Sequence[str],
    minimum: int,
    texts: pd.Series,
    seed: int | None,
    fractions: dict[str, float],
    fewest: int = 2,
) -> list[str]:
    """Raise `DataError` when a class has too few records for training or misses a part split off.

    A record of several classes comes several times. At least `fewest` classes must be there.
    Returns warnings about given (not split off) parts that miss a class.
    """
    counts = pd.crosstab(labels.to_numpy(), parts.to_numpy()).reindex(columns=[*PARTS], fill_value=0)
    trained = counts[counts["train"] > 0]
    if len(trained) < fewest:
        what = f"only one class ({trained.index[0]!r})" if len(trained) else "no class at all"
        needed = "two classes are" if fewest == 2 else "one class is"
        raise DataError(
            f"The training part has {what}; at least {needed} needed, so check the label column "
            "and what was rejected."
        )
    few = counts[counts["train"] < minimum]["train"].sort_values()
    if len(few):
        listed = ", ".join(f"{name!r} ({count})" for name, count in list(few.items())[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise DataError(
            f"Too few training records in class {listed}{more}: {minimum} are needed; add records, merge or "
            "rename the class with `data.labels`, or lower `preparation.min_records_per_class`."
        )
    warnings = []
    for part in ("validation", "test"):
        lacking = [str(name) for name in counts.index[counts[part] == 0]]
        if not lacking:
            continue
        if part not in split_off:
            warnings.append(f"the {part} file has no records of {_listed(lacking)}")
            continue
        total = int((labels == lacking[0]).sum())
        better = None
        if seed is not None:
            better = _seed_that_fits(texts, labels, split_off, fractions, minimum, seed)
        advice = (
            f"`preparation.split_seed: {better}` gives every class a share, or add records"
            if better is not None
            else f"add records, merge classes with `data.labels`, or raise `preparation.{part}_fraction`"
        )
        raise DataError(
            f"Class {_listed(lacking)} ({total} records) is too small for its share of the {part} part, "
            f"which got none of it: {advice}."
        )
    return warnings


def _seed_that_fits(
    texts: pd.Series,
    labels: pd.Series,
    split_off: Sequence[str],
    fractions: dict[str, float],
    minimum: int,
    seed: int,
) -> int | None:
    """The next `split_seed` that leaves no class without a part; large classes are not in doubt."""
    sizes = labels.value_counts()
    doubtful = labels.isin(sizes.index[sizes < 20 / min(fractions.values())])
    small, names = texts[doubtful].tolist(), labels[doubtful].to_numpy()
    for candidate in range(seed + 1, seed + 1 + _SEEDS_TRIED):
        parts = assign_parts(small, candidate, fractions.get("test"), fractions.get("validation"))
        counts = pd.crosstab(names, parts).reindex(columns=[*PARTS], fill_value=0)
        if (counts["train"] >= minimum).all() and all((counts[part] > 0).all() for part in split_off):
            return candidate
    return None


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown

"""What a prediction says, as something that can be asked of other predictions too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from catena.errors import SettingsError

#: A record's inputs and what was predicted for it: a row of both tables.
Row = Mapping[str, Any]

#: Probabilities nearer to 0 or 1 than this are taken for this near: a float32 softmax knows no better.
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Claim:
    """One thing that predictions say more or less of: a class, a number, an entity.

    `measured` are the words for what `support` gives, one number a row of a table of inputs and
    predictions: the more, the more is it said. With `odds` it is a probability that never is quite 0 or 1,
    and effects on it add up as log-odds. `own` are the stretches `(start, end)` of inputs, by role, that it
    is about itself, and without which nothing would be left to ask.
    """

    name: str
    measured: str
    support: Callable[[pd.DataFrame], np.ndarray]
    odds: bool = False
    own: Mapping[str, Sequence[tuple[int, int]]] | None = None

    def strength(self, table: pd.DataFrame) -> np.ndarray:
        """`support` on the scale on which effects are compared: log-odds (nats) with `odds` `(rows,)`."""
        values = np.asarray(self.support(table), dtype=np.float64)
        if not self.odds:
            return values
        kept = values.clip(_SMALLEST, 1.0 - _SMALLEST)
        return np.asarray(np.log(kept) - np.log1p(-kept))


def column_claim(name: str, measured: str, column: str, odds: bool = False) -> Claim:
    """A claim whose support stands in a column of the predictions."""
    return Claim(name, measured, lambda table: table[column].to_numpy(dtype=np.float64), odds)


def class_claim(name: str) -> Claim:
    """That a class is right: its probability."""
    return column_claim(name, f"probability of {name}", f"p:{name}", odds=True)


def known_class(name: str | None, label_names: Sequence[str]) -> str:
    """The class; raises `SettingsError` where it is not among the model's, or none is named."""
    if name in label_names and name is not None:
        return name
    known = ", ".join(map(str, label_names))
    if name is None:
        raise SettingsError(f"Name the class that is meant; the model's labels are {known}.")
    raise SettingsError(f"The model does not know the class {name!r}; its labels are {known}.")


def without_classes(about: str | None, problem: str) -> None:
    """Raise `SettingsError` where a class is asked about and a problem has none."""
    if about is not None:
        raise SettingsError(f"The problem {problem} has no classes, so leave {about!r} out.")

"""A look at what texts are labelled with: one class, several, or a number."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

import numpy as np
import pandas as pd

from catena.errors import SettingsError
from catena.problems import PROBLEMS, get_problem
from catena.problems.multilabel import labels_of, read_labels
from catena.problems.regression import read_number
from catena.settings import ProblemSettings

#: Problems with one text and one target for it.
TextProblem = Literal["classification", "multilabel", "regression"]

_SEPARATORS = ("|", ";", ",")
#: More different numbers than this hardly name classes.
_MOST_GRADES = 20
_PERCENTILES = (0, 25, 50, 75, 100)


class TargetCount:
    """Counts the classes, or collects the numbers, of one file's targets, batch by batch."""

    def __init__(self, problem: TextProblem, separator: str = "|") -> None:
        self._problem = problem
        settings = ProblemSettings(name=problem, separator=separator)
        self._read = get_problem(settings).read_targets
        self._numbers: list[float] = []
        self.classes: Counter[str] = Counter()
        self.unusable = 0

    def add(self, targets: pd.Series) -> None:
        """Count some raw targets; missing ones are left out."""
        raw = [" ".join(target.split()) for target in targets.dropna()]
        if self._problem == "classification":
            self.classes.update(target for target in raw if target)
            return
        read, reasons = self._read(raw, None)
        usable = [target for target, reason in zip(read, reasons, strict=True) if not reason]
        self.unusable += len(raw) - len(usable)
        if self._problem == "multilabel":
            self.classes.update(name for target in usable for name in labels_of(target))
        else:
            self._numbers += map(float, usable)

    @property
    def numbers(self) -> dict[str, float]:
        """Extremes and quartiles of the numbers; empty where there are none, or only one."""
        if len(set(self._numbers)) < 2:
            return {}
        points = np.percentile(self._numbers, _PERCENTILES)
        names = ("min", "p25", "p50", "p75", "max")
        return dict(zip(names, map(float, points), strict=True))


def check_problem(name: str | None) -> str | None:
    """The problem that `--problem` names. Raises `SettingsError` for one that there is not."""
    if name is None or name in PROBLEMS:
        return name
    raise SettingsError(f"`--problem` {name} is not one of {', '.join(PROBLEMS)}.")


def text_problem(name: str | None) -> TextProblem | None:
    """The problem with one text and one target that is called so, if it is one."""
    known: tuple[TextProblem, ...] = get_args(TextProblem)
    return next((one for one in known if one == name), None)


def guess_problem(targets: pd.Series) -> TextProblem:
    """`multilabel` where nearly all targets are JSON lists, else `classification`."""
    values = [value for value in targets.dropna() if value.strip()]
    lists = sum(1 for value in values if value.lstrip().startswith("[") and _fits(value))
    return "multilabel" if values and lists > 0.8 * len(values) else "classification"


def guess_separator(targets: pd.Series) -> str:
    """What divides names in the most targets; the default where nothing does."""
    values = [value for value in targets.dropna() if not value.lstrip().startswith("[")]
    counts = {mark: sum(mark in value for value in values) for mark in _SEPARATORS}
    return max(_SEPARATORS, key=lambda mark: counts[mark])


def different_numbers(targets: pd.Series) -> int:
    """How many different numbers there are; 0 where there is something else, or no more than some grades."""
    try:
        found = {read_number(value.strip()) for value in targets.dropna() if value.strip()}
    except ValueError:
        return 0
    return len(found) if len(found) > _MOST_GRADES else 0


def _fits(value: str) -> bool:
    try:
        read_labels(" ".join(value.split()), "|")
    except ValueError:
        return False
    return True

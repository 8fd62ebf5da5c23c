"""What can be learned. A new problem is one module here and one line in `PROBLEMS`."""

from __future__ import annotations

from catena.problems.base import HeadSpec, Problem
from catena.problems.classification import Classification

PROBLEMS: dict[str, type[Problem]] = {problem.name: problem for problem in (Classification,)}

__all__ = ["PROBLEMS", "HeadSpec", "Problem", "get_problem"]


def get_problem(name: str) -> Problem:
    """The problem called `name` in `params.yaml`."""
    return PROBLEMS[name]()

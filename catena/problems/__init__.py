"""What can be learned. A new problem is one module here and one line in `PROBLEMS`."""

from __future__ import annotations

from catena.problems.answering import Answering
from catena.problems.base import Problem
from catena.problems.classification import Classification
from catena.problems.generation import Generation
from catena.problems.images import Images
from catena.problems.multilabel import Multilabel
from catena.problems.outputs import HeadSpec, Measured, Outputs, Written
from catena.problems.ranking import Ranking
from catena.problems.regression import Regression
from catena.problems.tagging import Tagging
from catena.problems.translation import Translation
from catena.settings import ProblemSettings

PROBLEMS: dict[str, type[Problem]] = {
    problem.name: problem
    for problem in (
        Classification,
        Multilabel,
        Regression,
        Ranking,
        Tagging,
        Answering,
        Translation,
        Images,
        Generation,
    )
}  # fmt: skip

__all__ = ["PROBLEMS", "HeadSpec", "Measured", "Outputs", "Problem", "Written", "get_problem"]


def get_problem(settings: ProblemSettings | str) -> Problem:
    """The problem that `problem` in `params.yaml` describes, or the one of this name as it is by default."""
    if isinstance(settings, str):
        settings = ProblemSettings.model_validate({"name": settings})
    return PROBLEMS[settings.name](settings)

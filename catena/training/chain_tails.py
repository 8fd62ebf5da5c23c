"""Which problems can be tails of a chain. Importing this needs no torch."""

from __future__ import annotations

from catena.errors import SettingsError
from catena.methods.chain import Chain
from catena.problems import get_problem
from catena.settings import Settings


def check_tails(settings: Settings) -> None:
    """Raise `SettingsError` for a tail that a chain cannot have, or for what a chain cannot do.

    Needs no data.
    """
    if settings.training.packing:
        raise SettingsError("params.yaml: `training.packing` is not there for chains; leave it off.")
    for name, tail in (settings.problem.tails or {}).items():
        problem = get_problem(tail.problem)
        try:
            Chain(settings.method).check(problem.name, problem.head(("a", "b")))
        except SettingsError as error:
            raise SettingsError(f"params.yaml: `problem.tails.{name}`: {error}") from None
        if problem.tokenizes and settings.backbone.type != "pretrained":
            raise SettingsError(
                f"params.yaml: `backbone.type` {settings.backbone.type} is made from scratch, and a chain of "
                "texts shares a pretrained backbone; set it to pretrained."
            )

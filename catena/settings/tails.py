"""The settings of a chain's tails: each its own data, preparation, problem and evaluation."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from catena.settings.data import DataSettings, PreparationSettings
from catena.settings.group import Group
from catena.settings.problem import ProblemSettings

#: Names of tails: they become folders and the beginnings of columns (`sentiment.prediction`).
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


class TailSettings(Group):
    """One tail of a chain: what it learns from, and what."""

    data: DataSettings = Field(
        description="As the group `data`; `name` is a folder inside `data/raw/<data.name>`, by default the "
        "tail's name."
    )
    preparation: PreparationSettings = Field(
        default_factory=lambda: PreparationSettings(), description="As the group `preparation`."
    )
    problem: ProblemSettings = Field(
        default_factory=lambda: ProblemSettings(), description="As the group `problem`."
    )
    max_length: int | None = Field(
        None, ge=4, le=131_072, description="In place of `tokenization.max_length`."
    )


class TailEvaluationSettings(Group):
    """What is measured of one tail, where that is not what `evaluation` says for all."""

    baselines: tuple[str, ...] | None = Field(None, description="As `evaluation.baselines`.")
    slices: tuple[str, ...] = Field((), description="As `evaluation.slices`.")
    behaviour: str | None = Field(None, description="As `evaluation.behaviour`.")


class WholeProblemSettings(ProblemSettings):
    """What is learned."""

    tails: dict[str, TailSettings] | None = Field(
        None,
        # What is written down of a single problem says nothing of tails.
        exclude_if=lambda value: value is None,
        description="In place of one problem several, as tails of one chain (`method.name: chain`): `name: "
        "{data: …, preparation: …, problem: …, max_length: …}`, where each group is written as for one "
        "problem.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tails_have_names_and_data(cls, values: Any) -> Any:
        tails = values.get("tails") if isinstance(values, dict) else None
        if not isinstance(tails, dict):
            return values
        if len(tails) < 1:
            raise ValueError("`tails` is empty; a chain has at least one tail")
        if others := sorted(name for name in values if name != "tails"):
            raise ValueError(
                f"`{others[0]}` stands beside `tails`; each tail of a chain says in its own `problem` what "
                "it learns"
            )
        named: dict[str, Any] = {}
        for name, tail in tails.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name for a tail; up to 50 small letters, digits, `_` and `-`, please"
                )
            if isinstance(tail, dict):
                data = tail.get("data")
                if not data:
                    raise ValueError(f"the tail {name} has no `data`; say which files it learns from")
                if isinstance(data, dict):
                    tail = {**tail, "data": {"name": name, **data}}
            named[name] = tail
        return {**values, "tails": named}

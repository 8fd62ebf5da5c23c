"""The settings of how text is written, for problems that are solved by writing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.group import Group


class DecodingSettings(Group):
    """How a network's next-token probabilities become a text."""

    strategy: Literal["greedy", "beam", "sampling"] = Field(
        "greedy",
        description="`greedy` takes the likeliest token each time, `beam` keeps several beginnings and ends "
        "with the best whole text, `sampling` draws.",
    )
    beams: int = Field(4, ge=1, le=64, description="`beam`: beginnings that are kept.")
    length_penalty: float = Field(
        1.0,
        ge=-5.0,
        le=5.0,
        description="`beam`: the log-likelihood of a finished text is divided by its length to this power; "
        "0 favours short texts, above 1 long ones.",
    )
    max_new_tokens: int = Field(128, ge=1, le=131_072, description="Longest text that is written, in tokens.")
    max_length_ratio: float | None = Field(
        None,
        gt=0.0,
        description="Longest text that is written, as a multiple of the input's tokens (and ten more); "
        "nothing leaves `max_new_tokens` alone.",
    )
    no_repeat_ngram: int = Field(
        0, ge=0, le=32, description="No sequence of this many tokens is written twice; 0 allows all."
    )
    repetition_penalty: float = Field(
        1.0,
        ge=1.0,
        le=10.0,
        description="Divides the scores of tokens that have occurred (Keskar et al. 2019).",
    )
    temperature: float = Field(1.0, gt=0.0, le=10.0, description="`sampling`: below 1 likely tokens gain.")
    top_k: int = Field(0, ge=0, description="`sampling`: draw among this many likeliest tokens; 0 among all.")
    top_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="`sampling`: draw among the likeliest tokens that together have this probability.",
    )
    seed: int = Field(
        0, ge=0, le=2**32 - 1, description="`sampling`: seed of the draws for a table of records."
    )

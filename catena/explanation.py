"""Which pieces of its input carry a prediction: each is left out in turn, and the model asked again.

Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901; for words Li et al. 2016, arXiv 1612.08220): the effect of
a piece, a word or a patch of an image, is what the prediction loses without it. Works with every model and
problem, and says nothing about pieces that matter only together: of two that say the same, each can be
missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from catena.errors import DataError, SettingsError
from catena.problems.claims import Claim
from catena.problems.pieces import InputPiece, Piece

if TYPE_CHECKING:
    from catena.predictor import Predictor

#: Predictions made at most for one explanation.
MOST_PREDICTIONS = 256


@dataclass(frozen=True)
class Explained:
    """One claim of a prediction, and what each piece of the input does for it.

    `support` is what the claim measures of the whole input. `effects` `(pieces,)` are what is lost without a
    piece: in nats of log-odds where `odds`, else in the unit of `support`; `None` for the claim's own words.
    `beside` names what no word adds, where the effects are exact: with them, it adds up to the log-odds.
    """

    name: str
    measured: str
    support: float
    odds: bool
    effects: tuple[float | None, ...]
    beside: tuple[tuple[str, float], ...] = ()

    def largest(self, count: int) -> list[int]:
        """Numbers of the pieces with the largest effects either way, the largest first."""
        acting = [at for at, effect in enumerate(self.effects) if effect]
        return sorted(acting, key=lambda at: -abs(self.effects[at] or 0.0))[:count]

    def shares(self) -> tuple[float, ...]:
        """Each effect as a share of the largest, -1 to 1 `(pieces,)`."""
        largest = max((abs(effect) for effect in self.effects if effect is not None), default=0.0)
        return tuple((effect or 0.0) / largest if largest else 0.0 for effect in self.effects)


@dataclass(frozen=True)
class Explanation:
    """A record as the model read it, what was predicted, and an explanation of each claim in that.

    Effects are `exact` where they are parts of the score itself (`catena.token_shares`), and nothing was left
    out.
    """

    inputs: Mapping[str, str]
    prediction: str
    pieces: tuple[InputPiece, ...]
    claims: tuple[Explained, ...]
    truncated: bool
    #: What a piece is called, and several.
    called: tuple[str, str] = ("word", "words")
    exact: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "inputs": dict(self.inputs),
            "prediction": self.prediction,
            "truncated": self.truncated,
            "by": "shares" if self.exact else "occlusion",
            "claims": [
                {
                    "name": claim.name,
                    "measured": claim.measured,
                    "support": round(claim.support, 6),
                    "effects_in": "log-odds" if claim.odds else claim.measured,
                    **(
                        {"beside": {name: round(one, 6) for name, one in claim.beside}}
                        if claim.beside
                        else {}
                    ),
                    self.called[1]: [
                        {**piece.as_dict(), "effect": None if effect is None else round(effect, 6)}
                        for piece, effect in zip(self.pieces, claim.effects, strict=True)
                    ],
                }
                for claim in self.claims
            ],
        }


def explain(
    predictor: Predictor,
    inputs: Mapping[str, str],
    about: str | None = None,
    most_predictions: int = MOST_PREDICTIONS,
) -> Explanation:
    """Explain the prediction for one record, or how far it is from a class that is asked `about`.

    Raises `DataError` where an input is missing or holds no word, and `SettingsError` where the problem
    cannot be explained, or does not know the class, or the inputs are no running text.
    """
    problem = predictor.problem
    check_inputs(inputs, problem.input_roles)
    record = pd.DataFrame({role: [inputs[role]] for role in problem.input_roles}, dtype="str")
    record = problem.clean(record, predictor.cleaner)[list(problem.input_roles)]
    read = {role: str(record[role].iloc[0]) for role in problem.input_roles}
    words = problem.as_words(read)
    if words is None:
        raise SettingsError(
            "Words can be left out of running text only, and this input is none (a conversation of several "
            "messages, for one); ask about one question."
        )
    read = dict(words)
    record = pd.DataFrame({role: [read[role]] for role in problem.input_roles}, dtype="str")
    pieces = problem.pieces(read, most_predictions - 1)
    if not pieces:
        raise DataError(f"The input holds no {problem.pieces_called[0]}, so there is nothing to explain.")
    asked = pd.concat([record, *(problem.without(record, piece) for piece in pieces)], ignore_index=True)
    if problem.generates:  # how likely what was written still is, not what is written instead
        asked[problem.target_role] = predictor.predict(record, clean=False)["prediction"].iloc[0]
    answers = predictor.predict(asked, clean=False, score_targets=problem.generates)
    table = pd.concat([asked, answers], axis=1)
    said = {str(name): value for name, value in table.iloc[0].items()}
    return Explanation(
        inputs=read,
        prediction=problem.shown(said),
        pieces=tuple(pieces),
        claims=tuple(
            _explained(claim, table, pieces) for claim in problem.claims(said, predictor.label_names, about)
        ),
        truncated=bool(said["truncated"]),
        called=problem.pieces_called,
    )


def check_inputs(inputs: Mapping[str, str], roles: Sequence[str]) -> None:
    """Raise `DataError` where `inputs` are not exactly the texts that a model reads."""
    for role in inputs:
        if role not in roles:
            raise DataError(f"This model has no input {role!r}; it reads {' and '.join(roles)}.")
    for role in roles:
        if not inputs.get(role, "").strip():
            raise DataError(
                f"The input {role!r} is missing or empty; this model reads {' and '.join(roles)}."
            )


def _explained(claim: Claim, table: pd.DataFrame, pieces: Sequence[InputPiece]) -> Explained:
    strength = claim.strength(table)
    effects = strength[0] - strength[1:]
    return Explained(
        name=claim.name,
        measured=claim.measured,
        support=float(claim.support(table.head(1))[0]),
        odds=claim.odds,
        effects=tuple(
            None if _is_own(piece, claim) else float(effect)
            for piece, effect in zip(pieces, effects, strict=True)
        ),
    )


def _is_own(piece: InputPiece, claim: Claim) -> bool:
    if not isinstance(piece, Piece):
        return False
    spans = (claim.own or {}).get(piece.role, ())
    return any(piece.start < end and start < piece.end for start, end in spans)

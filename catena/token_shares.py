"""What each token of a text adds to the log-odds of a label, where the model's method knows it exactly.

Nothing is left out and asked again, as in `catena.explanation`: the shares are parts of the score itself, and
with what belongs to no token (the prior, the end of the text) they add up to the log-odds of the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.errors import DataError, SettingsError
from catena.explanation import Explained, Explanation, check_inputs
from catena.problems.pieces import Piece, words_of

if TYPE_CHECKING:
    from catena.predictor import Predictor

Span = tuple[int, int]
#: Records explained in a report.
_SHOWN = 8


def has_shares(predictor: Predictor) -> bool:
    """Whether the model knows what each token adds."""
    return predictor.method.explains and len(predictor.problem.input_roles) == 1


def explain_by_shares(
    predictor: Predictor,
    inputs: Mapping[str, str],
    about: str | None = None,
    by_token: bool = False,
    clean: bool = True,
) -> Explanation:
    """Explain the prediction for one record, or how far it is from a class that is asked `about`.

    Tokens are put together to words (of scripts without spaces, to characters), or with `by_token` only as
    far as they are parts of one character. Without `clean`, the text is clean already. Raises `SettingsError`
    where the model does not know its tokens' shares.
    """
    problem = predictor.problem
    if not has_shares(predictor):
        raise SettingsError(
            "This model does not know what its tokens add to a prediction; explain it with `--by occlusion`."
        )
    check_inputs(inputs, problem.input_roles)
    (role,) = problem.input_roles
    record = pd.DataFrame({role: [inputs[role]]}, dtype="str")
    record = problem.clean(record, predictor.cleaner) if clean else record
    text = str(record[role].iloc[0])
    features = problem.encode(
        record[[role]], predictor.tokenizer, predictor.tokenization, predictor.label_names
    )
    ids = [int(token) for token in features["input_ids"][0]]
    spans = token_spans(text, token_offsets(predictor, text, ids))
    pieces, places = join_tokens(text, spans, () if by_token else words_of(text))
    if not pieces:
        raise DataError("The text holds no word, so there is nothing to explain.")
    shares = predictor.method.token_shares(predictor.model, ids)
    answers = predictor.predict(record[[role]], clean=False)
    table = pd.concat([record[[role]].reset_index(drop=True), answers.reset_index(drop=True)], axis=1)
    said = {str(name): value for name, value in table.iloc[0].items()}
    claims = []
    for claim in problem.claims(said, predictor.label_names, about):
        label = predictor.label_names.index(claim.name)
        effects = np.zeros(len(pieces))
        np.add.at(effects, places, shares.tokens[label])
        beside = tuple((name, float(values[label])) for name, values in shares.beside.items())
        claims.append(
            Explained(
                claim.name,
                claim.measured,
                float(claim.support(table)[0]),
                True,
                tuple(float(effect) for effect in effects),
                beside,
            )
        )
    return Explanation(
        inputs={role: text},
        prediction=problem.shown(said),
        pieces=tuple(Piece(role, start, end, text[start:end]) for start, end in pieces),
        claims=tuple(claims),
        truncated=bool(said["truncated"]),
        exact=True,
    )


def explained_records(
    predictor: Predictor, records: pd.DataFrame, right: np.ndarray, most: int = _SHOWN
) -> list[dict[str, Any]]:
    """Up to `most` of the records explained, half of them not `right` `(records,)`, as pages show them.

    They are the first by `id`, a hash of their content, so the same in each run and not chosen for looks.
    None where the model does not know its tokens' shares.
    """
    from catena.explanation_views import shown_claims

    if not has_shares(predictor):
        return []
    (role,) = predictor.problem.input_roles
    target = predictor.problem.target_role
    order = np.argsort(records["id"].to_numpy(dtype=str), kind="stable")
    wrong, good = (order[(right[order] < 1.0) == missed] for missed in (True, False))
    some = min(len(wrong), most // 2)
    chosen = [*good[: most - some].tolist(), *wrong[:some].tolist()]
    found = []
    for at in chosen:
        record = records.iloc[at]
        explanation = explain_by_shares(predictor, {role: str(record[role])}, clean=False)
        goal = predictor.problem.shown({"prediction": record[target]})
        claims = shown_claims(explanation)
        found.append({"claims": claims, "right": bool(right[at] >= 1.0), "target": goal})
    return found


def token_offsets(predictor: Predictor, text: str, ids: Sequence[int]) -> list[Span]:
    """Where each of the tokens `ids` stands in the text; `(0, 0)` for those that do not."""
    tokenizer: Any = predictor.tokenizer
    settings = predictor.tokenization
    tokenizer.truncation_side = settings.truncation_side
    found = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=settings.max_length)
    if list(found["input_ids"]) != list(ids):
        raise SettingsError(
            f"The problem {predictor.problem.name} reads other tokens than those of its text, so they "
            "have no place in it; explain it with `--by occlusion`."
        )
    return [(int(start), int(end)) for start, end in found["offset_mapping"]]


def token_spans(text: str, offsets: Sequence[Span]) -> list[Span | None]:
    """The visible characters of each token; `None` where it has none."""
    spans: list[Span | None] = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        spans.append((start, end) if start < end else None)
    return spans


def join_tokens(
    text: str, spans: Sequence[Span | None], words: Sequence[Span]
) -> tuple[list[Span], np.ndarray]:
    """Tokens → stretches of text that share no character, and no word; and the stretch of each token
    `(tokens,)`.

    Tokens of one character (bytes of scripts with many) come together, and those that have a word of `words`
    in common. White space counts to what follows it, at the end to what is before.
    """
    pieces: list[Span] = []
    places = np.zeros(len(spans), dtype=np.int64)
    waiting: list[int] = []
    at = 0
    reach = 0  # how far the words reach that the last piece has a part in
    for token, span in enumerate(spans):
        if span is None:
            waiting.append(token)
            continue
        start, end = span
        if pieces and start < max(pieces[-1][1], reach):
            pieces[-1] = (min(pieces[-1][0], start), max(pieces[-1][1], end))
        else:
            pieces.append(span)
        while at < len(words) and words[at][0] < end:
            reach = max(reach, words[at][1]) if words[at][1] > start else reach
            at += 1
        places[[*waiting, token]] = len(pieces) - 1
        waiting = []
    places[waiting] = max(len(pieces) - 1, 0)
    return pieces, places

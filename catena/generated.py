"""New records of chosen labels, written by a model that knows how texts of a label read.

They are marked as generated, and can join the training part of another run
(`preparation.augmentation.generated`), never its validation or test part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from catena.data.generated import MARK
from catena.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from catena.predictor import Predictor
    from catena.settings import DecodingSettings

#: Texts drawn for one that is wanted, at most: empty ones, repeats and unfinished ones are left out.
_MOST_TRIES = 4


def generate_records(
    predictor: Predictor,
    labels: Sequence[str],
    count: int,
    settings: DecodingSettings,
    least_confidence: float = 0.0,
) -> pd.DataFrame:
    """`count` new texts of each label: input, target, `generated` and what the model itself thinks of them.

    Empty and broken texts, repeats and texts without an end are left out and drawn anew, and so are those to
    whose label the model gives less than `least_confidence`; where many are, fewer than `count` come out.
    `labels` empty are all. Raises `SettingsError` for a label that the model does not know, `ModelError`
    where it cannot write.
    """
    problem = predictor.problem
    if not predictor.method.writes_inputs:
        raise ModelError(
            f"This model was adapted by the method {predictor.method.name}, which does not learn how "
            "texts of a label read; train one with `method.name: density`."
        )
    known = predictor.label_names
    for label in labels:
        if label not in known:
            raise SettingsError(
                f"The model does not know the class {label!r}; its labels are {', '.join(known)}."
            )
    (role,) = problem.input_roles
    parts = []
    for label in labels or known:
        texts = _texts(predictor, known.index(label), label, count, settings, least_confidence)
        texts[problem.target_role], texts[MARK] = problem.expected(label, {role: ""}, None), True
        parts.append(texts)
    table = pd.concat(parts, ignore_index=True)
    columns = [role, problem.target_role, MARK, "confidence"]
    return table[columns + [name for name in table if name not in columns]]


def _texts(
    predictor: Predictor,
    number: int,
    label: str,
    count: int,
    settings: DecodingSettings,
    least_confidence: float,
) -> pd.DataFrame:
    """Texts of one label, with the model's own `confidence` in it and the columns that its method adds."""
    from catena.decoding.conditional import sample_texts

    (role,) = predictor.problem.input_roles
    opening = predictor.method.opening(predictor.model, number)
    found: dict[str, dict[str, float]] = {}
    for round_number in range(_MOST_TRIES):
        wanted = count - len(found)
        if wanted <= 0:
            break
        seed = settings.seed + 7919 * number + 104_729 * round_number  # other draws for each label and round
        drawn = sample_texts(
            opening.network,
            predictor.tokenizer,
            opening.embeddings,
            opening.end,
            wanted,
            settings.model_copy(update={"seed": seed % 2**32}),
            predictor.device,
        )
        texts = [" ".join(text.split()) for text, ended in drawn if ended]
        texts = [text for text in dict.fromkeys(texts) if text and "\ufffd" not in text and text not in found]
        if not texts:
            continue
        answers = predictor.predict(pd.DataFrame({role: pd.Series(texts, dtype="str")}))
        for text, row in zip(texts, answers.to_dict("records"), strict=True):
            confidence = float(row[f"p:{label}"])
            if confidence >= least_confidence and len(found) < count:
                found[text] = {
                    "confidence": confidence,
                    **{str(name): float(row[name]) for name in predictor.method.extras},
                }
    columns = ["confidence", *predictor.method.extras]
    table = pd.DataFrame(list(found.values()), columns=columns, dtype="float64")
    return table.assign(**{role: pd.Series(list(found), dtype="str")})

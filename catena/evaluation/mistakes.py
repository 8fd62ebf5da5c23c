"""Single records worth a person's look: confident mistakes, lucky hits, labels that look wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catena.evaluation.predictions import Predictions

#: A mistake at least this confident, shared by every baseline, questions the label itself.
_SURE = 0.9
_EXCERPT = 360


@dataclass(frozen=True)
class Mistake:
    """One record; `right` is the probability that the model gave to the record's own label."""

    id: str
    where: str
    text: str
    label: str
    prediction: str
    confidence: float
    right: float
    picture: str | None = None


@dataclass(frozen=True)
class RecordLists:
    """Records to read, each list with the most telling first."""

    worst: list[Mistake]
    suspect_labels: list[Mistake]
    hesitant: list[Mistake]


def notable_records(predictions: Predictions, most: int) -> RecordLists:
    """The `most` confident mistakes, the mistakes that look like label errors, the least sure hits.

    A label is suspect where the model contradicts it with a confidence of at least 0.9 and every
    baseline but `majority` says the same as the model: rivals that learned in different ways
    agree with each other and not with the label (cf. Northcutt et al. 2021).
    """
    records = predictions.records
    wrong = (records["prediction"] != records["label"]).to_numpy()
    # Equal confidences are ordered by id, so that the lists do not depend on the records' order.
    falling = np.lexsort((records["id"].to_numpy(dtype=str), -records["confidence"].to_numpy()))
    rivals = [name for name in predictions.baselines if name != "majority"]
    suspect = wrong & (records["confidence"] >= _SURE).to_numpy()
    for name in rivals:
        suspect &= (records[f"baseline:{name}"] == records["prediction"]).to_numpy()
    if not rivals:
        suspect[:] = False
    return RecordLists(
        worst=_rows(predictions, falling[wrong[falling]][:most]),
        suspect_labels=_rows(predictions, falling[suspect[falling]][:most]),
        hesitant=_rows(predictions, falling[~wrong[falling]][::-1][: min(most, 10)]),
    )


def excerpt(text: str, most: int = _EXCERPT) -> str:
    """The text, or its beginning where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def sample_rows(predictions: Predictions, most_classes: int, each: int) -> list[tuple[str, list[Mistake]]]:
    """The first `each` records of some classes with their pictures; nothing where records have none."""
    records = predictions.records
    found = []
    for name in predictions.plan.label_names[:most_classes]:
        rows = _rows(predictions, np.flatnonzero(records["label"] == name)[:each])
        if rows and all(row.picture for row in rows):
            found.append((name, rows))
    return found


def _rows(predictions: Predictions, chosen: np.ndarray) -> list[Mistake]:
    evaluation = predictions.evaluation
    table = predictions.records.iloc[chosen]
    rows = ({str(name): value for name, value in row.items()} for _, row in table.iterrows())
    return [
        Mistake(
            id=str(row["id"]),
            where=evaluation.where(row),
            text=excerpt(str(row.get("text", ""))),
            label=str(row["label"]),
            prediction=str(row["prediction"]),
            confidence=float(row["confidence"]),
            right=float(row[f"p:{row['label']}"]),
            picture=evaluation.picture(row),
        )
        for row in rows
    ]

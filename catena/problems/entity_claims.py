"""What a prediction says about entities, by their text and label: asked, expected and compared."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from catena.data.scripts import whole_word
from catena.problems.claims import Claim, Row, known_class
from catena.problems.spans import from_canonical


def quoted_entities(said: Row) -> list[tuple[str, str]]:
    """The entities of a prediction (or of a target under that name): text and label, in their order."""
    text = str(said["text"])
    return [(text[start:end], label) for start, end, label in from_canonical(said["prediction"])]


def entity_claims(said: Row | None, label_names: Sequence[str], about: str | None) -> list[Claim]:
    """Each entity that is said, the same text with the same label once; or any entity of a label.

    The support is the score of the surest such entity in a text, 0 where there is none.
    """
    if about is not None or said is None:
        label = known_class(about, label_names)
        return [Claim(label, f"score of the surest {label}", lambda table: _surest(table, None, label))]
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    text = str(said["text"])
    for start, end, label in from_canonical(said["prediction"]):
        found.setdefault((text[start:end], label), []).append((start, end))
    return [_entity_claim(quoted, label, spans) for (quoted, label), spans in found.items()]


def locate_entities(given: Any, text: str) -> Any:
    """Entities given by `text` and `label`, with `start` and `end` of where the text has them.

    The same entity given twice is looked for at the next place; places inside of longer words come last.
    Raises `ValueError` where it is not there.
    """
    if not isinstance(given, list):
        return given
    located = []
    places: dict[str, list[int]] = {}
    for entity in given:
        if isinstance(entity, dict) and "text" in entity and "start" not in entity:
            quoted = str(entity["text"])
            left = places.setdefault(quoted, _places(quoted, text))
            if not left:
                raise ValueError(f"the text does not hold the entity {quoted!r}")
            start = left.pop(0)
            entity = {"start": start, "end": start + len(quoted), "label": entity.get("label")}
        located.append(entity)
    return located


def _places(quoted: str, text: str) -> list[int]:
    """Where words stand in a text, and after these where they are part of longer words."""
    if not quoted:
        return []
    whole, everywhere = (
        [found.start() for found in re.finditer(pattern, text)]
        for pattern in (whole_word(quoted), re.escape(quoted))
    )
    free = [at for at in everywhere if all(abs(at - other) >= len(quoted) for other in whole)]
    return [*whole, *free]


def entities_found(said: Row, expected: str) -> bool:
    """Whether a prediction has all expected entities, or none where none are expected."""
    found = Counter(quoted_entities(said))
    wanted = Counter(quoted_entities({"text": said["text"], "prediction": expected}))
    return wanted <= found if wanted else not found


def entities_agree(before: Row, after: Row) -> bool:
    """Whether two texts have the same entities, of those whose words stand in both; capitals aside."""
    texts = [str(row["text"]).casefold() for row in (before, after)]
    kept = [
        Counter(
            (quoted.casefold(), label)
            for quoted, label in quoted_entities(row)
            if all(quoted.casefold() in text for text in texts)
        )
        for row in (before, after)
    ]
    return kept[0] == kept[1]


def _entity_claim(quoted: str, label: str, spans: list[tuple[int, int]]) -> Claim:
    return Claim(
        name=f"{quoted} ({label})",
        measured=f"score of {quoted} as {label}",
        support=lambda table: _surest(table, quoted, label),
        own={"text": spans},
    )


def _surest(table: pd.DataFrame, quoted: str | None, label: str) -> np.ndarray:
    best = []
    for spans in table["spans"]:
        scores = [
            float(one["score"])
            for one in json.loads(spans)
            if one["label"] == label and quoted in (None, one["text"])
        ]
        best.append(max(scores, default=0.0))
    return np.asarray(best, dtype=np.float64)

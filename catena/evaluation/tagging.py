"""How found entities are judged: exact spans with their labels, and the tag of each word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from catena.evaluation.base import Metric
from catena.evaluation.counted import CountedEvaluation, ResultTable, check_prepared
from catena.evaluation.phrases import known_phrases
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.problems.spans import Entity, from_canonical, word_tags, words_of
from catena.problems.tag_schemes import tag_names

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned

#: Counts of a record before those of each label: words, and entities right, said, there (of any label).
_GENERAL = 4
#: An entity and its label, in both columns of the report or only in one.
_AGREED = Markup("{} {}")
_ALONE = Markup("<strong>{}</strong> {}")
#: Longest text in which the report marks entities.
_SHOWN = 600


class TaggingEvaluation(CountedEvaluation):
    """An entity is right where its start, its end and its label are (CoNLL-2003, seqeval's strict mode).

    Words are runs between white space, or characters where a script has none; their tags are IOB2.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "entity_f1": Metric("entity F1"),
        "entity_precision": Metric("entity precision"),
        "entity_recall": Metric("entity recall"),
        "entity_macro_f1": Metric("entity F1, mean over labels"),
        "word_accuracy": Metric("word accuracy", percent=True),
        "word_macro_f1": Metric("word F1, mean over tags"),
        "word_weighted_f1": Metric("word F1, mean over words"),
    }
    headline: ClassVar[Mapping[str, str]] = {"entity_f1": "entity F1", "word_accuracy": "word accuracy"}
    deciding = "entity_f1"
    default_floors: ClassVar[Mapping[str, float]] = {"entity_f1": 0.5}
    target = "entities"
    slice_metric: ClassVar[str | None] = "entity_f1"
    default_baselines = ("phrases",)
    baselines: ClassVar[Mapping[str, tuple[str, Callable[[BaselineData], Learned]]]] = {
        "phrases": ("Entities known from training", known_phrases)
    }

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:
        check_prepared(records[self.target], from_canonical)

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        """Words; then right, said and there: of all entities, those of each label, the words of each tag."""
        labels = {label: at for at, label in enumerate(plan.label_names)}
        tags = {tag: at for at, tag in enumerate(tag_names(plan.label_names))}
        by_label, by_tag = _GENERAL, _GENERAL + 3 * len(labels)
        counted = np.zeros((len(records), by_tag + 3 * len(tags)))
        rows = zip(counted, records["text"], records[self.target], records[column], strict=True)
        for row, text, target, prediction in rows:
            there, said = from_canonical(target), from_canonical(prediction)
            right = set(there) & set(said)
            for offset, entities in enumerate((right, said, there)):
                row[1 + offset] = len(entities)
                for _, _, label in entities:
                    if label in labels:
                        row[by_label + 3 * labels[label] + offset] += 1
            words = words_of(text)
            row[0] = len(words)
            pairs = zip(word_tags(words, there), word_tags(words, said), strict=True)
            for expected, found in pairs:
                if expected == found and expected in tags:
                    row[by_tag + 3 * tags[expected]] += 1
                for offset, tag in ((1, found), (2, expected)):
                    if tag in tags:
                        row[by_tag + 3 * tags[tag] + offset] += 1
        return counted

    def scores(self, sums: Floats) -> dict[str, Floats]:
        words, general = sums[..., 0], sums[..., 1:_GENERAL]
        labels, tags = _divided(sums)
        precision, recall, f1 = _rates(general)
        tag_f1 = _rates(tags)[2]
        return {
            "entity_f1": f1,
            "entity_precision": precision,
            "entity_recall": recall,
            "entity_macro_f1": _mean(_rates(labels)[2], _occurring(labels)),
            "word_accuracy": _ratio(tags[..., 0].sum(axis=-1), words),
            "word_macro_f1": _mean(tag_f1, _occurring(tags)),
            "word_weighted_f1": _mean(tag_f1, tags[..., 2]),
        }

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """F1 of each record's entities; 1 where there are none and none was found."""
        right, said, there = self.counts(records, plan)[:, 1:_GENERAL].T
        return np.where(said + there > 0, 2 * right / np.maximum(said + there, 1), 1.0)

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        plan = predictions.plan
        sums = self.counts(predictions.records, plan).sum(axis=0)
        labels, tags = _divided(sums)
        entities = ResultTable(
            name="entities",
            title="Entities by label",
            columns={
                "label": "label", "precision": "precision", "recall": "recall", "f1": "F1",
                "there": "entities", "found": "found", "right": "right",
            },
            rows=[
                *_rows("label", plan.label_names, labels),
                *_rows("label", ["all (micro average)"], sums[None, 1:_GENERAL]),
            ],
            caption="An entity counts as right where its start, its end and its label are.",
        )  # fmt: skip
        names = tag_names(plan.label_names)
        words = ResultTable(
            name="words",
            title="Words by tag",
            columns={
                "tag": "tag", "precision": "precision", "recall": "recall", "f1": "F1", "support": "words",
            },
            rows=_word_rows(names, tags, float(sums[0])),
            caption="Each word between white space has one IOB2 tag: O outside entities, B where one "
            "begins, I inside.",
        )  # fmt: skip
        return [entities, words]

    def shown_columns(self, records: pd.DataFrame) -> list[str]:
        return ["text"]

    def shown(self, record: pd.Series, column: str, plan: EvaluationPlan) -> str | Markup:
        """The text as it is, or the entities of a column, marked where they differ from the other's."""
        if column == "text":
            there, said = from_canonical(record[self.target]), from_canonical(record["prediction"])
            return marked(record["text"], there, said)
        other = "prediction" if column == self.target else self.target
        agreed = set(from_canonical(record[other]))
        listed = [
            (_AGREED if entity in agreed else _ALONE).format(record["text"][entity[0] : entity[1]], entity[2])
            for entity in from_canonical(record[column])
        ]
        return Markup("<br>").join(listed) if listed else "none"


def marked(text: str, there: Sequence[Entity], said: Sequence[Entity]) -> Markup:
    """The text with the entities that are there marked, and those that were said underlined."""
    edges = sorted({0, len(text), *(edge for start, end, _ in (*there, *said) for edge in (start, end))})
    parts: list[Markup] = []
    for start, end in pairwise(edges):
        if start >= _SHOWN:
            parts.append(Markup(" …"))
            break
        part = escape(text[start : min(end, _SHOWN)])
        if any(first <= start and end <= last for first, last, _ in said):
            part = Markup("<u>{}</u>").format(part)
        if any(first <= start and end <= last for first, last, _ in there):
            part = Markup("<mark>{}</mark>").format(part)
        parts.append(part)
    return Markup("").join(parts)


def _divided(sums: Floats) -> tuple[Floats, Floats]:
    """The counts of labels `(…, labels, 3)` and tags `(…, 2 · labels + 1, 3)`."""
    labels = (sums.shape[-1] - _GENERAL - 3) // 9
    border = _GENERAL + 3 * labels
    shape = sums.shape[:-1]
    return sums[..., _GENERAL:border].reshape(*shape, -1, 3), sums[..., border:].reshape(*shape, -1, 3)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, 0 where there is nothing, as seqeval and scikit-learn count."""
    return np.asarray(part / np.where(whole > 0, whole, 1.0))


def _rates(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of counts of right, said and there `(…, 3)`."""
    right, said, there = counts[..., 0], counts[..., 1], counts[..., 2]
    return _ratio(right, said), _ratio(right, there), _ratio(2 * right, said + there)


def _occurring(counts: Floats) -> Floats:
    """1 for those that are there or were said, 0 for the others."""
    return np.asarray(counts[..., 1:].sum(axis=-1) > 0, dtype=np.float64)


def _mean(values: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=-1)
    mean = (values * weights).sum(axis=-1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)


def _rows(key: str, names: Sequence[str], counts: Floats) -> list[dict[str, object]]:
    precision, recall, f1 = _rates(counts)
    return [
        {
            key: name,
            "precision": float(precision[at]),
            "recall": float(recall[at]),
            "f1": float(f1[at]),
            "there": int(counts[at, 2]),
            "found": int(counts[at, 1]),
            "right": int(counts[at, 0]),
        }
        for at, name in enumerate(names)
    ]


def _word_rows(names: Sequence[str], tags: Floats, words: float) -> list[dict[str, object]]:
    """Each tag, then accuracy (which is the micro average) and the averages over tags and over words."""
    rates = _rates(tags)
    there = _occurring(tags)
    rows: list[dict[str, object]] = [
        {
            "tag": name,
            **{key: float(rate[at]) for key, rate in zip(("precision", "recall", "f1"), rates, strict=True)},
            "support": int(tags[at, 2]),
        }
        for at, name in enumerate(names)
        if there[at]
    ]
    accuracy = float(_ratio(tags[:, 0].sum(), np.asarray(words)))
    rows.append({"tag": "accuracy", "precision": None, "recall": None, "f1": accuracy, "support": int(words)})
    averages = {
        "micro avg": (accuracy, accuracy, accuracy),
        "macro avg": tuple(float(_mean(rate, there)) for rate in rates),
        "weighted avg": tuple(float(_mean(rate, tags[:, 2])) for rate in rates),
    }
    for name, (precision, recall, f1) in averages.items():
        rows.append({"tag": name, "precision": precision, "recall": recall, "f1": f1, "support": int(words)})
    return rows

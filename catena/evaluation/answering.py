"""How answers are judged: exact match and F1 of SQuAD, with and without an answer in the passage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from catena.evaluation.answer_baselines import phrase, sentence
from catena.evaluation.answer_matches import best_match
from catena.evaluation.base import Metric
from catena.evaluation.counted import CountedEvaluation, ResultTable, check_prepared
from catena.evaluation.mistakes import excerpt
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.evaluation.tagging import marked
from catena.problems.answers import Answer, from_canonical

if TYPE_CHECKING:
    from catena.evaluation.baselines import BaselineData, Learned

_WORDS = ("what", "who", "when", "where", "which", "why", "how")
_KINDS = re.compile(r"\bhow (?:many|much|long|often|old|far)\b|\b(?:" + "|".join(_WORDS) + r")\b", re.I)
_BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: Characters of a passage that the report shows on either side of the answers.
_AROUND = 160


class AnsweringEvaluation(CountedEvaluation):
    """Exact match and F1 as SQuAD's official script has them; the best over all acceptable answers.

    Where some passages have no answer, both are also given for those that have one, and `no_answer_accuracy`
    for the others.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "f1": Metric("F1", percent=True),
        "exact_match": Metric("exact match", percent=True),
        "has_answer_f1": Metric("F1 where there is an answer", percent=True),
        "has_answer_exact_match": Metric("exact match where there is an answer", percent=True),
        "no_answer_accuracy": Metric("accuracy where there is none", percent=True),
    }
    headline: ClassVar[Mapping[str, str]] = {"f1": "F1", "exact_match": "exact match"}
    deciding = "f1"
    default_floors: ClassVar[Mapping[str, float]] = {"f1": 0.3}
    target = "answers"
    slice_metric: ClassVar[str | None] = "f1"
    default_baselines = ("sentence", "phrase")
    baselines: ClassVar[Mapping[str, tuple[str, Callable[[BaselineData], Learned]]]] = {
        "sentence": ("Nearest sentence of the passage (TF-IDF)", sentence),
        "phrase": ("First name or number in that sentence", phrase),
    }

    def check_targets(self, records: pd.DataFrame, label_names: Sequence[str]) -> None:
        check_prepared(records[self.target], from_canonical)

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        """For questions with an answer and for those without: how many, exact matches, F1."""
        counted = np.zeros((len(records), 6))
        for row, target, prediction in zip(counted, records[self.target], records[column], strict=True):
            right = from_canonical(target)
            said = from_canonical(prediction)
            match = best_match(said[0][1] if said else "", [text for _, text in right])
            row[slice(0, 3) if right else slice(3, 6)] = (1, *match)
        return counted

    def scores(self, sums: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore"):
            both = sums[..., :3] + sums[..., 3:]
            missing = sums[..., 3]
            answered = np.where(missing > 0, sums[..., 0], np.nan)
            return {
                "f1": both[..., 2] / both[..., 0],
                "exact_match": both[..., 1] / both[..., 0],
                "has_answer_f1": sums[..., 2] / answered,
                "has_answer_exact_match": sums[..., 1] / answered,
                "no_answer_accuracy": sums[..., 4] / missing,
            }

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """Each record's F1."""
        counted = self.counts(records, plan)
        return np.asarray(counted[:, 2] + counted[:, 5])

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        records = predictions.records
        counted = self.counts(records, predictions.plan)
        tables = []
        if "question" in records:
            kinds = pd.Series([question_kind(text) for text in records["question"]])
            order = kinds.value_counts().index.tolist()
            rows = [_row("kind", kind, counted[(kinds == kind).to_numpy()]) for kind in order]
            columns = {"kind": "question", "records": "records", "f1": "F1", "exact_match": "exact match"}
            caption = "By the first question word."
            tables.append(ResultTable("questions", "Kinds of questions", columns, rows, caption))
        if "confidence" in records:
            sure = records["confidence"].to_numpy(dtype=np.float64)
            rows = []
            for low, high in pairwise(_BANDS):
                inside = (sure >= low) & ((sure < high) | (high == 1.0))
                if inside.any():
                    rows.append(_row("confidence", f"{low:.1f}–{high:.1f}", counted[inside]))
            columns = {
                "confidence": "confidence", "records": "records", "f1": "F1", "exact_match": "exact match",
            }  # fmt: skip
            caption = "How often answers of some confidence are right."
            tables.append(ResultTable("confidence", "Confidence", columns, rows, caption))
        return tables

    def shown_columns(self, records: pd.DataFrame) -> list[str]:
        return [name for name in ("question", "context") if name in records]

    def shown(self, record: pd.Series, column: str, plan: EvaluationPlan) -> str | Markup:
        """The passage around right and said answers, marked and underlined; of a column its texts."""
        if column == "context":
            there, said = (from_canonical(record[name]) for name in (self.target, "prediction"))
            return _around(record["context"], there, said)
        if column in (self.target, "prediction"):
            texts = dict.fromkeys(text for _, text in from_canonical(record[column]))
            return Markup("<br>").join(map(escape, texts)) if texts else "no answer"
        return excerpt(str(record[column]))


def question_kind(question: str) -> str:
    """The first question word in a question; `other` where there is none that is known."""
    found = _KINDS.search(question)
    return " ".join(found.group().lower().split()) if found else "other"


def _row(key: str, name: str, counted: Floats) -> dict[str, object]:
    total = counted[:, :3] + counted[:, 3:]
    return {
        key: name,
        "records": len(counted),
        "f1": float(total[:, 2].mean()),
        "exact_match": float(total[:, 1].mean()),
    }


def _around(context: str, there: Sequence[Answer], said: Sequence[Answer]) -> Markup:
    """The stretch of a passage that holds the answers; the right ones marked, the said one underlined."""
    spans = [(start, start + len(text)) for start, text in (*there[:1], *said)] or [(0, 0)]
    first = max(min(start for start, _ in spans) - _AROUND, 0)
    last = min(max(end for _, end in spans) + _AROUND, len(context))
    shifted = (
        [(start - first, start + len(text) - first, "") for start, text in one if first <= start < last]
        for one in (there, said)
    )
    before, after = ("… " if first else ""), (" …" if last < len(context) else "")
    return Markup("{}{}{}").format(before, marked(context[first:last], *shifted), after)

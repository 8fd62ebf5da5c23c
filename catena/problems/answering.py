"""Answering: the stretch of a passage that answers a question, or that there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pandas as pd

from catena.data.alignment import Alignment, align
from catena.errors import SettingsError
from catena.problems.answer_claims import answer_claim, answered_as
from catena.problems.answer_features import ALLOWED, ENDS, STARTS, answer_features
from catena.problems.answer_spans import Found, best_span, best_spans, token_overlap, token_scores
from catena.problems.answers import canonical, from_canonical, read_answers, spans_as_text
from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, without_classes
from catena.problems.features import pad_inputs
from catena.problems.outputs import HeadSpec, Measured, Outputs

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.data.formats import Content
    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings

#: Column of passages that cleaning changed, while they are predicted: the `Alignment` with what was given.
_GIVEN = "given"
#: The one thing that a model's label names say: whether it has learned that there may be no answer.
ANSWER, NO_ANSWER = "answer", "no answer"


class Answering(Problem):
    """The head gives each token a score for starting and for ending the answer (Devlin et al. 2019).

    The target are all acceptable answers, `[[start, text], …]` in JSON with offsets in characters of the
    passage; `[]` where it has none.
    """

    name = "answering"
    input_roles = ("question", "context")
    target_role = "answers"
    contents: ClassVar[Mapping[str, Content]] = {"answers": "json"}
    split_roles = ("context",)
    fewest_classes = 0
    truncates = False
    asks_for_labels = True
    one_vector = False
    validation_metric_names: ClassVar[Mapping[str, bool]] = {"f1": True, "exact": True, "log_loss": False}

    # -- records ---------------------------------------------------------------------------

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Answers, in whatever form the file has them, become spans of the passage."""
        targets = records["answers"].tolist()
        reasons = [""] * len(records)
        for at, (context, raw) in enumerate(zip(records["context"].tolist(), targets, strict=True)):
            if isinstance(context, str) and isinstance(raw, str) and raw.strip():
                try:
                    targets[at] = spans_as_text(read_answers(raw, context))
                except ValueError as error:
                    reasons[at] = str(error)
            else:
                targets[at] = None  # an empty field; a passage without an answer has an empty list
        index = records.index
        composed = records.assign(answers=pd.Series(targets, index=index, dtype="str"))
        return composed, pd.Series(reasons, index=index, dtype="str")

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        if names is not None:
            raise SettingsError("`data.labels` says nothing to the problem answering; leave it out.")
        return list(values), [""] * len(values)

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """Clean questions and passages. Where there are answers they move along; where not, what moved
        is noted."""
        given = records["context"].tolist()
        records = super().clean(records, cleaner)
        cleaned = records["context"].tolist()
        known: dict[str, Alignment] = {}  # many questions share a passage
        for before, after in zip(given, cleaned, strict=True):
            if before != after and before not in known:
                known[before] = align(before, cleaner)
        if self.target_role not in records:
            if known:
                notes = [known.get(context) for context in given]
                records[_GIVEN] = pd.Series(notes, index=records.index, dtype=object)
            return records
        targets = [
            _moved(target, context, known.get(context))
            for target, context in zip(records["answers"].tolist(), given, strict=True)
        ]
        return records.assign(answers=pd.Series(targets, index=records.index, dtype="str"))

    def classes(self, targets: pd.Series) -> None:
        return None

    def label_names(self, records: pd.DataFrame) -> tuple[str, ...]:
        """Whether some training passages have no answer; only then may the model say so."""
        missing = (records[self.target_role] == "[]").any()
        return (ANSWER, NO_ANSWER) if missing else (ANSWER,)

    def examine(self, parts: Mapping[str, pd.DataFrame]) -> list[str]:
        missing = {name: float((part["answers"] == "[]").mean()) for name, part in parts.items()}
        if missing["train"] == 0 and missing["test"] > 0:
            return [
                f"{missing['test']:.0%} of the test questions have no answer in their passage, but no "
                "training question shows the model what that looks like"
            ]
        return []

    def describe_targets(self, targets: pd.Series) -> dict[str, float]:
        """How many questions have an answer, and how long the first of them are, in characters."""
        lengths = [len(answers[0][1]) for answers in map(from_canonical, targets) if answers]
        figures: dict[str, float] = {"with an answer": len(lengths), "without": len(targets) - len(lengths)}
        if lengths:
            points = np.percentile(lengths, (50, 95, 100))
            figures |= dict(zip(("characters p50", "p95", "max"), map(float, points), strict=True))
        return figures

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        return pa.DataFrameSchema(
            {
                "question": pa.Column(str, pa.Check.str_length(min_value=1, error="empty question")),
                "context": pa.Column(str, pa.Check.str_length(min_value=1, error="empty context")),
                "answers": pa.Column(
                    str, pa.Check.str_length(min_value=1, error="cleaning leaves nothing of the answer")
                ),
            }
        )

    # -- features --------------------------------------------------------------------------

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """One row for each window; with targets, also windows of passages that do not answer."""
        questions, contexts = records["question"].tolist(), records["context"].tolist()
        targets = records["answers"].tolist() if self.target_role in records else None
        partners = self._other_passages(questions, contexts, targets) if targets is not None else ()
        return answer_features(
            questions,
            contexts,
            targets,
            tokenizer,
            settings.max_length,
            self.settings.window_overlap,
            self.settings.hints,
            partners,
        )

    def _other_passages(
        self, questions: Sequence[str], contexts: Sequence[str], targets: Sequence[str]
    ) -> list[list[int]]:
        """For each question some of the ten passages nearest to it by words that do not hold its answer."""
        count = self.settings.other_passages
        firsts = {context: at for at, context in reversed(list(enumerate(contexts)))}
        if not count or len(firsts) < 2:
            return []
        from sklearn.feature_extraction.text import TfidfVectorizer

        from catena.evaluation.baselines import word_options

        passages = list(firsts)
        vectorizer = TfidfVectorizer(sublinear_tf=True, **word_options(passages))
        table = vectorizer.fit_transform(passages)
        near = (vectorizer.transform(questions) @ table.T).tocsr()
        chosen: list[list[int]] = []
        for at, (question, context) in enumerate(zip(questions, contexts, strict=True)):
            row = near[at]
            ranked = [passages[row.indices[i]] for i in np.argsort(-row.data, kind="stable")[:10]]
            texts = {text for _, text in from_canonical(targets[at])}
            others = [one for one in ranked if one != context and not any(text in one for text in texts)]
            # by the question's own content, so that nothing else moves the choice
            others.sort(key=lambda one: hashlib.blake2b(f"{question}\0{one}".encode()).digest())
            chosen.append([firsts[one] for one in others[:count]])
        return chosen

    # -- network ---------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("token-classification", ("start", "end"), pairs=True)

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        return pad_inputs(features, pad_token_id, pad_to, {"shape_ids": 0, "labels": 0})

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean of the negative log probabilities that the right starts and the right ends have together.

        Where there are several answers any may be said (Clark and Gardner 2018, arXiv 1710.10723).
        Windows that shortening left without what they should say do not count.
        """
        import torch

        allowed = (labels & ALLOWED) > 0
        logits = logits.float().masked_fill(~allowed.unsqueeze(-1), -1e4)
        scores = torch.log_softmax(logits, dim=1)
        total = logits.new_zeros(())
        counted = logits.new_zeros(())
        for side, bit in enumerate((STARTS, ENDS)):
            right = (labels & bit) > 0
            known = right.any(dim=1)
            chance = scores[..., side].masked_fill(~right, -1e4).logsumexp(dim=1)
            if label_smoothing:
                even = (scores[..., side] * allowed).sum(dim=1) / allowed.sum(dim=1).clamp(min=1)
                chance = (1 - label_smoothing) * chance + label_smoothing * even
            total = total - (chance * known).sum()
            counted = counted + known.sum()
        return total / counted.clamp(min=1)

    def weight(self, labels: torch.Tensor) -> int:
        """Starts and ends that a window has, each counting as one."""
        return sum(int(((labels & bit) > 0).any(dim=1).sum()) for bit in (STARTS, ENDS))

    # -- predictions -------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """Answers in the passages as they were given, also where cleaning has changed them.

        `confidence` is the probability of what is said, `no_answer` that of there being no answer. Where
        none is said, `answer` is empty and `start` and `end` are -1.
        """
        found = best_spans(cast(Measured, outputs), features, len(records), self.settings.max_answer_tokens)
        contexts = records["context"].tolist()
        notes = records[_GIVEN].tolist() if _GIVEN in records else [None] * len(contexts)
        columns: dict[str, list[Any]] = {name: [] for name, _ in self.output_columns(label_names)}
        for one, context, note in zip(found, contexts, notes, strict=True):
            start, end, text = one.start, one.end, context[one.start : one.end]
            if one.start < 0 or (NO_ANSWER in label_names and self._silent(one)):
                start, end, text = -1, -1, ""
            elif note is not None:
                start, end = note.to_given(start, end)
            columns["prediction"].append(canonical([(start, text)] if start >= 0 else []))
            columns["answer"].append(text)
            columns["start"].append(start)
            columns["end"].append(end)
            columns["confidence"].append(one.probability if start >= 0 else one.nothing)
            columns["no_answer"].append(one.nothing)
        kinds: dict[str, Any] = {"string": "str", "double": "float64", "long": "int64"}
        return pd.DataFrame(
            {
                name: pd.array(columns[name], dtype=kinds[kind])
                for name, kind in self.output_columns(label_names)
            }
        )

    def _silent(self, found: Found) -> bool:
        """Whether there being no answer is likelier than the best one, by `problem.no_answer_threshold`."""
        tiny = 1e-300
        margin = np.log(max(found.nothing, tiny)) - np.log(max(found.probability, tiny))
        return bool(margin > self.settings.no_answer_threshold)

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        return [
            ("prediction", "string"),
            ("answer", "string"),
            ("start", "long"),
            ("end", "long"),
            ("confidence", "double"),
            ("no_answer", "double"),
        ]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        """Of windows, not of passages: overlap of tokens, the same span, and the loss."""
        f1 = exact = loss = 0.0
        for logits, row in zip(outputs, labels, strict=True):
            bits = np.asarray(row)
            inside = (bits & ALLOWED) > 0
            inside[0] = False
            scores = token_scores(np.asarray(logits), inside)
            score, *said = best_span(scores, inside, self.settings.max_answer_tokens) or (-np.inf, 0, 0)
            starts, ends = (np.flatnonzero(bits & bit) for bit in (STARTS, ENDS))
            truth = [(int(start), int(ends[ends >= start].min(initial=len(bits)))) for start in starts]
            if scores[0].sum() > score:
                said = [0, 0]
            overlap = token_overlap((said[0], said[1]), truth)
            f1 += overlap
            exact += overlap == 1.0
            for side, places in enumerate((starts, ends)):
                loss -= float(np.logaddexp.reduce(scores[places, side])) / 2 if len(places) else 0.0
        windows = max(len(outputs), 1)
        return {"f1": f1 / windows, "exact": exact / windows, "log_loss": loss / windows}

    def evaluation(self) -> Evaluation:
        from catena.evaluation.answering import AnsweringEvaluation

        return AnsweringEvaluation()

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """That this is the answer, or that there is none."""
        without_classes(about, self.name)
        return [answer_claim(said)]

    def expected(self, given: Any, inputs: Mapping[str, str], names: Mapping[str, str] | None) -> str:
        """Acceptable answers in any form that the data may have, which must be in the passage."""
        raw = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        context = inputs["context"]
        return canonical((start, context[start:end]) for start, end in read_answers(raw, context))

    def satisfies(self, said: Row, expected: str, tolerance: float) -> bool:
        return answered_as(said, expected)

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        """Whether the answers have the same words, wherever they stand."""
        return answered_as(after, str(before["prediction"]))

    def shown(self, said: Row) -> str:
        return "; ".join(dict.fromkeys(text for _, text in from_canonical(said["prediction"]))) or "no answer"


def _moved(target: str, context: str, alignment: Alignment | None) -> str:
    """Spans of the given passage as answers in the cleaned one; "" where cleaning leaves nothing of them."""
    spans = json.loads(target)
    if alignment is None:
        return canonical((start, context[start:end]) for start, end in spans)
    answers = []
    for start, end in spans:
        first, last = alignment.to_cleaned(start, end)
        text = alignment.cleaned[first:last]
        first += len(text) - len(text.lstrip())
        if text.strip():
            answers.append((first, text.strip()))
    return canonical(answers) if answers or not spans else ""

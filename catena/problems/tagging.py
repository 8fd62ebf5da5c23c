"""Tagging: entities in a text, each a span with a label (named entity recognition)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.data.alignment import Alignment, align
from catena.data.values import tokens_as_text
from catena.errors import SettingsError
from catena.problems.base import Problem
from catena.problems.claims import Claim, Row
from catena.problems.entity_claims import (
    entities_agree,
    entities_found,
    entity_claims,
    locate_entities,
    quoted_entities,
)
from catena.problems.features import pad_inputs
from catena.problems.outputs import HeadSpec, Measured, Outputs
from catena.problems.spans import (
    Entity,
    canonical,
    cuts_a_word,
    from_canonical,
    read_entities,
)
from catena.problems.tag_chains import chain_loss, divide, path_likelihood, tag_count
from catena.problems.tag_decoding import allowed_transitions, best_tags, by_record, decode, log_softmax
from catena.problems.tag_features import IGNORED, tag_features
from catena.problems.tag_schemes import read_tags, tag_names

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.data.formats import Content
    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings

#: Column of texts that cleaning changed, while they are predicted: the `Alignment` with what was given.
_GIVEN = "given"


class Tagging(Problem):
    """The head gives each word piece a score for every IOB2 tag; the target is a list of spans.

    Entities are kept as `[[start, end, label], …]` in JSON, offsets in characters of `text`. They do
    not overlap.
    """

    name = "tagging"
    input_roles = ("text",)
    target_role = "entities"
    contents: ClassVar[Mapping[str, Content]] = {"text": "tokens", "entities": "json"}
    fewest_classes = 1
    truncates = False
    asks_for_labels = True
    one_vector = False
    token_features = frozenset({"labels", "shape_ids", "word_starts", "word_ends"})
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "entity_f1": True,
        "entity_precision": True,
        "entity_recall": True,
        "word_accuracy": True,
        "log_loss": False,
    }

    # -- records ---------------------------------------------------------------------------

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Spans or tags, as the file has them, become spans."""
        texts = records["text"].tolist()
        targets = records["entities"].tolist()
        reasons = [""] * len(records)
        for at, (text, raw) in enumerate(zip(texts, targets, strict=True)):
            if isinstance(text, str) and isinstance(raw, str):
                try:
                    texts[at] = text = _running_text(text, raw)
                    targets[at] = self._read(raw, text)
                except ValueError as error:
                    reasons[at] = str(error)
        index = records.index
        composed = records.assign(
            text=pd.Series(texts, index=index, dtype="str"),
            entities=pd.Series(targets, index=index, dtype="str"),
        )
        return composed, pd.Series(reasons, index=index, dtype="str")

    def _read(self, raw: str, text: str) -> str:
        entities = read_entities(raw, text, self.settings.tag_scheme)
        if self.settings.words == "spaces" and cuts_a_word(text, entities):
            raise ValueError(
                "entity begins or ends inside a word (`problem.words: tokenizer` ends them at punctuation)"
            )
        return canonical(entities)

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """Clean texts. Where there are entities they move along; where not, what moved is noted."""
        given = records["text"].tolist()
        cleaned = cleaner.clean(given)
        changed = [
            at for at, (before, after) in enumerate(zip(given, cleaned, strict=True)) if before != after
        ]
        records = records.assign(text=pd.array(cleaned, dtype="str"))
        if self.target_role not in records:
            if changed:
                notes: list[Alignment | None] = [None] * len(given)
                for at in changed:
                    notes[at] = align(given[at], cleaner)
                records[_GIVEN] = pd.Series(notes, index=records.index, dtype=object)
            return records
        targets = records["entities"].tolist()
        for at in changed:
            if targets[at] != "[]":
                targets[at] = canonical(_moved(from_canonical(targets[at]), align(given[at], cleaner)))
        return records.assign(entities=pd.Series(targets, index=records.index, dtype="str"))

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        if names is None:
            return list(values), [""] * len(values)
        targets: list[str] = []
        reasons: list[str] = []
        for value in values:
            try:
                entities = from_canonical(value)
            except ValueError:  # `compose` has said why
                targets.append(value)
                reasons.append("")
                continue
            targets.append(canonical((start, end, names.get(label, label)) for start, end, label in entities))
            unknown = any(label not in names for _, _, label in entities)
            reasons.append("entity label not among `data.labels`" if unknown else "")
        return targets, reasons

    def classes(self, targets: pd.Series) -> pd.Series:
        """The labels in each record, each once."""
        labels = [sorted({label for _, _, label in from_canonical(target)}) for target in targets]
        return pd.Series(labels, index=targets.index, dtype=object).explode().dropna().astype("str")

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        known = set(label_names or ())
        checks = []
        if known:
            checks.append(
                pa.Check(
                    lambda target: all(label in known for _, _, label in from_canonical(target)),
                    element_wise=True,
                    error="unknown label",
                )
            )
        return pa.DataFrameSchema(
            {
                "text": pa.Column(str, pa.Check.str_length(min_value=1, error="empty text")),
                "entities": pa.Column(str, checks),
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
        """One row for each window of a text.

        `word_starts` and `word_ends` say which word a piece speaks for, and are -1 for pieces that speak
        for none here; `shape_ids` say how words are written, where the tokenizer drops case.
        """
        targets = records["entities"].tolist() if self.target_role in records else None
        return tag_features(
            records["text"].tolist(), targets, tokenizer, settings.max_length, label_names, self.settings
        )

    # -- network ---------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        kind = "token-chain" if self.settings.crf else "token-classification"
        return HeadSpec(kind, tag_names(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        return pad_inputs(features, pad_token_id, pad_to, {"shape_ids": 0, "labels": IGNORED})

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean over the pieces that have a label; 0 where none has.

        With `problem.crf` the likelihood is that of whole sequences of words. Raises `SettingsError` where
        that is to be smoothed.
        """
        if self.settings.crf:
            if label_smoothing:
                raise SettingsError(
                    "`training.label_smoothing` is not there with `problem.crf`; set it to 0."
                )
            rules = allowed_transitions(_numbered_tags(tag_count(logits.shape[-1])))
            return chain_loss(logits, labels, rules[1], IGNORED)
        from torch.nn import functional

        total = functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
        return total / (labels != IGNORED).sum().clamp(min=1)

    def weight(self, labels: torch.Tensor) -> int:
        return int((labels != IGNORED).sum())

    # -- predictions -------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """Entities in the texts as they were given, also where cleaning has changed them.

        `confidence` is the least probability of a word's tag; `spans` lists each entity with its text
        and `score`, the least probability of a tag in it.
        """
        tags = tag_names(label_names)
        texts = records["text"].tolist()
        notes = records[_GIVEN].tolist() if _GIVEN in records else [None] * len(texts)
        table: dict[str, list[Any]] = {"prediction": [], "confidence": [], "spans": []}
        scored = by_record(outputs, features, len(texts))
        for text, note, pieces in zip(texts, notes, scored, strict=True):
            found, confidence = decode(pieces, tags, text)
            entities: list[Entity] = []
            shown = []
            for (start, end, label), score in found:
                quoted = text[start:end]
                if note is not None:
                    start, end = note.to_given(start, end)
                entities.append((start, end, label))
                shown.append(
                    {"start": start, "end": end, "label": label, "text": quoted, "score": round(score, 4)}
                )
            table["prediction"].append(canonical(entities))
            table["confidence"].append(confidence)
            table["spans"].append(json.dumps(shown, ensure_ascii=False))
        return pd.DataFrame(
            {
                "prediction": pd.array(table["prediction"], dtype="str"),
                "confidence": np.asarray(table["confidence"], dtype=np.float64),
                "spans": pd.array(table["spans"], dtype="str"),
            }
        )

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        return [("prediction", "string"), ("confidence", "double"), ("spans", "string")]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        """Scores over the pieces that have a label, which are the words' first ones by default."""
        width = outputs[0].shape[-1]
        tags = _numbered_tags(tag_count(width) if self.settings.crf else width)
        first, following = allowed_transitions(tags)
        right = wrong = missed = 0
        words = hits = 0
        loss = 0.0
        for logits, row in zip(outputs, labels, strict=True):
            chosen = np.asarray(row) != IGNORED
            truth = np.asarray(row)[chosen]
            emissions, learned = divide(logits[chosen], len(tags))
            scores = log_softmax(emissions)
            said = best_tags(scores, first, following, learned)
            expected = set(read_tags([tags[number] for number in truth]))
            found = set(read_tags([tags[number] for number in said]))
            right += len(expected & found)
            wrong += len(found - expected)
            missed += len(expected - found)
            words += len(truth)
            hits += int((said == truth).sum())
            if learned is None:
                loss -= float(scores[np.arange(len(truth)), truth].sum())
            elif len(truth):
                loss -= path_likelihood(scores, learned, truth, following)
        return {
            "entity_f1": 2 * right / max(2 * right + wrong + missed, 1),
            "entity_precision": right / max(right + wrong, 1),
            "entity_recall": right / max(right + missed, 1),
            "word_accuracy": hits / max(words, 1),
            "log_loss": loss / max(words, 1),
        }

    def evaluation(self) -> Evaluation:
        from catena.evaluation.tagging import TaggingEvaluation

        return TaggingEvaluation()

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """Each entity found, or any entity of the label asked about."""
        return entity_claims(said, label_names, about)

    def expected(self, given: Any, inputs: Mapping[str, str], names: Mapping[str, str] | None) -> str:
        """Entities may be given by `text` and `label` instead of where they are."""
        return super().expected(locate_entities(given, inputs["text"]), inputs, names)

    def satisfies(self, said: Row, expected: str, tolerance: float) -> bool:
        """Whether all expected entities are found; none may be where none are expected."""
        return entities_found(said, expected)

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        """Whether the entities that are written in both texts are the same, capitals aside."""
        return entities_agree(before, after)

    def shown(self, said: Row) -> str:
        return ", ".join(f"{text} ({label})" for text, label in quoted_entities(said)) or "no entity"


def _numbered_tags(count: int) -> list[str]:
    """The IOB2 tags of labels that are called by their numbers, in the order of `tag_names`."""
    return ["O", *(f"{'BI'[at % 2]}-{at // 2}" for at in range(count - 1))]


def _running_text(text: str, raw: str) -> str:
    """The text, which is a JSON list of tokens where a format with columns of lists had tags for them."""
    if text.startswith('["') and raw.startswith('["'):
        return tokens_as_text(json.loads(text), "text")
    return text


def _moved(entities: Sequence[Entity], alignment: Alignment) -> Iterator[Entity]:
    """Entities of the given text in the cleaned one; what cleaning leaves nothing of is gone."""
    for start, end, label in entities:
        first, last = alignment.to_cleaned(start, end)
        inside = alignment.cleaned[first:last]
        first += len(inside) - len(inside.lstrip())
        last -= len(inside) - len(inside.rstrip())
        if first < last:
            yield first, last, label

"""The evaluation of generation: how well texts are foreseen, and what is written in their place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd

from catena.evaluation.base import Baseline, Metric
from catena.evaluation.baselines import BaselineData, Learned, word_weights
from catena.evaluation.byte_model import ByteModel
from catena.evaluation.counted import CountedEvaluation, ResultTable
from catena.evaluation.mistakes import excerpt
from catena.evaluation.overlap import Diversity, distinct, rouge_l, rouge_n, words
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats
from catena.settings import ProblemSettings

#: Columns of the counts before those of the texts: nats, tokens, bytes.
_LIKELIHOOD = 3
_TEXT_SCORES = ("rouge_1", "rouge_2", "rouge_l", "distinct_1", "distinct_2", "repetition")
_SAMPLES = 12
#: Training texts that a query is compared with at a time, and longest text that the n-gram model writes.
_QUERIES = 512
_WRITTEN_BYTES = 400


class GenerationEvaluation(CountedEvaluation):
    """Perplexity and bits per byte are of the test records' own texts, all else of what is written for them.

    Bits per byte are the same scale for all tokenizers; the token that ends an answer counts among the
    bits. ROUGE is a mean over records of F1, as are the shares of different n-grams and of repeated
    ones over the records that have any (seq-rep-4, Welleck et al. 2019).

    Baselines that foresee texts give their log-likelihoods in nats per byte as confidences, since of a text
    that is too long one may read another stretch than the model does.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "bits_per_byte": Metric("bits per byte", higher_is_better=False),
        "perplexity": Metric("perplexity", higher_is_better=False),
        "rouge_1": Metric("ROUGE-1"),
        "rouge_2": Metric("ROUGE-2"),
        "rouge_l": Metric("ROUGE-L"),
        "distinct_1": Metric("distinct-1 (in a text)"),
        "distinct_2": Metric("distinct-2 (in a text)"),
        "repetition": Metric("repeated 4-grams", higher_is_better=False),
    }
    deciding = "bits_per_byte"
    target = "response"
    slice_metric = "bits_per_byte"

    def __init__(self, settings: ProblemSettings) -> None:
        self._settings = settings
        self._converses = settings.form == "conversation"

    @property
    def headline(self) -> Mapping[str, str]:  # type: ignore[override]
        """In a text there are many ways to go on, so that likeness to the one that was taken says little."""
        third = {"rouge_l": "ROUGE-L"} if self._converses else {"repetition": "repeated 4-grams"}
        return {"bits_per_byte": "bits per byte", "perplexity": "perplexity", **third}

    @property
    def baselines(self) -> Mapping[str, tuple[str, Baseline]]:  # type: ignore[override]
        shared: dict[str, tuple[str, Baseline]] = {
            "backbone": ("Backbone before fine-tuning", self.backbone),
            "nearest": ("Response to the nearest prompt", nearest),
        }
        if self._converses:
            return shared
        return shared | {"ngram": ("Bytes by the four before them (Witten-Bell)", self.ngram)}

    @property
    def default_baselines(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("backbone", "nearest" if self._converses else "ngram")

    def baseline_basis(self) -> object:
        return self._settings.model_dump(mode="json", include={"form", "decoding"})

    def stored_columns(self, label_names: Sequence[str]) -> list[str]:
        return [self.target, "prediction", "target_loss", "target_tokens", "target_bytes"]

    # -- scores -----------------------------------------------------------------------------------

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        counts = np.zeros((len(records), _LIKELIHOOD + 2 * len(_TEXT_SCORES)))
        counts[:, 0] = self._loss(records, column)
        counts[:, 1] = records["target_tokens"]
        counts[:, 2] = records["target_bytes"]
        for row, (reference, written) in enumerate(zip(records[self.target], records[column], strict=True)):
            for at, value in enumerate(_text_scores(words(str(reference)), words(str(written)))):
                if value is not None:
                    counts[row, _LIKELIHOOD + 2 * at : _LIKELIHOOD + 2 * at + 2] = value, 1.0
        return counts

    @staticmethod
    def _loss(records: pd.DataFrame, column: str) -> Floats:
        """Nats of the target, as much as the model reads of it; NaN from a baseline that foresees none."""
        if column == "prediction":
            return records["target_loss"].to_numpy(dtype=np.float64)
        if f"{column}:confidence" in records:
            per_byte = -records[f"{column}:confidence"].to_numpy(dtype=np.float64)
            sizes: Floats = records["target_bytes"].to_numpy(dtype=np.float64)
            return per_byte * sizes
        return np.full(len(records), np.nan)

    def scores(self, sums: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found = {
                "bits_per_byte": sums[..., 0] / math.log(2) / sums[..., 2],
                "perplexity": np.exp(sums[..., 0] / sums[..., 1]),
            }
            for at, name in enumerate(_TEXT_SCORES):
                found[name] = sums[..., _LIKELIHOOD + 2 * at] / sums[..., _LIKELIHOOD + 2 * at + 1]
        return found

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """2 to the power of minus bits per byte: the geometric mean of the probabilities of its bytes."""
        sizes = np.maximum(records["target_bytes"].to_numpy(dtype=np.float64), 1.0)
        probabilities: np.ndarray = np.exp(-self._loss(records, "prediction") / sizes)
        return probabilities

    # -- what is shown ----------------------------------------------------------------------------

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        records, plan = predictions.records, predictions.plan
        titles = {name: self.baselines[name][0] for name in predictions.baselines if name in self.baselines}
        return [self._diversity(records, titles), self._samples(records, titles, plan)]

    def _diversity(self, records: pd.DataFrame, titles: Mapping[str, str]) -> ResultTable:
        columns = {
            "prediction": "This model",
            self.target: "The records' own responses",
            **{f"baseline:{name}": title for name, title in titles.items()},
        }
        rows = []
        for column, title in columns.items():
            found = Diversity.of(records[column].astype(str))
            rows.append({"texts": title, **{name: round(value, 4) for name, value in vars(found).items()}})
        shown = {
            "texts": "Texts",
            "distinct_1": "distinct-1",
            "distinct_2": "distinct-2",
            "repetition": "repeated 4-grams",
            "words": "words a text",
        }
        return ResultTable(
            "diversity",
            "Variety of what is written",
            shown,
            rows,
            "Shares of different words and word pairs among those of all texts together (Li et al. 2016), "
            "and of 4-grams that occurred before in the same text. They fall with the amount of text.",
        )

    def _samples(self, records: pd.DataFrame, titles: Mapping[str, str], plan: EvaluationPlan) -> ResultTable:
        drawn = np.random.default_rng(plan.seed).permutation(len(records))[:_SAMPLES]
        columns = {"prompt": "Prompt", self.target: "Its own response", "prediction": "Written"}
        columns |= {f"baseline:{name}": title for name, title in titles.items()}
        rows = [
            {column: self.shown(records.iloc[row], column, plan) for column in columns}
            for row in sorted(drawn.tolist())
        ]
        return ResultTable(
            "samples",
            "Samples",
            columns,
            rows,
            "Test records drawn at random, and what was written for them.",
            running=tuple(columns),
        )

    def shown_columns(self, records: pd.DataFrame) -> list[str]:
        return ["prompt"] if "prompt" in records else []

    def shown(self, record: pd.Series, column: str, plan: EvaluationPlan) -> str:
        text = str(record[column])
        return _readable(text) if column == "prompt" and self._converses else excerpt(text)

    # -- baselines --------------------------------------------------------------------------------

    def backbone(self, data: BaselineData) -> Learned:
        """The network as it was fetched, asked in the same way; it foresees the same tokens."""
        from catena.predictor import Predictor

        card = {
            "problem": self._settings.model_dump(mode="json"),
            "label_names": [],
            "tokenization": {"max_length": data.max_length},
            "cleaning": {},
            "backbone": {"type": "pretrained"},
            "method": {},
        }
        found = Predictor(data.backbone, card, "auto", "auto").predict(
            data.test, clean=False, score_targets=True
        )
        sizes = np.maximum(found["target_bytes"].to_numpy(dtype=np.float64), 1.0)
        losses = found["target_loss"].to_numpy(dtype=np.float64)
        return found["prediction"].to_numpy(dtype=object), -losses / sizes

    def ngram(self, data: BaselineData) -> Learned:
        """Foresees each byte by the four before it, and draws texts of the responses' lengths."""
        model = ByteModel(data.train["prompt"] + data.train["response"])
        generator = np.random.default_rng(data.seed)
        written, per_byte = [], []
        for prompt, response in zip(data.test["prompt"], data.test["response"], strict=True):
            text = prompt + response
            per_byte.append(model.log_likelihood(text) / max(len(text.encode()), 1))
            size = min(len(response.encode()), _WRITTEN_BYTES)
            written.append(model.write(prompt, size, generator).strip())
        return np.array(written, dtype=object), np.array(per_byte)


def nearest(data: BaselineData) -> Learned:
    """The response to the training prompt with the most similar words (cosine of TF-IDF weights)."""
    trained, unseen = word_weights(
        [_readable(text, None) for text in data.train["prompt"]],
        [_readable(text, None) for text in data.test["prompt"]],
    )
    best = [
        np.asarray((unseen[at : at + _QUERIES] @ trained.T).argmax(axis=1)).ravel()
        for at in range(0, unseen.shape[0], _QUERIES)
    ]
    return data.train["response"].to_numpy(dtype=object)[np.concatenate(best)], None


def _text_scores(reference: Sequence[str], written: Sequence[str]) -> list[float | None]:
    """Those of `_TEXT_SCORES`; nothing where a text is too short for one."""
    fours = distinct(written, 4)
    return [
        rouge_n(reference, written, 1),
        rouge_n(reference, written, 2),
        rouge_l(reference, written),
        distinct(written, 1),
        distinct(written, 2),
        None if fours is None else 1 - fours,
    ]


def _readable(prompt: str, most: int | None = 360) -> str:
    """A conversation as people write one down; of a long turn the beginning and the end."""
    try:
        turns = [f"{one['role']}: {_middle_out(one['content'], most)}" for one in json.loads(prompt)]
    except (ValueError, TypeError, KeyError):
        return prompt
    return "\n".join(turns)


def _middle_out(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return text
    return f"{text[: most // 2].rstrip()} … {text[-most // 2 :].lstrip()}"

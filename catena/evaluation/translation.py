"""The evaluation of translation: BLEU and chrF, beside copying and a translation memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from catena.data.scripts import word_counts
from catena.errors import SettingsError
from catena.evaluation.base import Baseline, Metric
from catena.evaluation.baselines import BaselineData, Learned, word_weights
from catena.evaluation.counted import CountedEvaluation, ResultTable
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.scores import Floats

#: Longest n-grams of words (BLEU) and of characters (chrF), and how much more recall weighs than precision.
_WORDS = 4
_CHARACTERS = 6
_BETA = 2.0
#: Numbers a record contributes: lengths, n-grams right and written to BLEU; right, written, there to chrF.
_BLEU = 2 + 2 * _WORDS
_CHRF = 3 * _CHARACTERS
#: Sources compared with the training part at a time.
_ROWS = 256


def copied(data: BaselineData) -> Learned:
    """The source as it is: what names and numbers alone are worth."""
    return data.test["text"].to_numpy(dtype=object), None


def memory(data: BaselineData) -> Learned:
    """A translation memory: the translation of the training source most alike by TF-IDF weights of words."""
    known, asked = word_weights(data.train["text"].tolist(), data.test["text"].tolist())
    nearest: list[int] = []
    for start in range(0, asked.shape[0], _ROWS):
        nearest += np.asarray((asked[start : start + _ROWS] @ known.T).argmax(axis=1)).ravel().tolist()
    return data.train["translation"].to_numpy(dtype=object)[nearest], None


class TranslationEvaluation(CountedEvaluation):
    """Corpus scores as sacreBLEU 2 computes them (Post 2018, arXiv 1804.08771), case and all.

    BLEU (Papineni et al. 2002) with its default smoothing, chrF2 (Popović 2015) of characters without
    spaces. Both are functions of counts summed over records, so resampling draws records (Koehn 2004).
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "bleu": Metric("BLEU"),
        "chrf": Metric("chrF2"),
        "exact_match": Metric("exact matches", percent=True),
        "length_ratio": Metric("length ÷ reference length"),
        "perplexity": Metric("perplexity of the references, per token", higher_is_better=False),
    }
    headline: ClassVar[Mapping[str, str]] = {"bleu": "BLEU", "chrf": "chrF2"}
    deciding = "bleu"
    default_floors: ClassVar[Mapping[str, float]] = {"bleu": 5.0}
    target = "translation"
    slice_metric: ClassVar[str | None] = "chrf"
    default_baselines = ("copy", "memory")
    baselines: ClassVar[Mapping[str, tuple[str, Baseline]]] = {
        "copy": ("Source copied", copied),
        "memory": ("Translation of the most similar training source", memory),
    }

    def __init__(self, tokenizer: str = "13a") -> None:
        from sacrebleu.metrics.bleu import BLEU

        # only its tokens are used here; single sentences have no score of their own
        self._bleu = BLEU(tokenize=tokenizer, smooth_method="none", effective_order=True)
        self.tokenizer = tokenizer

    def check_metric(self, metric: str) -> None:
        super().check_metric(metric)
        if metric in ("perplexity", "length_ratio"):
            raise SettingsError(
                f"`{metric}` does not say which of two models translates better: it depends on the "
                "vocabulary, or has its best value in the middle; choose bleu, chrf or exact_match."
            )

    def stored_columns(self, label_names: Sequence[str]) -> list[str]:
        return [self.target, "prediction", "target_loss", "target_tokens"]

    def counts(self, records: pd.DataFrame, plan: EvaluationPlan, column: str = "prediction") -> Floats:
        said = records[column].astype(str).tolist()
        there = records[self.target].astype(str).tolist()
        table = np.zeros((len(records), _BLEU + _CHRF + 4))
        for row, (ours, theirs) in enumerate(zip(said, there, strict=True)):
            found = self._bleu.sentence_score(ours, [theirs])
            table[row, :_BLEU] = [found.sys_len, found.ref_len, *found.counts, *found.totals]
            table[row, _BLEU : _BLEU + _CHRF] = _character_counts(ours, theirs)
            table[row, -4] = 1
            table[row, -3] = ours == theirs
        if column == "prediction":  # only the model gives references a probability
            table[:, -2:] = records[["target_loss", "target_tokens"]].to_numpy(dtype=np.float64)
        return table

    def scores(self, sums: Floats) -> dict[str, Floats]:
        records, exact, loss, tokens = np.moveaxis(sums[..., -4:], -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "bleu": bleu(sums[..., :_BLEU]),
                "chrf": chrf(sums[..., _BLEU : _BLEU + _CHRF]),
                "exact_match": exact / records,
                "length_ratio": sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan),
                "perplexity": np.exp(np.where(tokens > 0, loss / tokens, np.nan)),
            }

    def score(self, predictions: Predictions) -> dict[str, Any]:
        return super().score(predictions) | {"signatures": self.signatures()}

    def signatures(self) -> dict[str, str]:
        """How the scores were computed, in sacreBLEU's own terms."""
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        found = {}
        for name, metric in (("bleu", BLEU(tokenize=self.tokenizer)), ("chrf", CHRF())):
            metric.corpus_score(["a"], [["a"]])  # it knows the number of references only then
            found[name] = str(metric.get_signature())
        return found

    def right(self, records: pd.DataFrame, plan: EvaluationPlan) -> np.ndarray:
        """chrF2 of each translation by itself, 0 to 1."""
        table = self.counts(records, plan)[:, _BLEU : _BLEU + _CHRF]
        return np.asarray(chrf(table) / 100.0)

    def tables(self, predictions: Predictions) -> list[ResultTable]:
        """Scores by the length of the source: long sentences are where translation breaks first."""
        records, plan = predictions.records, predictions.plan
        counts = self.counts(records, plan)
        words = word_counts(records["text"]).to_numpy()
        edges = np.unique(np.quantile(words, [0.0, 0.25, 0.5, 0.75, 1.0], method="lower"))
        part = np.clip(np.searchsorted(edges, words, side="right") - 1, 0, max(len(edges) - 2, 0))
        rows = []
        for number in np.unique(part):
            inside = part == number
            found = self.scores(counts[inside].sum(axis=0))
            low, high = int(words[inside].min()), int(words[inside].max())
            rows.append(
                {
                    "words": f"{low}" if low == high else f"{low} to {high}",
                    "records": int(inside.sum()),
                    **{name: float(found[name]) for name in ("bleu", "chrf", "length_ratio", "perplexity")},
                }
            )
        signatures = self.signatures()
        return [
            ResultTable(
                name="lengths",
                title="By length of the source",
                columns={
                    "words": "words", "records": "records", "bleu": "BLEU", "chrf": "chrF2",
                    "length_ratio": "length ratio", "perplexity": "perplexity",
                },
                rows=rows,
                caption=f"BLEU: {signatures['bleu']}. chrF2: {signatures['chrf']}.",
            )
        ]  # fmt: skip

    def shown_columns(self, records: pd.DataFrame) -> list[str]:
        return ["text"]


def bleu(counts: Floats) -> Floats:
    """BLEU, 0 to 100, `(…)` of summed counts `(…, 10)`, smoothed as sacreBLEU does by default.

    Where no n-gram of an order is right, a half, a quarter, … of one is taken for it in turn (Chen and Cherry
    2014, method 3).
    """
    written, there = counts[..., 0], counts[..., 1]
    right, total = counts[..., 2 : 2 + _WORDS], counts[..., 2 + _WORDS :]
    smoothing = np.cumsum((right == 0) & (total > 0), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(right > 0, right, 0.5**smoothing) / total
        logs = np.where(total > 0, np.log(precision), -np.inf).mean(axis=-1)
        brevity = np.where(written < there, 1.0 - there / written, 0.0)
        score = 100.0 * np.exp(logs + brevity)
    return np.asarray(np.where((written > 0) & (right > 0).any(axis=-1), score, 0.0))


def chrf(counts: Floats) -> Floats:
    """chrF2, 0 to 100, `(…)` of summed counts `(…, 18)`: right, written and there for each length of n-gram.

    The F score of precision and recall, each averaged over the lengths that occur on both sides.
    """
    right, written, there = np.moveaxis(counts.reshape(*counts.shape[:-1], _CHARACTERS, 3), -1, 0)
    both = (written > 0) & (there > 0)
    orders = np.maximum(both.sum(axis=-1), 1)
    precision = np.where(both, right / np.maximum(written, 1), 0.0).sum(axis=-1) / orders
    recall = np.where(both, right / np.maximum(there, 1), 0.0).sum(axis=-1) / orders
    with np.errstate(divide="ignore", invalid="ignore"):
        f_score = (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)
    return np.asarray(100.0 * np.where(precision + recall > 0, f_score, 0.0))


def _character_counts(said: str, there: str) -> list[int]:
    """For each length, n-grams of characters that are right, written and there; spaces do not count."""
    ours, theirs = "".join(said.split()), "".join(there.split())
    counts: list[int] = []
    for order in range(1, _CHARACTERS + 1):
        written = Counter(ours[at : at + order] for at in range(len(ours) - order + 1))
        wanted = Counter(theirs[at : at + order] for at in range(len(theirs) - order + 1))
        # as sacreBLEU, which counts nothing as written where nothing of this length is there
        counts += [(written & wanted).total(), written.total() if wanted else 0, wanted.total()]
    return counts

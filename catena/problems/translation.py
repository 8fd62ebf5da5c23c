"""Translation: a text is rewritten in another language, or in another form (sequence to sequence)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.data.scripts import word_counts
from catena.errors import ModelError
from catena.problems.features import pad_inputs
from catena.problems.outputs import HeadSpec
from catena.problems.token_loss import IGNORED, measure_tokens, token_loss
from catena.problems.written import WritingProblem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings

#: Sides of a pair this short may differ in length as they like.
_SHORT = 5


class Translation(WritingProblem):
    """A record is a text and its translation, which a network with encoder and decoder writes.

    The tokens of the target are learned with the true ones before them (teacher forcing); predictions are
    written as `problem.decoding` says (Sutskever et al. 2014, Vaswani et al. 2017).
    """

    name = "translation"
    input_roles = ("text",)
    target_role = "translation"
    writes_in_validation = True
    tokenized_roles = ("text", "translation")
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "bleu": True,
        "chrf": True,
        "log_loss": False,
        "perplexity": False,
        "token_accuracy": True,
    }

    # -- records ----------------------------------------------------------------------------------

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Pairs whose sides differ too much in length are hardly translations (Koehn et al. 2007)."""
        reasons = pd.Series("", index=records.index, dtype="str")
        limit = self.settings.max_length_ratio
        if limit is not None:
            text, translation = (word_counts(records[role].fillna("")) for role in self.tokenized_roles)
            longer, shorter = np.maximum(text, translation), np.minimum(text, translation)
            reasons[(longer > _SHORT) & (shorter > 0) & (longer > limit * shorter)] = (
                "text and translation differ too much in length (`problem.max_length_ratio`)"
            )
        return records, reasons

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """Both sides clean."""
        return records.assign(
            **{
                role: pd.Series(cleaner.clean(records[role].tolist()), index=records.index, dtype="str")
                for role in self.tokenized_roles
                if role in records
            }
        )

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """`length` is that of the longer side, as cut, and `n_tokens` before that."""
        if getattr(tokenizer, "src_lang", None) is not None:
            raise ModelError(
                "This network's tokenizer asks for the languages by name (as those of mBART, NLLB and M2M100 "
                "do), which Catena does not tell it; choose one that translates between two languages."
            )
        features = _tokens(records["text"].tolist(), tokenizer, settings, settings.truncation_side)
        if self.target_role in records:
            targets = _tokens(records["translation"].tolist(), tokenizer, settings, "right", written=True)
            features["labels"] = targets["input_ids"]
            for name, sides in (
                ("n_tokens", (features["n_tokens"], targets["n_tokens"])),
                ("length", tuple(list(map(len, one["input_ids"])) for one in (features, targets))),
            ):
                features[name] = [max(pair) for pair in zip(*sides, strict=True)]
        return features

    # -- network ----------------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("sequence-to-sequence", ())

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """`labels` `(batch, target length)`, less than 0 where there is nothing to write."""
        batch = pad_inputs(features, pad_token_id, pad_to)
        if "labels" in features[0]:
            targets = pad_inputs([{"input_ids": one["labels"]} for one in features], IGNORED, pad_to)
            batch["labels"] = targets["input_ids"]
        return batch

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean over the target's tokens."""
        return token_loss(logits, labels, label_smoothing)

    def weight(self, labels: torch.Tensor) -> int:
        return int((labels >= 0).sum())

    def measure(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return measure_tokens(logits, batch["labels"])

    # -- predictions ------------------------------------------------------------------------------

    def written_metrics(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Corpus BLEU and chrF2 by sacreBLEU (Post 2018), 0 to 100."""
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        references = [list(targets)]
        bleu = BLEU(tokenize=self.settings.bleu_tokenizer)
        return {
            "bleu": float(bleu.corpus_score(list(written), references).score),
            "chrf": float(CHRF().corpus_score(list(written), references).score),
        }

    def evaluation(self) -> Evaluation:
        from catena.evaluation.translation import TranslationEvaluation

        return TranslationEvaluation(self.settings.bleu_tokenizer)


def _tokens(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenizationSettings,
    truncation_side: str,
    written: bool = False,
) -> dict[str, list[Any]]:
    """`input_ids`, cut to `settings.max_length`, and `n_tokens` before that; nothing in a text is special.

    Texts that are `written` are encoded as such, which some tokenizers do in another way.
    """
    if not texts:
        return {"input_ids": [], "n_tokens": []}
    tokenizer.truncation_side = truncation_side

    def encoded(some: Sequence[str], **options: Any) -> list[list[int]]:
        given = {"text_target" if written else "text": list(some)}
        ids: list[list[int]] = tokenizer(**given, split_special_tokens=True, **options)["input_ids"]
        return ids

    input_ids = encoded(texts)
    n_tokens = [len(ids) for ids in input_ids]
    long = [row for row, length in enumerate(n_tokens) if length > settings.max_length]
    if long:
        cut = encoded([texts[row] for row in long], truncation=True, max_length=settings.max_length)
        for row, ids in zip(long, cut, strict=True):
            input_ids[row] = ids
    return {"input_ids": input_ids, "n_tokens": n_tokens}

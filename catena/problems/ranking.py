"""Ranking: which items answer a query, or will please a user, from pairs that did and did not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError
from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, column_claim, without_classes
from catena.problems.features import encode_texts, pad_inputs
from catena.problems.lists import ListScores, list_scores
from catena.problems.outputs import HeadSpec, Measured, Outputs

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings

#: Divides cosines before the softmax over the batch's items (SimCSE, arXiv 2104.08821, uses the same).
_TEMPERATURE = 0.05
#: The highest relevance, a grade whose gain is 2^relevance - 1.
_HIGHEST = 100


class Ranking(Problem):
    """A record is a query (or a user's history as text), an item, and how relevant the item is (0 or more).

    `problem.architecture`: a `cross_encoder` reads both texts together and gives the pair's
    probability; `two_towers` embeds each by itself, so that items can be embedded beforehand and the
    nearest be looked up. A query's pairs form its list, and stay in one part together.
    """

    name = "ranking"
    input_roles = ("query", "item")
    target_role = "relevance"
    fewest_classes = 0
    split_roles = ("query",)
    tolerated = "how far a score may move"
    validation_metric_names: ClassVar[Mapping[str, bool]] = {"ndcg": True, "auc": True, "mrr": True}

    @property
    def towers(self) -> bool:
        return self.settings.architecture == "two_towers"

    # -- records ----------------------------------------------------------------------------------

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        read, reasons = [], []
        for value in values:
            number = _number((names or {}).get(value, value))
            read.append("" if number is None else f"{number:g}")
            reasons.append("" if number is not None else f"relevance is no number from 0 to {_HIGHEST}")
        return read, reasons

    def classes(self, targets: pd.Series) -> pd.Series | None:
        return None

    def examine(self, parts: Mapping[str, pd.DataFrame]) -> list[str]:
        """Lists in which nothing, or everything, is relevant tell no order apart."""
        warnings = []
        for name, records in parts.items():
            relevant = records["relevance"].astype(float) >= self.settings.relevant_from
            by_list = relevant.groupby(records["query"]).agg(["any", "all"])
            one_kind = ~by_list["any"] | by_list["all"]
            if one_kind.all():
                what = "relevant" if by_list["all"].any() else "irrelevant"
                raise DataError(
                    f"The {name} part has no query with both relevant and irrelevant items (all are "
                    f"{what} at `problem.relevant_from: {self.settings.relevant_from:g}`), so there is no "
                    "order to learn or to test; add items of the other kind."
                )
            if one_kind.any() and name != "train":
                warnings.append(
                    f"{int(one_kind.sum()):,} of {len(one_kind):,} queries in the {name} part have only "
                    f"relevant or only irrelevant items and tell no order apart, such as "
                    f"{str(one_kind.idxmax())[:60]!r}"
                )
        return warnings

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        return pa.DataFrameSchema(
            {
                "query": pa.Column(str, pa.Check.str_length(min_value=1, error="empty query")),
                "item": pa.Column(str, pa.Check.str_length(min_value=1, error="empty item")),
                "relevance": pa.Column(str, pa.Check.str_length(min_value=1, error="empty relevance")),
            }
        )

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        queries, items = records["query"].tolist(), records["item"].tolist()
        if self.towers:
            ours, theirs = (encode_texts(texts, tokenizer, settings) for texts in (queries, items))
            pairs = zip(ours["input_ids"], theirs["input_ids"], strict=True)
            features: dict[str, list[Any]] = {
                "input_ids": [[*query, *item] for query, item in pairs],
                "n_tokens": [max(pair) for pair in zip(ours["n_tokens"], theirs["n_tokens"], strict=True)],
                "query_tokens": [len(ids) for ids in ours["input_ids"]],
            }
        else:
            features = encode_texts(queries, tokenizer, settings, pairs=items)
        if self.target_role in records:
            relevance = records["relevance"].astype(float)
            keys = (map(_key, texts) for texts in (queries, items))
            features["labels"] = [[float(one), *pair] for one, *pair in zip(relevance, *keys, strict=True)]
        return features

    # -- network ----------------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        if self.towers:
            return HeadSpec("pair-embedding", ("relevance",))
        return HeadSpec("sequence-classification", ("relevance",), pairs=True)

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """`input_ids` `(batch, length)`; for two towers `(batch, 2, length)`. `labels` `(batch, 3)`."""
        import torch

        if self.towers:
            sides = [
                {"input_ids": ids}
                for one in features
                for ids in (
                    one["input_ids"][: one["query_tokens"]],
                    one["input_ids"][one["query_tokens"] :],
                )
            ]
            flat = pad_inputs(sides, pad_token_id, pad_to)
            batch = {name: values.view(len(features), 2, -1) for name, values in flat.items()}
        else:
            batch = pad_inputs(features, pad_token_id, pad_to)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor(
                np.asarray([feature["labels"] for feature in features]), dtype=torch.float64
            )
        return batch

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Cross-entropy of relevant or not; for two towers of the right item among those of the batch.

        In the latter, queries of irrelevant pairs ask nothing, but their items are further wrong
        answers; an item that the batch says is relevant to the query elsewhere is none (in-batch
        negatives, Henderson et al. 2017, arXiv 1705.00652).
        """
        import torch
        from torch.nn import functional

        relevant = (labels[:, 0] >= self.settings.relevant_from).to(logits.device)
        if not self.towers:
            target = relevant.float() * (1 - label_smoothing) + 0.5 * label_smoothing
            return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), target)
        queries, items = logits.float().chunk(2, dim=1)
        similarity = queries @ items.T / _TEMPERATURE
        same_query = labels[:, 1].unsqueeze(1) == labels[:, 1].unsqueeze(0)
        same_item = labels[:, 2].unsqueeze(1) == labels[:, 2].unsqueeze(0)
        # right[q, i]: item i is relevant to query q, by any pair of the batch
        right = ((same_query & relevant.unsqueeze(0)).float() @ same_item.float()) > 0
        hidden = right & ~torch.eye(len(labels), dtype=torch.bool, device=logits.device)
        scores = similarity.masked_fill(hidden, -math.inf)[relevant]
        wanted = torch.arange(len(labels), device=logits.device)[relevant]
        if not len(wanted):
            return logits.sum() * 0.0
        chances = torch.log_softmax(scores, dim=1)
        right_ones = chances.gather(1, wanted.unsqueeze(1)).mean()
        if not label_smoothing:
            return -right_ones
        # what is hidden has no share in what is smoothed
        open_ones = ~hidden[relevant]
        even = (chances.masked_fill(~open_ones, 0.0).sum(dim=1) / open_ones.sum(dim=1)).mean()
        return -(1 - label_smoothing) * right_ones - label_smoothing * even

    def weight(self, labels: torch.Tensor) -> int:
        """With two towers only relevant pairs ask for something."""
        return int((labels[:, 0] >= self.settings.relevant_from).sum()) if self.towers else len(labels)

    # -- predictions ------------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        scores = self._scores(outputs)
        return pd.DataFrame(
            {
                "prediction": [f"{score:.6f}" for score in scores],
                "score": scores,
                "list": [f"{_key(query):x}" for query in records["query"]],
            }
        )

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        return [("prediction", "string"), ("score", "double"), ("list", "string")]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        table = np.asarray(labels, dtype=np.float64)
        found: ListScores = list_scores(
            table[:, 1], self._scores(outputs), table[:, 0], self.settings.relevant_from
        )
        return {name: float(np.nanmean(getattr(found, name))) for name in self.validation_metric_names}

    def evaluation(self) -> Evaluation:
        from catena.evaluation.ranked_lists import RankedListEvaluation

        return RankedListEvaluation(self.settings.relevant_from)

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """That the item suits the query: the pair's score."""
        without_classes(about, self.name)
        if self.towers:
            return [column_claim("the pair", "cosine", "score")]
        return [column_claim("the pair", "probability that the item is relevant", "score", odds=True)]

    def expected(self, given: Any, inputs: Mapping[str, str], names: Mapping[str, str] | None) -> str:
        raise ValueError(
            "scores have a meaning beside others of the query only; give `better` and `worse` items"
        )

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        return abs(float(before["score"]) - float(after["score"])) <= tolerance

    def shown(self, said: Row) -> str:
        return f"{float(said['prediction']):.3f}"

    def _scores(self, outputs: Outputs) -> np.ndarray:
        """Probability that the pair is relevant, or the cosine of its two vectors (-1 to 1) `(rows,)`."""
        values = np.asarray(outputs, dtype=np.float64)
        if not len(values):
            return np.zeros(0)
        if self.towers:
            queries, items = np.split(values, 2, axis=1)
            cosines: np.ndarray = (queries * items).sum(axis=1)
            return cosines
        probabilities: np.ndarray = 1.0 / (1.0 + np.exp(-values[:, 0]))
        return probabilities


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= _HIGHEST else None


def _key(text: str) -> int:
    """A number that stands for a text, small enough to be exact as a float."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")

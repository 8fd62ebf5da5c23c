"""Records on which a network is measured while it is made smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from catena.training.batches import PAD_TO, plan_inference
from catena.training.inputs import network_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.problems import Problem

_BATCH_TOKENS = 2048
_BATCH_SIZE = 32
#: Features that describe a row and are not collated.
DESCRIBING = ("id", "record", "n_tokens", "length")


class Rows(Protocol):
    """Rows of features, labels among them."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Sample:
    """Batches with labels, and the loss that a network has on them."""

    problem: Problem
    batches: Sequence[dict[str, torch.Tensor]]

    @classmethod
    def of(
        cls, problem: Problem, rows: Rows, lengths: np.ndarray, pad_token_id: int, most: int, device: str
    ) -> Sample:
        """At most `most` of the rows, evenly spread over all of them."""
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
        batches = []
        plan = plan_inference(np.asarray(lengths)[chosen], batch_tokens=_BATCH_TOKENS, batch_size=_BATCH_SIZE)
        for numbers in plan:
            features = [rows[int(chosen[number])] for number in numbers]
            batch = problem.collate(features, pad_token_id, PAD_TO)
            batches.append({name: values.to(device) for name, values in batch.items()})
        return cls(problem, batches)

    def losses(self, model: PreTrainedModel) -> list[Callable[[], torch.Tensor]]:
        """The mean loss of each batch, to be called one after the other."""

        def loss(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            logits = model(**network_inputs(model, batch, self.problem.generates)).logits
            return self.problem.loss(logits, batch["labels"])

        return [lambda batch=batch: loss(batch) for batch in self.batches]  # type: ignore[misc]

    @torch.no_grad()
    def loss(self, model: PreTrainedModel) -> float:
        """Mean loss over all that the problem weighs."""
        model.eval()
        weights = [self.problem.weight(batch["labels"]) for batch in self.batches]
        losses = [float(each()) for each in self.losses(model)]
        return float(np.average(losses, weights=weights))


def as_rows(features: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns of features as one mapping for each row, without what only describes it."""
    names = [name for name in features if name not in DESCRIBING]
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*(features[name] for name in names), strict=True)
    ]

"""The training loop of a chain: the engine over batches of one tail each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from catena.errors import SettingsError
from catena.methods.chain import Chain
from catena.problems import Problem
from catena.settings import TrainingSettings
from catena.training.batches import PAD_TO, Plan, RowOutputs, plan_inference
from catena.training.chain_plan import JoinedTable
from catena.training.engine import Engine
from catena.training.inputs import network_inputs
from catena.training.tokens import TokenTable

#: What chooses the best weights: the mean of the tails' own first metrics.
MEAN = "mean_score"


@dataclass(frozen=True)
class TrainedTail:
    """A tail as the engine sees it; `weight` counts its classes in the loss."""

    name: str
    problem: Problem
    validation: TokenTable
    class_weights: torch.Tensor | None = None

    @property
    def metric(self) -> str:
        """The problem's first validation metric."""
        return next(iter(self.problem.validation_metric_names))

    def score(self, metrics: Mapping[str, float]) -> float:
        """Its metric as a score: where lower is better, 1 / (1 + metric)."""
        value = metrics[self.metric]
        return value if self.problem.validation_metric_names[self.metric] else 1.0 / (1.0 + value)


class _Whole:
    """What the engine asks of a problem beside a batch's own tail."""

    validation_metric_names: Mapping[str, bool] = {MEAN: True}
    generates = False
    packs = False


class ChainEngine(Engine):
    """`Engine` where each batch belongs to one tail.

    Batches of one optimiser step count alike, whatever they consist of; validation measures each tail that
    trains; and the backbone can be held near the weights that it starts from.
    """

    def __init__(
        self,
        model: Any,
        tails: Mapping[str, TrainedTail],
        method: Chain,
        settings: TrainingSettings,
        plan: Plan,
        training: JoinedTable,
        **named: Any,
    ) -> None:
        self.tails = dict(tails)
        validation = next(iter(tails.values())).validation
        whole, table = cast(Problem, _Whole()), cast(TokenTable, training)
        super().__init__(model, whole, method, settings, plan, table, validation, **named)
        self.chain = method
        self.pull = method.settings.chain.l2_sp
        self.start = _starting_weights(self.model) if self.pull else []
        if self.pull and not self.start:
            raise SettingsError(
                "`method.chain.l2_sp` pulls the backbone and links taken over towards what they were, and "
                "here none of them moves; leave it at 0, or set `backbone_rate` above 0."
            )

    # -- data ------------------------------------------------------------------------------------

    def collate(self, features: list[Mapping[str, Any]]) -> dict[str, Any]:
        """The tensors of rows of one tail, whose name is in `tail`."""
        name = str(features[0]["tail"])
        rows = [{key: value for key, value in row.items() if key != "tail"} for row in features]
        return {**self.tails[name].problem.collate(rows, self.pad_token_id, PAD_TO), "tail": name}

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], int]:
        """The batches of one optimiser step, and their number, which their loss is the mean of."""
        batches: list[Any] = []
        for _ in range(num_batches):
            try:
                batches.append(next(epoch_iterator))
            except StopIteration:
                break
        return batches, len(batches)

    # -- one step ----------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        tail = self.tails[inputs["tail"]]
        batch = tail.problem.augment({name: value for name, value in inputs.items() if name != "tail"})
        with self.autocast():
            logits = model(tail.name, **network_inputs(model, batch)).logits
        loss = tail.problem.loss(logits, batch["labels"], tail.class_weights, self.settings.label_smoothing)
        loss = self.chain.weighed(model, tail.name, loss)
        if self.start:
            distance = sum(((weight - begun) ** 2).sum() for weight, begun in self.start)
            loss = loss + 0.5 * self.pull * distance
        return loss / max(num_items_in_batch or 1, 1)

    # -- validation ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def _measure(self) -> dict[str, float]:
        model = self.model.eval()
        measured: dict[str, float] = {}
        scores: list[float] = []
        for name, tail in self.tails.items():
            table = tail.validation
            gathered = RowOutputs(table.lengths)
            for rows in plan_inference(
                table.lengths,
                batch_tokens=self.settings.batch_tokens * 2,
                batch_size=self.settings.batch_size * 4,
            ):
                batch = self._prepare_inputs(self.collate([{**table[row], "tail": name} for row in rows]))
                batch.pop("tail")
                with self.autocast():
                    logits = model(name, **network_inputs(model, batch)).logits
                    gathered.add(rows, tail.problem.measure(logits, batch))
            metrics = tail.problem.validation_metrics(gathered.outputs(), table.labels)
            scores.append(tail.score(metrics))
            measured |= {f"{name}.{metric}": value for metric, value in metrics.items()}
        return {MEAN: sum(scores) / len(scores), **measured}


def _starting_weights(model: Any) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Each weight that is pulled back, and where it starts: the backbone's, and those of links taken over."""
    network = getattr(model, "module", model)
    parts = ("body.", "links.") if network.earlier else ("body.",)
    return [
        (weight, weight.detach().clone())
        for name, weight in network.named_parameters()
        if weight.requires_grad and name.startswith(parts)
    ]


__all__ = ["MEAN", "ChainEngine", "TrainedTail"]

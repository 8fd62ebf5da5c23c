"""Chain-of-Density: a causal language model learns log P(x|y), and Bayes' rule classifies.

The label y is words before the text, learned soft tokens, or both; P(y|x) is P(x|y) P(y) over its sum for all
labels. A generative classifier of the kind of Yogatama et al. 2017 (arXiv 1703.01898) on a pretrained
network, which without training is noisy-channel prompting (Min et al. 2022, arXiv 2108.04106).

What is minimised is λ · -log P(x|y) / (mean tokens of a training text) + (1 - λ) · -log P(y|x). With λ = 1
(`generative`) only the true label's text is looked at; with λ = 0 (`discriminative`) nothing holds the
language model to being one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from catena.errors import ModelError, SettingsError
from catena.methods.base import (
    Head,
    HeadRequest,
    Method,
    Opening,
    Read,
    Shares,
    Surroundings,
    Validation,
)
from catena.methods.density_labels import around_texts, log_prior, prefix_tokens, soft_token_starts
from catena.methods.density_shares import log_odds_path

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_FILE, _TENSORS = "density.json", "density.safetensors"
_SETS = "multi-label-classification"
#: Methods that do not adapt what is below: soft tokens stand in the place of prefixes; one trains nothing.
_UNFIT = frozenset({"prefix_tuning", "prompt_tuning", "unchanged"})
#: Spread of what the logarithm of the temperature is taken to be beforehand: few validation records that are
#: all right must not make a model certain.
_SPREAD = 2.0


class Density(Method):
    """A causal language model learns how likely a text is under each label, and Bayes' rule classifies; every
    token explains its share.
    """

    name = "density"
    heads: ClassVar[frozenset[str] | None] = frozenset({"sequence-classification", _SETS})
    reads_labels = True
    extras: ClassVar[Mapping[str, str]] = {
        "log_density": "log P(x) a token, in nats",
        "density_percentile": "share of the validation texts that are less likely, in percent",
    }
    explains = True
    writes_inputs = True

    @cached_property
    def inner(self) -> Method:
        """The method by which the language model below is adapted."""
        from catena.methods import METHODS

        name = self.settings.density.adapt
        if name == "soft_tokens_only":
            return _Frozen(self.settings)
        known = [key for key in METHODS if METHODS[key].heads is None and key not in _UNFIT]
        if name not in known:
            known = ["soft_tokens_only", *known]
            raise SettingsError(f"`method.density.adapt` is {name!r}; choose one of {', '.join(known)}.")
        return METHODS[name](self.settings)

    @property
    def stores_adapter(self) -> bool:
        return self.inner.stores_adapter

    def check(self, problem: str, head: Head) -> None:
        super().check(problem, head)
        if len(head.label_names) < (1 if head.kind == _SETS else 2):
            raise SettingsError(
                f"`method.name` density tells labels apart, and the problem {problem} has no two of "
                "them; see the table of methods and problems in the manual."
            )
        self.inner.check(problem, self.head(head))

    def head(self, wanted: Head) -> Head:
        return HeadRequest("causal-language-model")

    # -- before training -----------------------------------------------------------------------

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        import torch

        from catena.methods.density_network import DensityNetwork, Wording

        tokenizer, training = around.tokenizer, around.training
        if tokenizer is None or training is None:
            raise SettingsError(
                f"`method.name` density reads texts, and the problem {around.problem} has none."
            )
        chosen, names = self.settings.density, around.head.label_names
        sets = around.head.kind == _SETS
        prefixes = prefix_tokens(chosen, names, sets, tokenizer)
        begin, after, end = around_texts(tokenizer)
        wording = Wording(
            prefixes=tuple(map(tuple, prefixes)),
            begins=len(begin),
            ends=len(after),
            end=end,
            sets=sets,
            score_end=chosen.score_end,
            length_normalized=chosen.length_normalized,
        )
        labels, lengths = [], []
        for row in range(len(training)):
            record = training[row]
            labels.append(record["labels"])
            lengths.append(len(record["input_ids"]))
        prior = log_prior(chosen, names, sets, labels)
        own = len(begin) + len(after) - int(chosen.score_end)
        # the language model is one for a plain method to adapt: what it says of labels comes from around it
        below = self.inner.prepare(model, _below(around))
        soft = None
        if chosen.soft_tokens:
            embeddings = model.get_input_embeddings().weight.detach()
            starts = torch.tensor(soft_token_starts(chosen, names, sets, tokenizer))
            soft = embeddings[starts.to(embeddings.device)].float().clone()
            if chosen.soft_tokens_start == "random":
                soft = torch.randn_like(soft) * embeddings.float().std()
        network = DensityNetwork(below, wording, prior, soft, only_true=chosen.generative_share == 1.0)
        if chosen.normalization == "token":
            network.unit = max(float(np.mean(lengths)) - own, 1.0)
        return network

    # -- in training ---------------------------------------------------------------------------

    def loss(
        self, outputs: Any, labels: torch.Tensor, of_logits: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The objective, and what the method of the language model below adds to any loss."""
        share = self.settings.density.generative_share

        def objective(logits: torch.Tensor) -> torch.Tensor:
            cost: torch.Tensor = outputs.cost.mean()
            if share == 1.0:
                return cost
            told_apart = of_logits(logits)
            return told_apart if share == 0.0 else share * cost + (1.0 - share) * told_apart

        return self.inner.loss(outputs, labels, objective)

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        rates = {f"network.{name}": rate for name, rate in self.inner.learning_rates(model.network).items()}
        if model.soft_tokens is not None:
            rates["soft_tokens"] = self.settings.density.soft_tokens_rate
        return rates

    def undecayed(self, model: PreTrainedModel) -> frozenset[str]:
        return frozenset(f"network.{name}" for name in self.inner.undecayed(model.network))

    def begin(self, model: PreTrainedModel, steps: int, epoch_ends: Sequence[int]) -> None:
        self.inner.begin(model.network, steps, epoch_ends)

    def rest(self, model: PreTrainedModel) -> None:
        self.inner.rest(model.network)

    def before_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        self.inner.before_step(model.network, step, steps)

    def after_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        self.inner.after_step(model.network, step, steps)

    def state(self) -> dict[str, torch.Tensor]:
        return self.inner.state()

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.inner.restore(state)

    # -- after training ------------------------------------------------------------------------

    def calibrate(self, model: PreTrainedModel, validation: Validation) -> None:
        """Fit the temperature, and keep how likely texts of the validation part are."""
        import torch

        logits, extras = validation.outputs, validation.extras
        if self.settings.density.calibration == "temperature":
            labels = np.asarray(validation.labels)
            model.temperature.fill_(best_temperature(logits, labels, model.wording.sets))
        percentiles = np.percentile(extras[:, 0], np.linspace(0.0, 100.0, 101))
        model.typical = torch.tensor(percentiles, dtype=torch.float32, device=model.temperature.device)

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        model.network = self.inner.finish(model.network)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """The language model as its own method stores it, and beside it what makes it a classifier."""
        from dataclasses import asdict

        from safetensors.torch import save_file

        self.inner.save(model.network, folder)
        names = ("log_prior", "temperature", "typical", "soft_tokens")
        tensors = {name: getattr(model, name) for name in names if getattr(model, name) is not None}
        save_file({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, folder / _TENSORS)
        text = json.dumps(asdict(model.wording), indent=2)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from catena.methods.density_network import DensityNetwork, Wording

        below = self.inner.load(folder, read, _below(around))
        try:
            values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            wording = Wording(**{**values, "prefixes": tuple(map(tuple, values["prefixes"]))})
            tensors = load_file(folder / _TENSORS)
            network = DensityNetwork(below, wording, tensors["log_prior"], tensors.get("soft_tokens"))
            network.temperature.copy_(tensors["temperature"])
            network.typical = tensors["typical"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"What {folder} says of its labels' densities cannot be read: {reason}"
            ) from error
        if wording.labels != len(around.head.label_names):
            raise ModelError(f"{folder / _FILE} is of {wording.labels} labels, and the model has others.")
        return network.eval()

    # -- what it says beside the problem's outputs ------------------------------------------------

    def token_shares(self, model: PreTrainedModel, input_ids: Sequence[int]) -> Shares:
        import torch

        device = model.log_prior.device
        ids = torch.tensor([list(input_ids)], device=device)
        with torch.inference_mode():
            texts = model.texts(ids, torch.ones_like(ids))
            conditions = torch.arange(len(model.wording.prefixes), device=device).unsqueeze(0)
            scores = model.token_scores(texts, conditions)[0].double().cpu().numpy()
        count = int(texts.lengths)
        scored = count + int(model.wording.score_end)
        scale = 1.0 / float(model.temperature)
        path = log_odds_path(
            scores[:, :scored],
            model.log_prior.double().cpu().numpy(),
            scale / (max(scored, 1) if model.wording.length_normalized else 1),
            scale,
            model.wording.sets,
        )
        steps = np.diff(path, axis=1)
        tokens = np.zeros((len(path), len(input_ids)))
        tokens[:, model.wording.begins : model.wording.begins + count] = steps[:, :count]
        beside = {"how frequent the label is": path[:, 0]}
        if model.wording.score_end:
            beside["that the text ends here"] = steps[:, count]
        return Shares(tokens, beside)

    def opening(self, model: PreTrainedModel, label: int) -> Opening:
        return Opening(model.network, model.prefix(label).detach().unsqueeze(0), model.wording.end)


class _Frozen(Method):
    """No weight of the language model moves."""

    name = "soft_tokens_only"

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        return model.requires_grad_(False)


def _below(around: Surroundings) -> Surroundings:
    """What the method of the language model below may look at."""
    from dataclasses import replace

    return replace(around, head=HeadRequest("causal-language-model"))


def best_temperature(logits: np.ndarray, labels: np.ndarray, sets: bool) -> float:
    """The temperature under which the labels are likeliest (Guo et al. 2017, arXiv 1706.04599).

    `logits` `(records, labels)`; `labels` are numbers, or of sets 1 for each label that is there.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_expit, log_softmax

    scores = np.asarray(logits, dtype=np.float64)

    def cost(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        if sets:
            chances = np.where(labels > 0.5, log_expit(scaled), log_expit(-scaled))
        else:
            chances = log_softmax(scaled, axis=1)[np.arange(len(scaled)), labels.astype(np.int64)]
        return float(-chances.sum() + 0.5 * (log_temperature / _SPREAD) ** 2)

    found = minimize_scalar(cost, bounds=(np.log(1e-3), np.log(1e3)), method="bounded")
    return float(np.exp(found.x))

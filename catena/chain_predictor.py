"""A trained chain: the predictions of all its tails, with one pass through the backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from catena.errors import DataError, ModelError
from catena.methods.chain_network import ChainNetwork, TailView
from catena.model_folder import check_files, read_card
from catena.predictor import Predictor
from catena.problems import Measured, Problem, get_problem
from catena.settings import MethodSettings, ProblemSettings
from catena.training.batches import RowOutputs, plan_inference
from catena.training.chain import load_body
from catena.training.devices import choose_device
from catena.training.embedding import BATCH_SIZE, BATCH_TOKENS, row_lengths

if TYPE_CHECKING:
    from catena.data.formats import Content

#: What the backbone reads of a batch; everything else is told to a tail alone.
_READ = ("input_ids", "attention_mask", "pixel_values")
#: What describes a row and no network sees.
_UNSEEN = ("record", "n_tokens", "length", "labels")


def load_predictor(folder: Path, device: str = "auto", precision: str = "auto") -> Predictor | ChainPredictor:
    """The model in `folder`, whether it solves one problem or is a chain. Raises `ModelError`."""
    card = read_card(folder)
    check_files(folder, card)
    kind = ChainPredictor if "tails" in card else Predictor
    return kind(folder, card, device, precision)


@dataclass(frozen=True)
class TailInputs:
    """The inputs of several tails together, as a problem's own are known."""

    problems: Sequence[Problem]

    @property
    def name(self) -> str:
        return "chain"

    @property
    def input_roles(self) -> tuple[str, ...]:
        """The inputs of all tails, each once."""
        return tuple(dict.fromkeys(role for problem in self.problems for role in problem.input_roles))

    @property
    def contents(self) -> dict[str, Content]:
        """What inputs hold that are not plain text."""
        return {role: content for problem in self.problems for role, content in problem.contents.items()}

    def asked_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        return {role: columns[role] for role in self.input_roles if role in columns}

    def read_argument(self, text: str) -> str:
        return self.problems[0].read_argument(text)

    def read_inputs(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Records as they are, since each tail reads them in its own way, and the first reason not to."""
        reasons = pd.Series("", index=records.index, dtype="str")
        for problem in self.problems:
            _, found = problem.read_inputs(records)
            reasons = reasons.where(reasons != "", found)
        return records, reasons

    def show(self, inputs: Sequence[str]) -> list[str]:
        return self.problems[0].show(inputs)

    def refusals(self, records: pd.DataFrame) -> pd.Series:
        """Why records cannot be predicted by all tails: the first reason that one has."""
        reasons = pd.Series("", index=records.index, dtype="str")
        for problem in self.problems:
            reasons = reasons.where(reasons != "", problem.refusals(records))
        return reasons


@dataclass
class _Asked:
    """What one tail is asked: its records, their features, and what the network says of them."""

    predictor: Predictor
    table: pd.DataFrame
    features: dict[str, list[Any]]
    gathered: RowOutputs

    def row(self, number: int) -> dict[str, Any]:
        return {name: values[number] for name, values in self.features.items() if name not in _UNSEEN}

    @property
    def outputs(self) -> Measured:
        if len(self.table):
            return self.gathered.outputs()
        return np.empty((0, max(len(self.predictor.label_names), 1)), np.float32)


class ChainPredictor:
    """What `Predictor` is for one problem, for the tails of a chain. Not for several threads at once."""

    def __init__(self, folder: Path, card: dict[str, Any], device: str, precision: str) -> None:
        self.folder = folder
        self.card = card
        self.device = choose_device(device, precision)
        settings = MethodSettings.model_validate(card["method"]).chain
        cards: dict[str, dict[str, Any]] = {name: {**card, **tail} for name, tail in card["tails"].items()}
        heads = {
            name: get_problem(ProblemSettings.model_validate(tail["problem"])).head(tail["label_names"])
            for name, tail in cards.items()
        }
        body = load_body(card, folder, self.device.attention)
        pooling = card["backbone"].get("pooling", "native")
        self.network = ChainNetwork(body, heads, settings, pooling=pooling, dropout=None)
        self.network.load(folder)
        self.network.to(self.device.kind).eval()
        self.tails = {
            name: Predictor(folder, tail, device, precision, TailView(self.network, name))
            for name, tail in cards.items()
        }

        self.asked: tuple[str, ...] = tuple(self.tails)
        #: For each tail the first that makes of records what it does, so that records are read once for both.
        self._reads_as = {
            name: next(other for other in self.tails if self.tails[other].reads_as(one))
            for name, one in self.tails.items()
        }

    @property
    def problem(self) -> TailInputs:
        """What must be known of the inputs of the tails that are asked."""
        return TailInputs([self.tails[name].problem for name in self.asked])

    @property
    def columns(self) -> dict[str, str]:
        """The columns learned from, by role; the first of the tails asked decides."""
        columns: dict[str, str] = {}
        for name in self.asked:
            columns = {**self.tails[name].columns, **columns}
        return columns

    @property
    def counts(self) -> tuple[str, ...]:
        """Columns of `predict` that count what was read and are no prediction."""
        return tuple(f"{name}.{column}" for name in self.asked for column in Predictor.counts)

    def only(self, tails: Sequence[str]) -> ChainPredictor:
        """The same model, of which `tails` are asked where nothing else is said. Raises `DataError`."""
        view = copy.copy(self)
        view.asked = tuple(self.chosen(tails))
        return view

    def answering(self, record: Mapping[str, Any]) -> ChainPredictor:
        """The same model, of which those tails are asked whose inputs `record` has (if there are any)."""
        able = [
            name
            for name, one in self.tails.items()
            if all(role in record for role in one.problem.input_roles)
        ]
        return self.only(able) if able else self

    def chosen(self, tails: Sequence[str] | None) -> list[str]:
        """The names of `tails`, or of those asked, in the chain's order. Raises `DataError` for others."""
        if tails is None:
            return list(self.asked)
        if isinstance(tails, str) or not tails:
            raise DataError("A list of the tails' names was expected.")
        for name in tails:
            if name not in self.tails:
                raise DataError(f"This chain has no tail {name!r}; it has {', '.join(self.tails)}.")
        return [name for name in self.tails if name in tails]

    def tail(self, name: str | None) -> Predictor:
        """One tail as a model of its own. Raises `ModelError` where there is none of this name."""
        known = ", ".join(self.tails)
        if name is None:
            raise ModelError(
                f"{self.folder} holds a chain with the tails {known}; say with `--tail` which of them is "
                "meant, or where that is not there take a model of one problem."
            )
        if name not in self.tails:
            raise ModelError(f"The chain in {self.folder} has no tail {name!r}; it has {known}.")
        return self.tails[name]

    def predict(
        self,
        records: pd.DataFrame | Sequence[str],
        clean: bool = True,
        score_targets: bool = False,
        tails: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Predictions of `tails` (by default those asked) for a table of their inputs, or a list of texts.

        Returns a table with the same index, in which `<tail>.<column>` is what `Predictor.predict` of that
        tail calls `<column>`. Raises `DataError` where an input is missing or there is no such tail.
        """
        asked: dict[str, _Asked] = {}
        read: dict[str, tuple[pd.DataFrame, dict[str, list[Any]]]] = {}
        for name in self.chosen(tails):
            predictor = self.tails[name]
            if (alike := self._reads_as[name]) not in read:
                read[alike] = predictor.read(records, clean, score_targets)
            table, features = read[alike]
            asked[name] = _Asked(predictor, table, features, RowOutputs(row_lengths(features)))
        self._run(asked)
        parts: list[pd.DataFrame] = []
        columns: list[str] = []
        for name, one in asked.items():
            for part in one.predictor.parts(one.table, one.features, one.outputs):
                parts.append(part)
                columns += [f"{name}.{column}" for column in part]
        result = pd.concat(parts, axis=1)
        result.columns = pd.Index(columns)
        return result

    def predict_batches(self, batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Predictions batch by batch; memory does not grow with their number."""
        for batch in batches:
            yield self.predict(batch)

    @torch.inference_mode()
    def _run(self, asked: Mapping[str, _Asked]) -> None:
        """Every distinct input through the backbone once, and from there to all tails that ask of it.

        Batches are made of what is new with each tail in turn, so that a tail that comes later changes
        nothing about how the earlier ones are computed.
        """
        places: dict[Any, list[tuple[str, int]]] = {}
        owned: dict[str, list[tuple[Any, int]]] = {}
        for name, one in asked.items():
            for row, key in enumerate(_keys(one)):
                if key not in places:
                    places[key] = []
                    owned.setdefault(name, []).append((key, row))
                places[key].append((name, row))
        for name, own in owned.items():
            owner = asked[name]
            lengths = row_lengths(owner.features)[[row for _, row in own]]
            for chosen in plan_inference(lengths, batch_tokens=BATCH_TOKENS, batch_size=BATCH_SIZE):
                self._batch(owner, [own[at] for at in chosen], places, asked)

    def _batch(
        self,
        owner: _Asked,
        rows: Sequence[tuple[Any, int]],
        places: Mapping[Any, list[tuple[str, int]]],
        asked: Mapping[str, _Asked],
    ) -> None:
        batch = self._collated(owner, [row for _, row in rows])
        wanted: dict[str, list[tuple[int, int]]] = {}
        for at, (key, _) in enumerate(rows):
            for name, row in places[key]:
                wanted.setdefault(name, []).append((at, row))
        everything = list(range(len(rows)))
        with self.device.autocast:
            outputs = self.network.encode(**{name: values for name, values in batch.items() if name in _READ})
            for name, pairs in wanted.items():
                one = asked[name]
                found = [at for at, _ in pairs]
                whole = found == everything  # and not as many rows of which one is there twice
                given = batch if one is owner and whole else self._collated(one, [row for _, row in pairs])
                mask = given.get("attention_mask")
                seen = outputs if whole else outputs[found]
                if mask is not None:
                    seen = seen[:, : mask.shape[1]]
                told = {key: values for key, values in given.items() if key not in _READ}
                logits = self.network.answer(name, seen, mask, **told)
                one.gathered.add([row for _, row in pairs], logits)

    def _collated(self, one: _Asked, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = one.predictor._collate([one.row(row) for row in rows])
        return {name: values.to(self.device.kind) for name, values in batch.items()}


def _keys(one: _Asked) -> list[Any]:
    """What tells the inputs of rows apart, as the backbone reads them."""
    if "input_ids" in one.features:
        return [tuple(ids) for ids in one.features["input_ids"]]
    # what is not tokens, the problem's settings may still change on its way to the backbone
    settings = one.predictor.problem.settings.model_dump_json()
    read = [values for name, values in one.features.items() if name not in _UNSEEN]
    return [(settings, *(np.asarray(values).tobytes() for values in row)) for row in zip(*read, strict=True)]

"""Rounds of learning from a network's own confident predictions for records without labels.

Train on the labelled records, predict the unlabelled ones, keep the predictions that are confident as
pseudo-labels, train again on both; the round that is best on the validation part is kept. Each round that is
complete is a file, so that a training killed anywhere goes on in the round where it was.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from catena.errors import SettingsError
from catena.files import complete_file
from catena.methods import Method
from catena.problems import Problem
from catena.settings import SelfTrainingSettings, TrainingSettings
from catena.training.batches import RowOutputs, plan_inference
from catena.training.checkpoints import latest_checkpoint, trained_weights
from catena.training.engine import Engine, OnRow, Row
from catena.training.inputs import network_inputs
from catena.training.pseudo_labels import UnlabelledTable, WithPseudoLabels, choose, class_counts
from catena.training.tokens import TokenTable

#: Records whose predictions are spelled out at once.
_CHUNK = 50_000


@dataclass(frozen=True)
class Round:
    """What one training learns from, where its checkpoints lie, and what it begins with.

    `before` counts the optimiser steps of earlier rounds; `epochs` takes the place of `training.epochs`.
    """

    records: TokenTable
    folder: Path
    number: int | None = None
    before: int = 0
    weights: Path | None = None
    epochs: float | None = None

    def on_row(self, on_row: OnRow) -> OnRow:
        """What is told of a row of this round's curve."""
        return on_row if self.number is None else lambda row: on_row(self.of_all(row))

    def of_all(self, row: Row) -> Row:
        """A row of this round's curve as one of the curve of all rounds."""
        return {**row, "step": row["step"] + self.before, "round": float(self.number or 0)}


@dataclass(frozen=True)
class Done:
    """What a training did: its curve, steps, best validation metrics; and what a round `learned` from."""

    curve: list[Row]
    steps: int
    best_step: int
    score: float
    validation: dict[str, float]
    number: int = 0
    learned: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def by(cls, engine: Engine, round_: Round | None = None, learned: dict[str, Any] | None = None) -> Done:
        """What `engine` did when it was through."""
        before = 0 if round_ is None else round_.before
        best = next(
            (
                row
                for row in engine.curve
                if row["step"] == engine.best_step and f"validation_{engine.metric}" in row
            ),
            {},
        )
        return cls(
            curve=engine.curve if round_ is None else [round_.of_all(row) for row in engine.curve],
            steps=before + int(engine.state.global_step),
            best_step=before + engine.best_step,
            score=engine.best_score,
            validation={
                name.removeprefix("validation_"): value
                for name, value in best.items()
                if "validation_" in name
            },
            number=0 if round_ is None else round_.number or 0,
            learned=learned or {},
        )


@dataclass(frozen=True)
class Chosen:
    """Pseudo-labels: the rows that have one, their targets as features, and what to tell of them."""

    rows: np.ndarray
    targets: np.ndarray
    told: dict[str, Any]

    def same(self, other: Chosen | None) -> bool:
        return (
            other is not None
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.targets, other.targets)
        )


class SelfTraining:
    """All rounds of one training; what is complete of them lies in `folder`."""

    def __init__(
        self,
        problem: Problem,
        training: TrainingSettings,
        labelled: TokenTable,
        unlabelled: UnlabelledTable,
        label_names: Sequence[str],
        folder: Path,
    ) -> None:
        self._problem = problem
        self._settings = training.self_training
        self._training = training
        self._labelled = labelled
        self._unlabelled = unlabelled
        self._names = tuple(label_names)
        self._folder = folder

    def weights(self, done: Done) -> Path:
        """The trained weights of a round that is complete."""
        return self._folder / f"round-{done.number}.safetensors"

    def run(self, fit: Callable[[Round], Engine]) -> tuple[Done, dict[str, Any]]:
        """Train round by round with `fit`; the best one, with the curve of all, and what to tell of them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings, notes = self._settings, []
        rounds: list[Done] = []
        chosen: Chosen | None = None
        for number in range(settings.rounds + 1):
            done = self._read(number)
            if done is None:
                done = self._train(fit, number, chosen, rounds)
            rounds.append(done)
            best = max(rounds, key=lambda one: (one.score, -one.number))
            self._forget_weights(rounds, best)
            if number == settings.rounds or number - best.number >= settings.patience:
                break
            following = self._chosen(number)
            if note := self._refusal(following, chosen):
                notes.append(note)
                print(f"note: {note}", flush=True)
                break
            chosen = following
        curve = [row for one in rounds for row in one.curve]
        told = {
            "rounds": [{"round": one.number, "validation": one.validation, **one.learned} for one in rounds],
            "best_round": best.number,
            "unlabelled": len(self._unlabelled.whole),
            "notes": notes,
        }
        everything = Done(curve, rounds[-1].steps, best.best_step, best.score, best.validation, best.number)
        return everything, told

    def _train(
        self, fit: Callable[[Round], Engine], number: int, chosen: Chosen | None, rounds: Sequence[Done]
    ) -> Done:
        """One round: trained, its predictions chosen from, all of it written down."""
        settings = self._settings
        records = self._labelled
        if chosen is not None:
            weight = settings.weight if settings.weight != 1.0 else None
            records = WithPseudoLabels(
                self._labelled, self._unlabelled.training, chosen.rows, chosen.targets, weight
            )
        continues = number > 0 and settings.start == "previous"
        round_ = Round(
            records,
            self._folder / f"round-{number}",
            number,
            rounds[-1].steps if rounds else 0,
            self.weights(rounds[-1]) if continues else None,
            settings.epochs if number else None,
        )
        learned = {} if chosen is None else chosen.told
        print(f"round {number}: {len(self._labelled):,} labelled records{_described(learned)}", flush=True)
        engine = fit(round_)
        done = Done.by(engine, round_, learned)
        with complete_file(self.weights(done)) as partial:
            save_file(trained_weights(engine.model), partial)
        if number < settings.rounds:
            self._write_chosen(number, self._choose(engine))
        # Written last, so that its being there means that the round is complete.
        with complete_file(self._folder / f"round-{number}.json") as partial:
            partial.write_text(json.dumps(asdict(done)), encoding="utf-8")
        engine.forget()
        del engine
        gc.collect()
        return done

    def _choose(self, engine: Engine) -> Chosen:
        """The predictions of `engine`'s network that are learned from next."""
        settings, given = self._settings, self._unlabelled.given
        outputs = self._outputs(engine)
        said, confidence = self._predictions(outputs)
        members = self._problem.classes(pd.Series(said, dtype="str"))
        assert members is not None  # noqa: S101 - a problem that learns unlabelled has classes
        rows = choose(
            confidence,
            members,
            threshold=settings.threshold,
            max_per_class=settings.max_per_class,
            labelled=class_counts(self._labelled.labels, self._names)
            if settings.balance == "labelled"
            else None,
        )
        if settings.targets == "soft":
            targets = self._problem.probabilities(outputs[rows]).astype(np.float32)
        else:
            targets = np.asarray(self._problem.encode_targets([said[row] for row in rows], self._names))
        own = members[members.index.isin(rows)]
        known = [row for row in rows.tolist() if given[row]]
        right = {row for row in known if given[row] == said[row]}
        by_class = {
            name: {
                "pseudo_labels": int((own == name).sum()),
                "known": int(own[own == name].index.isin(known).sum()),
                "right": int(own[own == name].index.isin(right).sum()),
            }
            for name in self._names
        }
        told = {
            "confident": int((confidence >= settings.threshold).sum()),
            "pseudo_labels": len(rows),
            "different": len({said[row] for row in rows}),
            "highest_confidence": round(float(confidence.max()), 6),
            "known": len(known),
            "right": len(right),
            "precision": round(len(right) / len(known), 6) if known else None,
            "by_class": by_class,
        }
        return Chosen(rows, targets, told)

    @torch.inference_mode()
    def _outputs(self, engine: Engine) -> np.ndarray:
        """What the network says of all unlabelled records `(rows, outputs)`."""
        model, table = engine.model.eval(), self._unlabelled.whole
        gathered = RowOutputs(table.lengths)
        batches = plan_inference(
            table.lengths,
            batch_tokens=self._training.batch_tokens * 2,
            batch_size=self._training.batch_size * 4,
        )
        for number, rows in enumerate(batches, 1):
            batch = engine.collate([table[row] for row in rows])
            batch = {name: values.to(engine.device_choice.torch_device) for name, values in batch.items()}
            with engine.autocast():
                gathered.add(rows, model(**network_inputs(model, batch)).logits)
            if number % 50 == 0:
                print(f"predicting unlabelled records: batch {number:,} of {len(batches):,}", flush=True)
        return np.asarray(gathered.outputs())

    def _predictions(self, outputs: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Canonical targets and confidences of all rows."""
        said: list[str] = []
        confidence: list[np.ndarray] = []
        for start in range(0, len(outputs), _CHUNK):
            part = outputs[start : start + _CHUNK]
            table = self._problem.predictions(part, pd.DataFrame(index=range(len(part))), {}, self._names)
            said += table["prediction"].tolist()
            confidence.append(table["confidence"].to_numpy(dtype=np.float64))
        return said, np.concatenate(confidence)

    def _refusal(self, following: Chosen, before: Chosen | None) -> str | None:
        """Why no further round makes sense, if none does."""
        settings, told = self._settings, following.told
        if not told["confident"]:
            return (
                f"no prediction reaches `training.self_training.threshold` {settings.threshold:g} (the most "
                f"confident has {told['highest_confidence']:.3f}), so the model has learned from labelled "
                "records alone"
            )
        if not told["pseudo_labels"]:
            return (
                f"{told['confident']:,} predictions are confident, but of some class none is, so that "
                "`training.self_training.balance` labelled leaves no pseudo-label"
            )
        if told["different"] == 1 and len(self._names) > 1:
            names = [repr(name) for name, one in told["by_class"].items() if one["pseudo_labels"]]
            return (
                f"all {told['pseudo_labels']:,} pseudo-labels are {', '.join(names) or 'none'}; learning "
                "from them would teach only to say so, and no further round follows"
            )
        if following.same(before):
            return (
                "the pseudo-labels are those of the round before, so that another round would change nothing"
            )
        return None

    def _write_chosen(self, number: int, chosen: Chosen) -> None:
        with complete_file(self._folder / f"chosen-{number}.safetensors") as partial:
            save_arrays(
                {"rows": chosen.rows, "targets": chosen.targets},
                partial,
                {"told": json.dumps(chosen.told, ensure_ascii=False)},
            )

    def _chosen(self, number: int) -> Chosen:
        from safetensors import safe_open

        file = self._folder / f"chosen-{number}.safetensors"
        arrays = load_file(file)
        with safe_open(file, framework="numpy") as opened:
            told = json.loads(opened.metadata()["told"])
        return Chosen(arrays["rows"], arrays["targets"], told)

    def _read(self, number: int) -> Done | None:
        file = self._folder / f"round-{number}.json"
        return Done(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def _forget_weights(self, rounds: Sequence[Done], best: Done) -> None:
        """Only the best round's weights and the last one's are needed again."""
        for one in rounds[:-1]:
            if one.number != best.number:
                self.weights(one).unlink(missing_ok=True)


def check_method(method: Method, settings: SelfTrainingSettings) -> None:
    """Raise `SettingsError` where the method has a loss of its own that knows no such targets or weights."""
    own = method.reads_labels or type(method).loss is not Method.loss
    if own and (settings.targets == "soft" or settings.weight != 1.0):
        raise SettingsError(
            f"`method.name` {method.name} has a loss of its own, which takes neither soft targets nor "
            "weights of records; set `training.self_training.targets` to hard and `weight` to 1."
        )


def resumable(folder: Path) -> str | None:
    """Where the training with its checkpoints in `folder` was interrupted, in words, if it was."""
    if (checkpoint := latest_checkpoint(folder)) is not None:
        return checkpoint.name.replace("-", " ")
    complete = [int(file.stem.removeprefix("round-")) for file in folder.glob("round-*.json")]
    number = max(complete, default=-1) + 1
    checkpoint = latest_checkpoint(folder / f"round-{number}")
    if checkpoint is not None:
        return f"round {number}, {checkpoint.name.replace('-', ' ')}"
    return f"round {number}" if complete else None


def summary(told: dict[str, Any] | None) -> dict[str, object]:
    """What the rounds did, in a few rows of a table."""
    if told is None:
        return {}
    rows: dict[str, object] = {}
    for one in told["rounds"][1:]:
        known = f", {one['precision']:.1%} of known ones right" if one["known"] else ""
        rows[f"round {one['round']}"] = (
            f"{one['pseudo_labels']:,} of {told['unlabelled']:,} unlabelled records learned from{known}"
        )
    rows["best round"] = f"{told['best_round']}" + ("" if told["best_round"] else ", without pseudo-labels")
    return rows | {f"note {number}": note for number, note in enumerate(told["notes"], 1)}


def _described(learned: dict[str, Any]) -> str:
    if not learned:
        return ""
    known = f", {learned['right']:,} of {learned['known']:,} known ones right" if learned["known"] else ""
    return f" and {learned['pseudo_labels']:,} pseudo-labelled ones{known}"

"""Rounds of learning from a model's own confident predictions for records without labels.

Train on the labelled records, predict the unlabelled ones, keep the predictions that are confident as
pseudo-labels, train again on both; the round that is best on the validation part is kept. Each round is a
training like any other, from the pretrained weights to a model folder that the Predictor loads. What is
complete of a round is a file, so that a training killed anywhere goes on where it was.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from catena.errors import SettingsError
from catena.files import complete_file, complete_folder
from catena.known_names import validation_metric
from catena.methods import Method, get_method
from catena.model_folder import read_card, write_card
from catena.predictor import Predictor
from catena.problems import Problem, get_problem
from catena.settings import SelfTrainingSettings, Settings
from catena.training.batches import Plan
from catena.training.checkpoints import latest_checkpoint
from catena.training.devices import Device, choose_device
from catena.training.engine import Row
from catena.training.finetune import Result, TrainingData, finetune
from catena.training.pseudo_labels import UnlabelledTable, WithPseudoLabels, choose, class_counts

#: Records predicted at once.
_CHUNK = 20_000


@dataclass(frozen=True)
class Done:
    """A round that is complete, its curve and steps counted from the first round on."""

    number: int
    curve: list[Row]
    steps: int
    best_step: int
    validation: dict[str, float]
    trainable: int
    weights: int
    learned: dict[str, Any]


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


def self_train(
    settings: Settings,
    data: TrainingData,
    *,
    checkpoints: Path,
    target: Path,
    card: dict[str, Any],
    on_row: Callable[[Row], None],
    on_start: Callable[[Device, Plan], None],
    **others: Any,
) -> Result:
    """`finetune`, in rounds where there are records without labels. `others` are what else it takes."""
    if data.unlabelled is None:
        return finetune(
            settings, data, checkpoints=checkpoints, target=target, card=card, on_row=on_row,
            on_start=on_start, **others,
        )  # fmt: skip
    check_method(get_method(settings.method), settings.training.self_training)
    rounds = _Rounds(settings, data, data.unlabelled, checkpoints)

    def fit(number: int, learning: Settings, records: TrainingData, before: int) -> Result:
        return finetune(
            learning,
            records,
            checkpoints=rounds.checkpoints(number),
            target=rounds.model(number),
            card=card,
            on_row=lambda row: on_row(of_all(row, number, before)),
            on_start=lambda device, plan: on_start(device, replace(plan, before=before)),
            **others,
        )

    done, best, notes = rounds.run(fit)
    told = {
        "rounds": [{"round": one.number, "validation": one.validation, **one.learned} for one in done],
        "best_round": best.number,
        "unlabelled": len(data.unlabelled.whole),
        "notes": notes,
    }
    with complete_folder(target) as partial:
        shutil.copytree(rounds.model(best.number), partial, dirs_exist_ok=True)
        own = {name: value for name, value in read_card(partial).items() if name not in ("format", "files")}
        write_card(partial, own | {"self_training": told})
    rounds.forget()
    training = settings.training
    return Result(
        curve=[row for one in done for row in one.curve],
        best_step=best.best_step,
        steps=done[-1].steps,
        device=choose_device(training.device, training.precision, training.attention),
        trainable=best.trainable,
        weights=best.weights,
        validation=best.validation,
        self_training=told,
    )


class _Rounds:
    """All rounds of one training; what is complete of them lies in `folder`."""

    def __init__(
        self, settings: Settings, data: TrainingData, unlabelled: UnlabelledTable, folder: Path
    ) -> None:
        self._settings = settings
        self._chosen_by: SelfTrainingSettings = settings.training.self_training
        self._problem: Problem = get_problem(settings.problem)
        self._data = data
        self._unlabelled = unlabelled
        self._folder = folder
        self._metric = validation_metric(settings.training, self._problem)

    def checkpoints(self, number: int) -> Path:
        return self._folder / f"round-{number}"

    def model(self, number: int) -> Path:
        """The model folder of a round that is complete."""
        return self._folder / f"round-{number}-model"

    def forget(self) -> None:
        """Remove everything, the last round's end first: what is killed meanwhile finds all that it needs."""
        for number in reversed(range(self._chosen_by.rounds + 1)):
            (self._folder / f"round-{number}.json").unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self, fit: Callable[[int, Settings, TrainingData, int], Result]
    ) -> tuple[list[Done], Done, list[str]]:
        """Train round by round with `fit`; all of them, the best one, and why they ended early."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rounds: list[Done] = []
        chosen: Chosen | None = None
        last = self._chosen_by.rounds
        for number in range(last + 1):
            rounds.append(self._read(number) or self._train(fit, number, chosen, rounds))
            best = max(rounds, key=lambda one: (self._score(one), -one.number))
            for one in rounds[:-1]:  # only the best model and the last one are needed again
                if one.number != best.number:
                    shutil.rmtree(self.model(one.number), ignore_errors=True)
            if number == last or number - best.number >= self._chosen_by.patience:
                break
            following = self._choose(number)
            if note := self._refusal(following, chosen):
                print(f"note: {note}", flush=True)
                return rounds, best, [note]
            chosen = following
        return rounds, best, []

    def _score(self, done: Done) -> float:
        """Larger is better."""
        value = done.validation.get(self._metric, -np.inf)
        return value if self._problem.validation_metric_names[self._metric] else -value

    def _train(
        self,
        fit: Callable[[int, Settings, TrainingData, int], Result],
        number: int,
        chosen: Chosen | None,
        rounds: Sequence[Done],
    ) -> Done:
        """One round: trained, and written down."""
        learning, data, by = self._settings, self._data, self._chosen_by
        told = {} if chosen is None else chosen.told
        print(f"round {number}: {len(data.training):,} labelled records{_described(told)}", flush=True)
        if chosen is not None:
            weight = by.weight if by.weight != 1.0 else None
            records = WithPseudoLabels(
                data.training, self._unlabelled.training, chosen.rows, chosen.targets, weight
            )
            data = replace(data, training=records)
            if by.epochs is not None:
                training = learning.training.model_copy(update={"epochs": by.epochs})
                learning = learning.model_copy(update={"training": training})
        before = rounds[-1].steps if rounds else 0
        result = fit(number, learning, data, before)
        done = Done(
            number=number,
            curve=[of_all(row, number, before) for row in result.curve],
            steps=before + int(result.steps),
            best_step=before + result.best_step,
            validation=result.validation,
            trainable=result.trainable,
            weights=result.weights,
            learned=told,
        )
        with complete_file(self._folder / f"round-{number}.json") as partial:
            partial.write_text(json.dumps(done.__dict__), encoding="utf-8")
        return done

    def _read(self, number: int) -> Done | None:
        file = self._folder / f"round-{number}.json"
        return Done(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def _choose(self, number: int) -> Chosen:
        """The predictions of a round's model that are learned from next; made once."""
        file = self._folder / f"chosen-{number}.safetensors"
        if not file.is_file():
            said = self._predicted(number)
            counts = class_counts(self._data.training.labels, self._data.label_names)
            given, names = self._unlabelled.given, self._data.label_names
            chosen = chosen_of(said, given, self._problem, names, self._chosen_by, counts)
            with complete_file(file) as partial:
                told = {"told": json.dumps(chosen.told, ensure_ascii=False)}
                # A table's columns lie behind each other in memory, which safetensors would not notice.
                targets = np.ascontiguousarray(chosen.targets)
                save_file({"rows": chosen.rows, "targets": targets}, partial, told)
        with safe_open(file, framework="numpy") as opened:
            told = json.loads(opened.metadata()["told"])
            return Chosen(opened.get_tensor("rows"), opened.get_tensor("targets"), told)

    def _predicted(self, number: int) -> pd.DataFrame:
        """What a round's model says of all unlabelled records."""
        training, table = self._settings.training, self._unlabelled.whole
        predictor = Predictor.load(self.model(number), training.device, training.precision)
        parts = []
        for start in range(0, len(table), _CHUNK):
            rows = [table[row] for row in range(start, min(start + _CHUNK, len(table)))]
            features: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
            features["n_tokens"] = [len(row.get("input_ids", ())) for row in rows]
            parts.append(predictor.predict_features(features))
            print(f"predicted {start + len(rows):,} of {len(table):,} unlabelled records", flush=True)
        del predictor
        gc.collect()
        return pd.concat(parts, ignore_index=True)

    def _refusal(self, following: Chosen, before: Chosen | None) -> str | None:
        """Why no further round makes sense, if none does."""
        told = following.told
        if not told["confident"]:
            threshold, highest = self._chosen_by.threshold, told["highest_confidence"]
            return (
                f"no prediction reaches `training.self_training.threshold` {threshold:g} (the most confident "
                f"has {highest:.3f}), so that no pseudo-label is learned from"
            )
        if not told["pseudo_labels"]:
            return (
                f"{told['confident']:,} predictions are confident, but of some class none is, so that "
                "`training.self_training.balance` labelled leaves no pseudo-label"
            )
        if told["different"] == 1 and len(self._data.label_names) > 1:
            names = [repr(name) for name, one in told["by_class"].items() if one["pseudo_labels"]]
            return (
                f"all {told['pseudo_labels']:,} pseudo-labels are {', '.join(names) or 'none'}; learning "
                "from them would teach only to say so, and no further round follows"
            )
        if following.same(before):
            return "the pseudo-labels are those of the round before, so that no further round follows"
        return None


def chosen_of(
    predictions: pd.DataFrame,
    given: Sequence[str],
    problem: Problem,
    label_names: Sequence[str],
    settings: SelfTrainingSettings,
    labelled: dict[str, int],
) -> Chosen:
    """The predictions that are learned from, and how many of them are right as far as `given` tells."""
    said = predictions["prediction"].tolist()
    confidence = predictions["confidence"].to_numpy(dtype=np.float64)
    members = problem.classes(pd.Series(said, dtype="str"))
    assert members is not None  # noqa: S101 - a problem that learns from unlabelled records has classes
    rows = choose(
        confidence,
        members,
        threshold=settings.threshold,
        max_per_class=settings.max_per_class,
        labelled=labelled if settings.balance == "labelled" else None,
    )
    if settings.targets == "soft":
        chances = predictions.loc[rows, [f"p:{name}" for name in label_names]]
        targets = chances.to_numpy(dtype=np.float32)
    else:
        targets = np.asarray(problem.encode_targets([said[row] for row in rows], label_names))
    own = members[members.index.isin(rows)]
    known = [row for row in rows.tolist() if given[row]]
    right = [row for row in known if given[row] == said[row]]
    by_class = {
        name: {
            "pseudo_labels": int((own == name).sum()),
            "known": int(own[own == name].index.isin(known).sum()),
            "right": int(own[own == name].index.isin(right).sum()),
        }
        for name in label_names
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


def of_all(row: Row, number: int, before: int) -> Row:
    """A row of a round's curve as one of the curve of all rounds."""
    return {**row, "step": row["step"] + before, "round": float(number)}


def check_method(method: Method, settings: SelfTrainingSettings) -> None:
    """Raise `SettingsError` where the method has a loss of its own that knows no such targets or weights."""
    if method.caches:
        raise SettingsError(
            "`method.cache` keeps what frozen layers say of the labelled records alone; switch it off where "
            "`data.unlabelled` is learned from."
        )
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

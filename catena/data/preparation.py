"""Raw records → separate, clean training, validation and test parts, and what was rejected and why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catena.data.augmentation import Augmenter, Tally, check_augmentation
from catena.data.duplicates import Verdicts, settle_repeats, settle_sides
from catena.data.generated import generated_records
from catena.data.quality import (
    imbalance,
    near_duplicate_examples,
    part_report,
    rejected_report,
    warnings_about,
)
from catena.data.reading import RawFile, check_share, read_files
from catena.data.screening import REJECTED_COLUMNS, joined_text
from catena.data.splits import assign_parts, check_classes, check_parts, parts_in_order
from catena.data.unlabelled import read_unlabelled
from catena.errors import DataError, SettingsError
from catena.problems import Problem
from catena.settings import Settings

_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class Prepared:
    """The parts by name, the rejected rows, the problem's label names, and the quality report; with
    `data.unlabelled` its records too."""

    parts: dict[str, pd.DataFrame]
    rejected: pd.DataFrame
    classes: tuple[str, ...]
    report: dict[str, Any]
    unlabelled: pd.DataFrame | None = None


class Preparation:
    """The records of all files while they are sorted into parts, step by step.

    `records` keep their order: by file (training, validation, test), then by row.
    """

    def __init__(self, settings: Settings, problem: Problem, files: Sequence[RawFile]) -> None:
        self._settings = settings
        self._problem = problem
        self._files = files
        self.records = pd.concat([file.records for file in files], ignore_index=True)
        self._given = np.repeat([file.part for file in files], [len(file.records) for file in files])
        self._texts: list[str] = problem.record_texts(self.records).tolist()
        self._keys = pd.factorize(pd.Series(self._texts, dtype="str"))[0]
        self._verdicts = Verdicts.none(len(self.records))
        self.report: dict[str, Any] = {"duplicates": {"files": {}}, "contradictions": {"files": {}}}

    @property
    def split_off(self) -> list[str]:
        """The parts that come out of the training file because they have no file of their own."""
        given = {file.part for file in self._files}
        return [part for part in ("test", "validation") if part not in given]

    def _by_part(self) -> dict[str, list[RawFile]]:
        """The files by what they are for; only the training part may have several."""
        parts: dict[str, list[RawFile]] = {}
        for file in self._files:
            parts.setdefault(file.part, []).append(file)
        return parts

    def settle_repeats(self) -> None:
        """Repeats and contradictions within each file, or all files for training together."""
        chosen = self._settings.preparation
        target = self._problem.target_role
        for part, files in self._by_part().items():
            name = " and ".join(file.facts["name"] for file in files)
            thinned = part == "train" or chosen.deduplicate_given_parts
            several = not self._problem.one_right_target
            repeats = settle_repeats(
                self._keys,
                self.records,
                target,
                chosen.duplicates if thinned or chosen.duplicates == "error" else "keep",
                "keep"
                if several or not (thinned or chosen.contradictions == "error")
                else chosen.contradictions,
                self._verdicts,
                np.flatnonzero(self._given == part),
            )
            for example in (*repeats.duplicate_examples, *repeats.contradiction_examples):
                (example["text"],) = self._problem.show([example["text"]])
            self.report["duplicates"]["files"][name] = {
                "found": repeats.duplicates,
                "examples": repeats.duplicate_examples,
            }
            self.report["contradictions"]["files"][name] = {
                "texts": repeats.contradictory_texts,
                "records": repeats.contradictory_records,
                "examples": repeats.contradiction_examples,
            }
            clashes = self._rejected((self._given == part) & (self._verdicts.kinds == "contradiction"))
            unusable = pd.concat([*(file.rejected for file in files), clashes])
            check_share(
                name, unusable, sum(file.facts["rows"] for file in files), chosen.max_rejected_fraction
            )

    def assign_parts(self) -> dict[str, float]:
        """Give each record its part; return the shares split off."""
        chosen = self._settings.preparation
        fractions = {"test": chosen.test_fraction, "validation": chosen.validation_fraction}
        fractions = {part: fractions[part] for part in self.split_off}
        divisible = np.repeat([file.divisible for file in self._files], [len(f.records) for f in self._files])
        own = np.flatnonzero((self._given == "train") & divisible)
        parts = self._given.astype(object)
        roles = self._problem.split_roles
        deciding = self._texts if roles is None else joined_text(self.records, roles).tolist()
        if chosen.split == "order":
            parts[own] = parts_in_order(len(own), fractions.get("test"), fractions.get("validation"))
        else:
            parts[own] = assign_parts(
                [deciding[at] for at in own],
                chosen.split_seed,
                fractions.get("test"),
                fractions.get("validation"),
            )
        self.records["part"] = pd.array(parts, dtype="str")
        self._parts = parts
        return fractions

    def settle_sides(self) -> None:
        """Equal texts stay in one part only: test before validation before training."""
        settle_sides(self._keys, self._parts, self.records, self._problem.target_role, self._verdicts)
        crossing = np.isin(self._verdicts.kinds, ["duplicate across parts", "contradiction across parts"])
        self.report["duplicates"]["across_parts"] = int(crossing.sum())

    def settle_near_duplicates(self) -> None:
        """Near duplicates stay in one part only, by the same precedence, where so chosen."""
        chosen = self._settings.preparation
        search = self._problem.near_duplicates(chosen.near_duplicate_threshold)
        found: dict[str, Any] = {
            "policy": chosen.near_duplicates,
            "threshold": search.threshold,
            "pairs": 0,
            "between": {},
            "examples": [],
        }
        self.report["near_duplicates"] = found
        if chosen.near_duplicates == "off":
            return
        print(f"near duplicates: comparing {int(self._verdicts.stays.sum()):,} records", flush=True)
        members = {part: np.flatnonzero(self._verdicts.stays & (self._parts == part)) for part in _ORDER}
        texts = self._problem.compared_texts(self.records).tolist()
        sides = {part: search.side([texts[at] for at in members[part]]) for part in _ORDER}
        # Test before validation: a validation record that gives way to the test asks nobody to go.
        for giving, kept in (("validation", "test"), ("train", "test"), ("train", "validation")):
            lower, higher = members[giving], members[kept]
            stays = self._verdicts.stays
            near = search.find(sides[giving], sides[kept], search.threshold, stays[lower], stays[higher])
            ours, theirs = lower[near.lower], higher[near.higher]
            found["pairs"] += len(ours)
            found["between"][f"{giving} → {kept}"] = len(ours)
            role = self._problem.input_roles[0]
            found["examples"] += near_duplicate_examples(
                near, self.records.iloc[lower], self.records.iloc[higher], role, self._problem.show
            )
            if chosen.near_duplicates == "drop":
                partners = self.records[["source", "row"]].iloc[theirs]
                reasons = [
                    f"near duplicate ({similarity:.2f}) of {source} row {row} ({kept} part)"
                    for source, row, similarity in zip(
                        partners["source"], partners["row"], near.similarity, strict=True
                    )
                ]
                self._verdicts.reject(ours, "near duplicate", np.array(reasons, dtype=object))

    def settle_unknown_labels(self) -> None:
        """Reject validation and test records with a class that the training part does not have."""
        classes = self._problem.classes(self.records[self._problem.target_role])
        if classes is None:
            return
        stays = self._verdicts.stays
        at = classes.index.to_numpy()
        known = classes[stays[at] & (self._parts[at] == "train")].unique()
        given = [file.part for file in self._files if file.part != "train"]
        outside = stays[at] & np.isin(self._parts[at], given) & ~classes.isin(known).to_numpy()
        # A record with several foreign classes is named after its first.
        lost = classes[outside].groupby(level=0).first()
        foreign = lost.index.to_numpy(dtype=np.int64)
        names = [f"class {name!r} does not occur in the training part" for name in lost]
        self._verdicts.reject(foreign, "class not in the training part", np.array(names, dtype=object))
        for file in self._files:
            if file.part != "train":
                lost = self._rejected(
                    (self._given == file.part) & (self._verdicts.kinds == "class not in the training part")
                )
                limit = self._settings.preparation.max_rejected_fraction
                unusable = pd.concat([file.rejected, lost])
                check_share(file.facts["name"], unusable, file.facts["rows"], limit)

    def check_classes(self, fractions: dict[str, float]) -> list[str]:
        """Raise `DataError` when a class or a part is too small; return warnings."""
        stays = self._verdicts.stays
        chosen = self._settings.preparation
        check_parts(self.records["part"][stays])
        classes = self._problem.classes(self.records[self._problem.target_role][stays])
        if classes is None:
            return []
        texts = pd.Series(self._texts, dtype="str")
        return check_classes(
            classes,
            self.records["part"].loc[classes.index],
            self.split_off,
            chosen.min_records_per_class,
            texts.loc[classes.index],
            None if chosen.split == "order" else chosen.split_seed,
            fractions,
            self._problem.fewest_classes,
        )

    def accepted(self) -> pd.DataFrame:
        """The records that stay, with `id`, `part` and `augmented`."""
        stays = np.flatnonzero(self._verdicts.stays)
        kept = self.records.iloc[stays].reset_index(drop=True)
        labels = kept[self._problem.target_role].tolist()
        kept["id"] = unique_ids([self._texts[at] for at in stays], labels)
        kept["augmented"] = False
        return kept

    def rejected(self) -> pd.DataFrame:
        """All rejected rows, by file and row."""
        late = self._rejected(~self._verdicts.stays)
        every = pd.concat([*(file.rejected for file in self._files), late], ignore_index=True)
        order = {file.facts["name"]: number for number, file in enumerate(self._files)}
        every["order"] = every["source"].map(order)
        return every.sort_values(["order", "row"], kind="stable")[list(REJECTED_COLUMNS)].reset_index(
            drop=True
        )

    def _rejected(self, where: np.ndarray) -> pd.DataFrame:
        at = np.flatnonzero(where)
        chosen = self.records.iloc[at]
        return pd.DataFrame(
            {
                "source": chosen["source"],
                "row": chosen["row"],
                "text": pd.array(self._problem.show([self._texts[i][:500] for i in at]), dtype="str"),
                "label": chosen[self._problem.target_role],
                "kind": pd.array(self._verdicts.kinds[at], dtype="str"),
                "reason": pd.array(self._verdicts.reasons[at], dtype="str"),
            }
        )


def prepare(settings: Settings, problem: Problem, folder: Path) -> Prepared:
    """Read, clean, screen, sort into parts, and augment the records in `folder`.

    Raises `DataError` for data that cannot be used, `SettingsError` for augmentation that makes no sense.
    """
    files = read_files(settings, problem, folder)
    work = Preparation(settings, problem, files)
    work.settle_repeats()
    fractions = work.assign_parts()
    work.settle_sides()
    work.settle_near_duplicates()
    work.settle_unknown_labels()
    warnings = work.check_classes(fractions)
    kept, rejected = work.accepted(), work.rejected()
    report = work.report
    del work  # a second copy of the texts
    names = problem.label_names(kept[kept["part"] == "train"])
    classes = names if problem.fewest_classes else ()
    parts = {part: kept[kept["part"] == part].drop(columns="part").reset_index(drop=True) for part in _ORDER}
    for part in parts.values():
        problem.schema(classes or None).validate(part)
    warnings += problem.examine(parts)
    check_augmentation(settings.preparation.augmentation, classes)
    without_labels = read_unlabelled(settings, problem, folder, parts, names)
    report["augmentation"] = None
    if settings.preparation.augmentation.copies:
        parts["train"], report["augmentation"] = _augmented(settings, problem, folder, parts["train"], kept)
    report["generated"] = None
    if settings.preparation.augmentation.generated is not None:
        written, report["generated"] = generated_records(settings, problem, folder, parts, classes)
        written = written.assign(augmented=True, **dict.fromkeys(settings.data.keep, ""))
        texts, labels = (written[name].tolist() for name in (problem.input_roles[0], problem.target_role))
        written["id"] = [f"{name}-g" for name in unique_ids(texts, labels)]
        parts["train"] = pd.concat([parts["train"], written], ignore_index=True)[parts["train"].columns]
        warnings.append(f"{len(written):,} records of the training part were written by a model")
    columns = ["id", *problem.input_roles, problem.target_role]
    columns += [name for name in settings.data.keep if name not in columns]
    parts = {name: part[[*columns, "source", "row", "augmented"]] for name, part in parts.items()}
    if without_labels is not None:
        files = [*files, without_labels.file]
        rejected = pd.concat([rejected, without_labels.file.rejected], ignore_index=True)
        warnings += without_labels.warnings
    rows = sum(file.facts["rows"] for file in files)
    report |= {
        "format": 1,
        "data": settings.data.name,
        "files": [_file_report(file, rejected) for file in files],
        "classes": list(classes),
        "parts": {
            name: part_report(
                part,
                joined_text(part, problem.input_roles) if problem.tokenizes else None,
                problem.classes(part[problem.target_role]),
                classes,
            )
            | {"targets": [[*one] for one in problem.describe_targets(part[problem.target_role]).items()]}
            for name, part in parts.items()
        },
        "rejected": rejected_report(rejected, rows),
        "unlabelled": None if without_labels is None else without_labels.report,
    }
    report["imbalance"] = imbalance(report["parts"]["train"]["classes"]) if classes else None
    report["warnings"] = warnings + warnings_about(report["parts"], report["imbalance"], classes)
    return Prepared(
        parts, rejected, names, report, None if without_labels is None else without_labels.records
    )


def unique_ids(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """16 hexadecimal digits of the SHA-256 of text and label; a repeat gets `-2`, `-3`, …"""
    seen: dict[str, int] = {}
    ids = []
    for text, label in zip(texts, labels, strict=True):
        name = hashlib.sha256(f"{text}\0{label}".encode()).hexdigest()[:16]
        count = seen[name] = seen.get(name, 0) + 1
        ids.append(name if count == 1 else f"{name}-{count}")
    return ids


def _augmented(
    settings: Settings, problem: Problem, folder: Path, train: pd.DataFrame, kept: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The training part with altered copies at its end, and what was done."""
    if not problem.tokenizes:
        raise SettingsError(
            f"`preparation.augmentation` alters texts, and the problem is {problem.name}; set its `copies` "
            "to 0 and see `problem.augmentation`."
        )
    if len(problem.input_roles) != 1:
        raise DataError(f"Augmentation is not there for {problem.name}, whose records have several inputs.")
    if not problem.truncates:
        raise DataError(
            f"Augmentation is not there for {problem.name}, whose {problem.target_role} point into the text; "
            "set `preparation.augmentation.copies` to 0."
        )
    role = problem.input_roles[0]
    tally = Tally()
    augmenter = Augmenter(settings.preparation.augmentation, folder, settings.seed, train[role].tolist())
    members = problem.classes(train[problem.target_role])
    copies = augmenter.copies(train, role, members, set(kept[role]), tally)
    return pd.concat([train, copies], ignore_index=True), tally.as_dict()


def _file_report(file: RawFile, rejected: pd.DataFrame) -> dict[str, Any]:
    lost = int((rejected["source"] == file.facts["name"]).sum())
    return {**file.facts, "accepted": file.facts["rows"] - lost, "rejected": lost}

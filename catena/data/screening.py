"""One batch of raw records → cleaned records that fit the problem's schema, and the rest with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from catena.data.cleaning import Cleaner
from catena.data.formats import SHOWN_CHARACTERS, Batch
from catena.problems import Problem
from catena.settings import Settings

if TYPE_CHECKING:
    import pandera.pandas as pa

#: Columns of `rejected.parquet`. `kind` groups the reasons; `reason` may name another record.
REJECTED_COLUMNS = ("source", "row", "text", "label", "kind", "reason")


@dataclass(frozen=True)
class Screen:
    """What a record must pass: cleaning, then the limits of `params.yaml`, then the problem's schema.

    Without `targets`, records are asked for their inputs alone, and have no target.
    """

    settings: Settings
    problem: Problem
    cleaner: Cleaner
    schema: pa.DataFrameSchema
    targets: bool = True

    @classmethod
    def from_settings(cls, settings: Settings, problem: Problem, targets: bool = True) -> Screen:
        schema = problem.schema() if targets else problem.schema().remove_columns([problem.target_role])
        return cls(settings, problem, Cleaner.from_settings(settings.preparation), schema, targets)

    def apply(self, batch: Batch, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The accepted records (`source` and `row` among their columns) and the rejected ones."""
        records, kinds = self.problem.compose(batch.records)
        keep = [name for name in self.settings.data.keep if name in records]
        records[keep] = records[keep].fillna("")
        raw_target = (
            records[self.problem.target_role].fillna("")
            if self.targets
            else pd.Series("", index=records.index, dtype="str")
        )
        for role in self.problem.input_roles:
            self._note_unusable_text(records, role, kinds)
        if self.targets:  # before the texts are cleaned, because a target may point into them
            self._read_targets(records, kinds)
        records = self._clean(records, kinds)
        for role in self.problem.input_roles if self.problem.tokenizes else ():
            self._limit_text(records, role, kinds)
        self._check_schema(records, kinds)
        records["source"] = source
        bad = (kinds != "").to_numpy()
        rejected = pd.DataFrame(
            {
                "source": source,
                "row": records["row"][bad],
                "text": self._shown(records[bad]),
                "label": raw_target[bad].str.slice(0, SHOWN_CHARACTERS),
                "kind": kinds[bad],
                "reason": kinds[bad],
            }
        )
        broken = pd.DataFrame(
            {
                "source": source,
                "row": batch.broken["row"],
                "text": batch.broken["text"],
                "label": "",
                "kind": _broken_kind(batch.broken["reason"]),
                "reason": batch.broken["reason"],
            }
        )
        parts = [part for part in (rejected, broken) if len(part)]
        return records[~bad], pd.concat(parts, ignore_index=True) if parts else rejected

    def _note_unusable_text(self, records: pd.DataFrame, role: str, kinds: pd.Series) -> None:
        _note(kinds, records[role].isna(), f"missing {role}")
        records[role] = records[role].fillna("")
        _note(kinds, records[role].str.contains("\0", regex=False), f"NUL character in the {role}")

    def _read_targets(self, records: pd.DataFrame, kinds: pd.Series) -> None:
        """Collapse white space in the targets in place and give them their canonical form."""
        role = self.problem.target_role
        missing = records[role].isna()
        codes, values = pd.factorize(records[role].fillna(""))
        cleaned = [str(value) for value in values]
        if not self.problem.keeps_white_space:
            cleaned = Cleaner().clean(cleaned)
        read, reasons = self.problem.read_targets(cleaned, self.settings.data.labels)
        records[role] = pd.array([read[code] for code in codes], dtype="str")
        _note(kinds, missing, f"missing {role}")
        if any(reasons):
            unusable = pd.Series([reasons[code] for code in codes], index=records.index, dtype="str")
            for reason in dict.fromkeys(filter(None, reasons)):
                _note(kinds, unusable == reason, reason)

    def _clean(self, records: pd.DataFrame, kinds: pd.Series) -> pd.DataFrame:
        """The records with clean texts; those noted already stay as they are."""
        sound = (kinds == "").to_numpy()
        if sound.all():
            return self.problem.clean(records, self.cleaner)
        cleaned = self.problem.clean(records[sound], self.cleaner)
        columns = [*self.problem.input_roles, *([self.problem.target_role] if self.targets else [])]
        records.loc[sound, columns] = cleaned[columns]
        return records

    def _limit_text(self, records: pd.DataFrame, role: str, kinds: pd.Series) -> None:
        """Note texts that are too short or too long, or cut the long ones, as chosen."""
        limits = self.settings.preparation
        length = records[role].str.len()
        short = (length > 0) & (length < limits.min_characters)
        _note(kinds, short, f"{role} shorter than {limits.min_characters} characters")
        long = length > limits.max_characters
        if limits.too_long == "reject" or not self.problem.truncates:
            _note(kinds, long, f"{role} longer than {limits.max_characters} characters")
        elif long.any():
            records[role] = records[role].str.slice(0, limits.max_characters).str.rstrip()

    def _check_schema(self, records: pd.DataFrame, kinds: pd.Series) -> None:
        """Note the records that the problem's schema refuses, by the first check that fails."""
        import pandera.errors

        sound = records[kinds == ""]
        try:
            self.schema.validate(sound, lazy=True)
        except pandera.errors.SchemaErrors as error:
            cases = error.failure_cases
            cases = cases[cases["index"].notna()].drop_duplicates("index")
            kinds.loc[cases["index"].astype(sound.index.dtype)] = cases["check"].astype("str").to_numpy()

    def _shown(self, records: pd.DataFrame) -> pd.Series:
        return joined_text(records, self.problem.input_roles).str.slice(0, SHOWN_CHARACTERS)


def joined_text(records: pd.DataFrame, roles: Sequence[str]) -> pd.Series:
    """The input columns as one text, where a problem has several."""
    text = records[roles[0]]
    for role in roles[1:]:
        text = text + "\n" + records[role]
    return text


def _note(kinds: pd.Series, where: pd.Series, kind: str) -> None:
    """Write down `kind` for those that nothing was noted for yet."""
    kinds[where & (kinds == "")] = kind


def _broken_kind(reasons: pd.Series) -> pd.Series:
    """`3 columns instead of 2` stays as it is; JSON errors and lines of CoNLL lose their position."""
    reasons = reasons.str.replace(r" \(line \d+[^)]*\)$", "", regex=True)
    return reasons.str.replace(r"^not valid JSON: .*", "not valid JSON", regex=True)

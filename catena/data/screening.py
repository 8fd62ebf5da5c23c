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
    """What a record must pass: cleaning, then the limits of `params.yaml`, then the problem's schema."""

    settings: Settings
    problem: Problem
    cleaner: Cleaner
    schema: pa.DataFrameSchema

    @classmethod
    def from_settings(cls, settings: Settings, problem: Problem) -> Screen:
        return cls(settings, problem, Cleaner.from_settings(settings.preparation), problem.schema())

    def apply(self, batch: Batch, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The accepted records (`source` and `row` among their columns) and the rejected ones."""
        records = batch.records
        keep = [name for name in self.settings.data.keep if name in records]
        records[keep] = records[keep].fillna("")
        raw_label = records[self.problem.target_role].fillna("")
        kinds = pd.Series("", index=records.index, dtype="str")
        for role in self.problem.input_roles:
            self._clean_text(records, role, kinds)
        self._clean_label(records, kinds)
        self._check_schema(records, kinds)
        records["source"] = source
        bad = (kinds != "").to_numpy()
        rejected = pd.DataFrame(
            {
                "source": source,
                "row": records["row"][bad],
                "text": self._shown(records[bad]),
                "label": raw_label[bad].str.slice(0, SHOWN_CHARACTERS),
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

    def _clean_text(self, records: pd.DataFrame, role: str, kinds: pd.Series) -> None:
        """Clean a text column in place; note those missing, too short, too long or with NUL characters."""
        limits = self.settings.preparation
        missing = records[role].isna()
        texts = records[role].fillna("")
        _note(kinds, missing, f"missing {role}")
        _note(kinds, texts.str.contains("\0", regex=False), f"NUL character in the {role}")
        texts = pd.Series(self.cleaner.clean(texts.tolist()), index=records.index, dtype="str")
        length = texts.str.len()
        short = (length > 0) & (length < limits.min_characters)
        _note(kinds, short, f"{role} shorter than {limits.min_characters} characters")
        long = length > limits.max_characters
        if limits.too_long == "reject":
            _note(kinds, long, f"{role} longer than {limits.max_characters} characters")
        elif long.any():
            texts = texts.str.slice(0, limits.max_characters).str.rstrip()
        records[role] = texts

    def _clean_label(self, records: pd.DataFrame, kinds: pd.Series) -> None:
        """Collapse white space in the labels in place and give them their readable names."""
        role = self.problem.target_role
        missing = records[role].isna()
        codes, values = pd.factorize(records[role].fillna(""))
        cleaned = Cleaner().clean([str(value) for value in values])
        names = self.settings.data.labels
        unnamed: set[str] = set()
        if names is not None:
            unnamed = {label for label in cleaned if label and label not in names}
            cleaned = [names.get(label, label) for label in cleaned]
        records[role] = pd.array([cleaned[code] for code in codes], dtype="str")
        _note(kinds, missing, f"missing {role}")
        if unnamed:
            _note(kinds, records[role].isin(unnamed), f"{role} not among `data.labels`")

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
    """`3 columns instead of 2` stays as it is; JSON errors lose their position."""
    return reasons.str.replace(r"^not valid JSON: .*", "not valid JSON", regex=True)

"""Predictions for a whole file, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from catena.data.formats import file_format, read_records
from catena.errors import DataError, SettingsError
from catena.files import complete_file
from catena.settings import DataSettings

if TYPE_CHECKING:
    from catena.chain_predictor import ChainPredictor
    from catena.predictor import Predictor

ENDINGS = (".parquet", ".csv", ".jsonl")
_RECORDS = 2_048  # predicted at a time: enough to sort by length, few enough to show progress


@dataclass(frozen=True)
class BulkResult:
    """How many records got a prediction, how many had none to give, and why the first of those had not."""

    predicted: int
    skipped: int
    first_reason: str | None


def check_target(target: Path, *sources: Path) -> None:
    """Raise `SettingsError` for an output of another ending than `ENDINGS`, or that is one of the inputs."""
    if target.suffix.lower() not in ENDINGS:
        raise SettingsError(f"{target.name}: the output's name must end in {', '.join(ENDINGS)}.")
    if any(target.resolve() == source.resolve() for source in sources):
        raise SettingsError("`--output` is the input itself; name another file.")


def predict_file(
    predictor: Predictor | ChainPredictor,
    source: Path,
    target: Path,
    settings: DataSettings,
    keep: Sequence[str] = (),
    on_progress: Callable[[int], None] = lambda records: None,
) -> BulkResult:
    """Write to `target` one row for each record of `source` that has all input columns.

    Its columns are `row` (1-based data row in `source`), the inputs and the columns in `keep` under
    their own names, and those of `Predictor.predict`. `target` appears when it is complete; its ending
    chooses the format. `settings` say how `source` is written and which column plays which role;
    `on_progress` gets the number of records read since its last call. Raises `DataError`.
    """
    roles = predictor.problem.input_roles
    names = {role: settings.columns[role] for role in roles if role in settings.columns}
    predicted = skipped = 0
    first_reason: str | None = None
    with write_tables(target) as write:
        for batch in read_records(source, settings, roles, keep=keep, contents=predictor.problem.contents):
            for row, reason in zip(batch.broken["row"], batch.broken["reason"], strict=True):
                first_reason = first_reason or f"row {row}: {reason}"
            skipped += len(batch.broken)
            on_progress(len(batch.broken))
            for start in range(0, len(batch.records), _RECORDS):
                records = batch.records.iloc[start : start + _RECORDS]
                usable = records[~_without_text(records, predictor)]
                read, reasons = predictor.problem.read_inputs(usable)
                for at in usable.index[reasons != ""]:
                    first_reason = first_reason or f"row {usable['row'][at]}: {reasons[at]}"
                shown = usable.assign(
                    **{role: predictor.problem.show(usable[role].tolist()) for role in roles}
                )
                usable = read[reasons == ""]
                skipped += len(records) - len(usable)
                if first_reason is None and len(usable) < len(records):
                    row = records.loc[~records.index.isin(usable.index), "row"].iloc[0]
                    first_reason = f"row {row}: no {' or '.join(names.get(role, role) for role in roles)}"
                refusals = predictor.problem.refusals(usable)
                if (refusals != "").any():
                    at = int((refusals != "").to_numpy().argmax())
                    first_reason = first_reason or f"row {usable['row'].iloc[at]}: {refusals.iloc[at]}"
                    skipped += int((refusals != "").sum())
                    usable = usable[(refusals == "").to_numpy()]
                if len(usable):
                    wanted = ["row", *roles, *(name for name in keep if name in shown)]
                    told = shown.loc[usable.index, wanted].rename(columns=names)
                    said = predictor.predict(usable)
                    if twice := [name for name in told if name in said]:
                        raise DataError(
                            f"{source.name} has a column `{twice[0]}`, and so has what is written; "
                            "give it another name, or do not keep it."
                        )
                    write(pd.concat([told, said], axis=1))
                predicted += len(usable)
                on_progress(len(records))
        if not predicted:
            raise DataError(
                f"{source.name} has no record to predict"
                + (f" ({skipped:,} were skipped; {first_reason})." if skipped else ".")
            )
    return BulkResult(predicted, skipped, first_reason)


def _without_text(records: pd.DataFrame, predictor: Predictor | ChainPredictor) -> pd.Series:
    """Which records lack an input, or have one of nothing but white space."""
    roles, contents = predictor.problem.input_roles, predictor.problem.contents
    lacking = records[list(roles)].isna().any(axis=1)
    for role in roles:
        if role not in contents:
            lacking |= records[role].fillna("").astype("str").str.strip() == ""
    return lacking


def estimated_records(source: Path, settings: DataSettings) -> int | None:
    """About how many records `source` holds, where that can be had quickly."""
    kind = file_format(source, settings.format)
    if kind == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(source).num_rows)
    if kind in ("dataset", "conll", "images", "numpy") or source.name.endswith(".gz"):
        return None
    with source.open("rb") as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))


@contextmanager
def write_tables(target: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that appends a table to `target`, which appears when the block succeeds."""
    writers: dict[str, Callable[[Path], Any]] = {
        ".parquet": _ParquetWriter,
        ".csv": _CsvWriter,
        ".jsonl": _JsonLinesWriter,
    }
    if target.suffix.lower() not in writers:
        raise DataError(f"{target.name}: the output's name must end in {', '.join(ENDINGS)}.")
    with complete_file(target) as partial:
        writer = writers[target.suffix.lower()](partial)
        try:
            yield writer.write
        finally:
            writer.close()


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, table: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            data = pa.Table.from_pandas(table, preserve_index=False)
            self._writer = pq.ParquetWriter(self._path, data.schema.remove_metadata())
        schema = self._writer.schema
        self._writer.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _CsvWriter:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")
        self._header = True

    def write(self, table: pd.DataFrame) -> None:
        table.to_csv(self._stream, index=False, header=self._header)
        self._header = False

    def close(self) -> None:
        self._stream.close()


class _JsonLinesWriter:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8")

    def write(self, table: pd.DataFrame) -> None:
        table.to_json(self._stream, orient="records", lines=True, force_ascii=False, double_precision=10)

    def close(self) -> None:
        self._stream.close()

"""The records that are known already: those of the project's parts, and of files that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq

from catena.data.formats import read_records
from catena.labelling.candidates import digest
from catena.settings import DataSettings

if TYPE_CHECKING:
    from catena.predictor import Predictor

#: Records read of a part at once.
_RECORDS = 50_000


@dataclass(frozen=True)
class Known:
    """Digests of records that are known, the texts they are compared by, and the inputs of those that were
    learned from."""

    digests: frozenset[bytes]
    compared: list[str]
    learned: pd.DataFrame

    @classmethod
    def gather(
        cls, predictor: Predictor, prepared: Path | None, files: Sequence[Path], settings: DataSettings
    ) -> Known:
        """All records of the parts in the folder `prepared`, and of `files` with or without labels."""
        problem = predictor.problem
        roles = list(problem.input_roles)
        tables: list[pd.DataFrame] = []
        learned: list[pd.DataFrame] = []
        for part in ("train", "validation", "test"):
            path = None if prepared is None else prepared / f"{part}.parquet"
            if path is None or not path.is_file() or not set(roles) <= set(pq.read_schema(path).names):
                continue
            for batch in pq.ParquetFile(path).iter_batches(_RECORDS, columns=roles):
                tables.append(batch.to_pandas())
                if part == "train":
                    learned.append(tables[-1])
        for file in files:
            for batch in read_records(file, settings, roles, contents=problem.contents):
                read, reasons = problem.read_inputs(batch.records.dropna(subset=roles))
                table = problem.clean(read[reasons == ""], predictor.cleaner)[roles]
                tables.append(table)
                learned.append(table)
        empty = pd.DataFrame({role: pd.Series([], dtype="str") for role in roles})
        every = pd.concat(tables, ignore_index=True) if tables else empty
        return cls(
            frozenset(map(digest, problem.record_texts(every))),
            problem.compared_texts(every).tolist(),
            pd.concat(learned, ignore_index=True) if learned else empty,
        )

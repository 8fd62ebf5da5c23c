"""Predictions of a champion on test records it has not seen, in a process of its own.

`python -m catena.registry.prediction MODEL_FOLDER RECORDS.parquet OUTPUT.parquet [TAIL]`: only the
child imports torch, so that registering starts quickly when nothing has to be predicted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

from catena.errors import ModelError
from catena.registry.latency import run_child


def predict_apart(folder: Path, records: pd.DataFrame, tail: str = "") -> pd.DataFrame:
    """`records` (with `id` and target) beside the model's predictions; of a chain, those of one tail.

    Raises `ModelError` when the model does not load.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "records.parquet"), Path(scratch, "predictions.parquet")
        records.to_parquet(source, index=False)
        run_child("catena.registry.prediction", str(folder), str(source), str(target), *[tail][: bool(tail)])
        return pd.read_parquet(target)


def main(folder: Path, source: Path, target: Path, tail: str | None = None) -> None:
    """Predict the records in `source` and write the table to `target`."""
    from catena.predictor import Predictor

    records = pd.read_parquet(source)
    try:
        predicted = Predictor.load(folder, tail=tail).predict(records, score_targets=True)
    except ModelError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    table = pd.concat([records, predicted.drop(columns=["n_tokens", "truncated"])], axis=1)
    table.to_parquet(target, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:5])

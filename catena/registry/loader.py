"""How MLflow loads a packaged model: `loader_module` of the pyfunc flavour. No pickle anywhere.

MLflow puts the packaged copy of this library on the import path and calls `_load_pyfunc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from catena.chain_predictor import ChainPredictor
    from catena.predictor import Predictor


class PackagedModel:
    """A `Predictor`, or that of a chain, behind the interface that MLflow calls."""

    def __init__(self, predictor: Predictor | ChainPredictor) -> None:
        self.predictor = predictor

    def predict(
        self, model_input: pd.DataFrame | Sequence[str], params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row for each record: `prediction`, `confidence` and `p:<label>` for each label.

        Of a chain, `<tail>.prediction` and so on; `params` may name in `tails` those that are asked.
        """
        predictor = self.predictor
        names = [name.strip() for name in str((params or {}).get("tails") or "").split(",") if name.strip()]
        asked = predictor.only(names) if names else predictor
        result = asked.predict(_one_text_a_row(model_input))
        return result.drop(columns=list(asked.counts))


def _one_text_a_row(records: pd.DataFrame | Sequence[str]) -> pd.DataFrame | Sequence[str]:
    """MLflow makes one row of `{"text": ["a", "b"]}`, which holds the whole list: unfold it."""
    import pandas as pd

    if not isinstance(records, pd.DataFrame) or len(records) != 1:
        return records
    folded = [name for name in records.columns if isinstance(records[name].iloc[0], (list, tuple))]
    return records.explode(folded, ignore_index=True) if folded else records


def _load_pyfunc(data_path: str, model_config: Mapping[str, str] | None = None) -> PackagedModel:
    """Load the model folder at `data_path`; `model_config` chooses `device` and `precision`."""
    from catena.chain_predictor import load_predictor

    wanted = model_config or {}
    predictor = load_predictor(
        Path(data_path), device=wanted.get("device", "auto"), precision=wanted.get("precision", "auto")
    )
    return PackagedModel(predictor)

"""Regression: a text is given a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError, SettingsError
from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, column_claim, without_classes
from catena.problems.features import encode_texts, pad_inputs
from catena.problems.outputs import HeadSpec, Measured, Outputs

if TYPE_CHECKING:
    import pandera.pandas as pa
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.evaluation.base import Evaluation
    from catena.settings import TokenizationSettings

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_PERCENTILES = (5, 25, 50, 75, 95)
#: Errors in targets that vary less than this would be shown as 0.
_SMALL = 0.05


@dataclass(frozen=True)
class Scale:
    """What the head's 0 and 1 stand for: mean and standard deviation of the training targets."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> Scale:
        """The scale of some training targets. Raises `DataError` where all of them are one number."""
        lowest, highest = float(values.min()), float(values.max())
        if lowest == highest:
            raise DataError(
                f"All training targets are the number {canonical_number(lowest)}, so there is nothing to "
                "learn; check the target column."
            )
        with np.errstate(over="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0.0):
            raise DataError(
                f"The training targets reach from {lowest:g} to {highest:g}, too far for a mean and a "
                "standard deviation; give them in another unit, or as logarithms."
            )
        return cls(mean, deviation)

    @classmethod
    def read(cls, label_names: Sequence[str]) -> Scale:
        """The scale from the name of the head's one output."""
        mean, _, deviation = label_names[0].partition(" ± ")
        return cls(float(mean), float(deviation))

    @property
    def name(self) -> str:
        """`mean ± deviation`, so that nothing is lost."""
        return f"{self.mean!r} ± {self.deviation!r}"

    def to_units(self, outputs: np.ndarray) -> np.ndarray:
        """Numbers in the data's units, to a ten-thousandth of the deviation."""
        values = outputs * self.deviation + self.mean
        return np.asarray(np.round(values, 4 - math.floor(math.log10(self.deviation))))


class Regression(Problem):
    """The head's one output is the target less its mean, by its standard deviation (in the training part).

    Targets are kept as the shortest text that gives back the number.
    """

    name = "regression"
    input_roles = ("text",)
    target_role = "target"
    fewest_classes = 0
    asks_for_labels = True
    tolerated = "how far off a number may be"
    validation_metric_names: ClassVar[Mapping[str, bool]] = {"r2": True, "loss": False}

    # -- records ---------------------------------------------------------------------------

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        """`data.labels` may give words their numbers."""
        targets: list[str] = []
        reasons: list[str] = []
        for value in values:
            try:
                targets.append(canonical_number(read_number((names or {}).get(value, value))))
                reasons.append("")
            except ValueError as error:
                targets.append(value)
                reasons.append(str(error))
        return targets, reasons

    def classes(self, targets: pd.Series) -> pd.Series | None:
        return None

    def label_names(self, records: pd.DataFrame) -> tuple[str, ...]:
        """What the head's one output means: its `Scale`."""
        return (Scale.of(numbers(records[self.target_role])).name,)

    def examine(self, parts: Mapping[str, pd.DataFrame]) -> list[str]:
        deviation = float(numbers(parts["train"][self.target_role]).std())
        if deviation >= _SMALL:
            return []
        return [
            f"the targets deviate by no more than {deviation:.2g} from their mean, and figures are shown to "
            "three decimals; give targets in a smaller unit, such as per mille"
        ]

    def describe_targets(self, targets: pd.Series) -> dict[str, float]:
        values = numbers(targets)
        points = np.percentile(values, _PERCENTILES)
        summary = {
            "min": values.min(),
            **{f"p{p}": point for p, point in zip(_PERCENTILES, points, strict=True)},
            "max": values.max(),
            "mean": values.mean(),
            "deviation": values.std(),
        }
        return {name: float(f"{value:.6g}") for name, value in summary.items()}

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        return pa.DataFrameSchema(
            {
                "text": pa.Column(str, pa.Check.str_length(min_value=1, error="empty text")),
                "target": pa.Column(
                    str, pa.Check(_is_canonical, element_wise=True, error="target is no number")
                ),
            }
        )

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """`labels` are the standardised targets."""
        features = encode_texts(records["text"].tolist(), tokenizer, settings)
        if self.target_role in records:
            scale = Scale.read(label_names)
            values = (numbers(records["target"]) - scale.mean) / scale.deviation
            features["labels"] = [float(value) for value in values]
        return features

    # -- network ---------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("regression", tuple(label_names))

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        import torch

        batch = pad_inputs(features, pad_token_id, pad_to)
        if "labels" in features[0]:
            labels = [float(feature["labels"]) for feature in features]
            batch["labels"] = torch.tensor(labels, dtype=torch.float32)
        return batch

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean squared or Huber's error, in standard deviations of the training targets."""
        from torch.nn import functional

        if label_smoothing:
            raise SettingsError(
                "`training.label_smoothing` says nothing to the problem regression; set it to 0."
            )
        values = logits.float().squeeze(-1)
        if self.settings.regression_loss == "huber":
            return functional.huber_loss(values, labels)
        return functional.mse_loss(values, labels)

    # -- predictions -------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """`value` is the number that `prediction` is the text of."""
        values = Scale.read(label_names).to_units(np.asarray(outputs, dtype=np.float64)[:, 0])
        return pd.DataFrame(
            {
                "prediction": pd.Series([canonical_number(value) for value in values], dtype="str"),
                "value": values,
            }
        )

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        return [("prediction", "string"), ("value", "double")]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        """`loss` is the one that training lowers; `r2` is 0 where all validation targets are the same."""
        said = np.asarray(outputs, dtype=np.float64)[:, 0]
        there = np.asarray(labels, dtype=np.float64)
        errors = said - there
        spread = float(((there - there.mean()) ** 2).sum())
        squares, lines = errors**2, np.abs(errors)
        huber = np.where(lines <= 1.0, squares / 2, lines - 0.5)
        return {
            "r2": 1.0 - float(squares.sum()) / spread if spread else 0.0,
            "loss": float((squares if self.settings.regression_loss == "mse" else huber).mean()),
        }

    def evaluation(self) -> Evaluation:
        from catena.evaluation.numbers import NumberEvaluation

        return NumberEvaluation()

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """The number itself."""
        without_classes(about, self.name)
        return [column_claim("value", "the number", "value")]

    def satisfies(self, said: Row, expected: str, tolerance: float) -> bool:
        return abs(float(said["prediction"]) - float(expected)) <= tolerance

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        return self.satisfies(after, before["prediction"], tolerance)


def read_number(raw: str) -> float:
    """The number that a text is, with a decimal point; raises `ValueError` with the reason if it is none."""
    if not raw:
        raise ValueError("empty target")
    if _NOT_FINITE.fullmatch(raw):
        raise ValueError("target is not a finite number")
    if not _NUMBER.fullmatch(raw):
        if _NUMBER.fullmatch(raw.replace(",", "")):
            raise ValueError("target has a comma; write numbers with a point and nothing else, as in 1234.5")
        raise ValueError("target is no number")
    value = float(raw)
    vanished = value == 0.0 and any(digit in "123456789" for digit in re.split("[eE]", raw)[0])
    if vanished or math.isinf(value):
        raise ValueError("target is beyond what a number in double precision can hold")
    return value


def canonical_number(value: float) -> str:
    """The shortest text that gives back the number: `5`, `-2.5`, `1e+300`."""
    return repr(float(value) + 0.0).removesuffix(".0")  # adding 0.0 makes -0.0 the same as 0.0


def numbers(targets: pd.Series) -> np.ndarray:
    """Canonical targets as double-precision numbers `(records,)`."""
    return np.array([float(target) for target in targets], dtype=np.float64)


def _is_canonical(target: str) -> bool:
    return bool(_NUMBER.fullmatch(target))

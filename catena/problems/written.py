"""What problems that are solved by writing share: targets, predictions, and what can be asked of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from catena.data.scripts import word_counts
from catena.errors import SettingsError
from catena.problems.base import Problem
from catena.problems.claims import Claim, Row, without_classes
from catena.problems.outputs import Measured, Outputs, Written
from catena.problems.token_loss import token_metrics

if TYPE_CHECKING:
    import pandera.pandas as pa


class WritingProblem(Problem):
    """A problem whose target is a text, which the network writes token by token.

    There is more than one right text, and none of them is a class.
    """

    fewest_classes = 0
    one_right_target = False
    generates = True
    tolerated = "difference of the texts: 1 less their chrF2"

    def read_targets(
        self, values: Sequence[str], names: Mapping[str, str] | None
    ) -> tuple[list[str], list[str]]:
        """Targets are texts; `data.labels` names none of them."""
        return list(values), ["" if value.strip() else f"empty {self.target_role}" for value in values]

    def classes(self, targets: pd.Series) -> pd.Series | None:
        return None

    def describe_targets(self, targets: pd.Series) -> dict[str, float]:
        words = word_counts(targets)
        return {"median words": float(np.median(words)), "most words": float(words.max())}

    def schema(self, label_names: Sequence[str] | None = None) -> pa.DataFrameSchema:
        import pandera.pandas as pa

        return pa.DataFrameSchema(
            {
                role: pa.Column(str, pa.Check.str_length(min_value=1, error=f"empty {role}"))
                for role in (*self.input_roles, self.target_role)
            }
        )

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        return written_table(outputs)

    def output_columns(self, label_names: Sequence[str]) -> list[tuple[str, str]]:
        return [("prediction", "string"), ("confidence", "double")]

    def validation_metrics(self, outputs: Measured, labels: Any) -> dict[str, float]:
        return token_metrics(outputs)

    # -- questions --------------------------------------------------------------------------------

    def claims(self, said: Row | None, label_names: Sequence[str], about: str | None = None) -> list[Claim]:
        """The text as a whole, by its log-likelihood, which stands as the target beside altered inputs."""
        if said is None:
            raise SettingsError(
                f"Predictions of the problem {self.name} are texts, and no text is more than another; ask "
                "with `invariance`, or with `minimum_functionality` for an expected text."
            )
        without_classes(about, self.name)
        return [
            Claim(
                self.target_role,
                f"log-likelihood of the {self.target_role} (nats)",
                lambda table: -table["target_loss"].to_numpy(dtype=np.float64),
            )
        ]

    def expected(self, given: Any, inputs: Mapping[str, str], names: Mapping[str, str] | None) -> str:
        """The text that is given, which is no record of its own: nothing is divided, no length compared."""
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        if self.keeps_white_space:
            text = "\n".join(line.rstrip() for line in text.splitlines()).strip()
        else:
            text = " ".join(text.split())
        (target,), (reason,) = self.read_targets([text], names)
        if reason:
            raise ValueError(reason)
        return target

    def satisfies(self, said: Row, expected: str, tolerance: float) -> bool:
        return difference(str(said["prediction"]), expected) <= tolerance

    def agrees(self, before: Row, after: Row, tolerance: float) -> bool:
        return difference(str(before["prediction"]), str(after["prediction"])) <= tolerance


def written_table(outputs: Outputs) -> pd.DataFrame:
    """The texts, and how sure the network was of them: the geometric mean of the tokens' probabilities.

    Where the records have targets, `target_loss` is a target's negative log-likelihood in nats, and
    `target_tokens` how many tokens it has.
    """
    if not isinstance(outputs, Written):  # of no records
        return pd.DataFrame({"prediction": pd.Series([], dtype="str"), "confidence": np.zeros(0)})
    means = outputs.log_likelihoods / np.maximum(outputs.tokens, 1)
    table = pd.DataFrame({"prediction": pd.Series(outputs.texts, dtype="str"), "confidence": np.exp(means)})
    if outputs.targets is not None:
        table["target_loss"] = outputs.targets[:, 0].astype(np.float64)
        table["target_tokens"] = outputs.targets[:, 1].astype(np.int64)
    return table


def difference(one: str, other: str) -> float:
    """How far two texts are from each other, 0 (equal) to 1: 1 less the chrF2 of the first as the second."""
    from sacrebleu.metrics.chrf import CHRF

    return 0.0 if one == other else 1.0 - float(CHRF().sentence_score(one, [other]).score) / 100.0

"""What problems that are solved by writing share: predictions, and what can be asked of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from catena.problems.base import Outputs, Written
from catena.problems.claims import Claim

#: What the `tolerance` of a behaviour test is.
TOLERATED = "difference of the texts: 1 less their chrF2"


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


def likelihood_claim(name: str) -> Claim:
    """That a text is written, which stands as the target beside altered inputs: its log-likelihood."""
    return Claim(
        name,
        f"log-likelihood of the {name} (nats)",
        lambda table: -table["target_loss"].to_numpy(dtype=np.float64),
    )


def difference(one: str, other: str) -> float:
    """How far two texts are from each other, 0 (equal) to 1: 1 less the chrF2 of the first as the second."""
    from sacrebleu.metrics.chrf import CHRF

    return 0.0 if one == other else 1.0 - float(CHRF().sentence_score(one, [other]).score) / 100.0

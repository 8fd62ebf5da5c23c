"""What a network says of a problem's records, and the head that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Written:
    """Texts that a network wrote, one for each row of features.

    `log_likelihoods` are in nats, summed over the `tokens` written (the one that ends the text included).
    `targets` is what `Problem.measure` says of the records' own targets `(rows, k)`, where they have one.
    """

    texts: list[str]
    log_likelihoods: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray | None = None


#: What a network says of rows of features: one vector for each row `(rows, outputs)`, or, from a head
#: over tokens, one array `(tokens of the row, outputs)` for each row.
Measured = np.ndarray | Sequence[np.ndarray]
#: That, or what it writes for them.
Outputs = Measured | Written


@dataclass(frozen=True)
class HeadSpec:
    """The head a backbone must carry: its `kind` (as backbones name it) and what its outputs mean.

    `pairs`: what is read are two texts in one row.
    """

    kind: str
    label_names: tuple[str, ...]
    pairs: bool = False

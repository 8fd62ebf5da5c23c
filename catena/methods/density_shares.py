"""How the odds of a label move from token to token of a text.

With J_y(t) = log P(y) + Σ_{u≤t} log P(x_u | x_<u, y), the odds of y against all other labels together are
O_y(t) = J_y(t) - log Σ_{y'≠y} exp J_{y'}(t). Token t's share is O_y(t) - O_y(t-1), which is log P(x_t | x_<t,
y) - log P(x_t | x_<t, not y): "not y" is the mixture of the other labels, each with the weight that the text
so far gives it. The shares and O_y(0), the odds of the prior, add up to the log-odds of P(y|x) exactly. Of
two labels, "not y" is the other one, and a share is the plain log-likelihood ratio.
"""

from __future__ import annotations

import numpy as np


def log_odds_path(
    scores: np.ndarray, log_prior: np.ndarray, of_tokens: float, of_prior: float, sets: bool
) -> np.ndarray:
    """Log-odds of each label before the text and after each of its tokens `(labels, tokens + 1)`, nats.

    `scores` `(conditions, tokens)` are log P(x_t | x_<t, y); they and `log_prior` `(conditions,)` are
    multiplied by `of_tokens` and `of_prior`, as the scores that are predicted by are. Of `sets` the first
    half of the conditions are the labels being there, the second their absence.
    """
    start = np.zeros((len(scores), 1))
    joint = of_prior * log_prior[:, None] + of_tokens * np.concatenate([start, scores.cumsum(axis=1)], axis=1)
    if sets:
        present, absent = np.split(joint, 2)
        return np.asarray(present - absent)
    return np.stack(
        [own - np.logaddexp.reduce(np.delete(joint, number, axis=0)) for number, own in enumerate(joint)]
    )

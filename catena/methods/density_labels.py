"""What stands for each label before a text, in tokens, and how likely each label is beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from catena.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from catena.settings.density import DensitySettings

#: How far given shares of the labels may be from a sum of 1.
_TOLERANCE = 1e-3


def descriptions(settings: DensitySettings, label_names: Sequence[str]) -> list[str]:
    """What each label is called. Raises `SettingsError` where labels are missing or not known."""
    given = settings.descriptions
    if given is None:
        return list(label_names)
    check_names("method.density.descriptions", given, label_names)
    return [given[name] for name in label_names]


def check_names(setting: str, given: Mapping[str, object], label_names: Sequence[str]) -> None:
    """Raise `SettingsError` where `given` does not name exactly the labels."""
    known = ", ".join(map(str, label_names[:10]))
    if unknown := [name for name in given if name not in label_names]:
        raise SettingsError(f"`{setting}` names {unknown[0]!r}, which is no label of the data ({known}).")
    if missing := [name for name in label_names if name not in given]:
        raise SettingsError(
            f"`{setting}` says nothing of {missing[0]!r}; name every label of the data ({known})."
        )


def words_before(settings: DensitySettings, label_names: Sequence[str], sets: bool) -> list[str]:
    """The words before a text for each condition; see `Wording` for their order."""
    names = descriptions(settings, label_names)
    present = [settings.template.replace("{label}", name) for name in names]
    if not sets:
        return present
    return present + [settings.absent.replace("{label}", name) for name in names]


def around_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], int]:
    """The tokens that the tokenizer puts before and after a text, and the one that ends a text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, special = list(found["input_ids"]), list(found["special_tokens_mask"])
    own = special.index(0) if 0 in special else len(ids)
    after = special[::-1].index(0) if 0 in special else 0
    begin, end = ids[:own], ids[len(ids) - after :]
    closing = end[0] if end else tokenizer.eos_token_id
    if closing is None:
        raise SettingsError(
            "The backbone's tokenizer has no token that ends a text, which `method.name` density needs."
        )
    return begin, end, int(closing)


def prefix_tokens(
    settings: DensitySettings, label_names: Sequence[str], sets: bool, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """What stands before a text for each condition, in tokens.

    Raises `SettingsError` where nothing tells two of them apart.
    """
    begin, _, _ = around_texts(tokenizer)
    texts = words_before(settings, label_names, sets)
    prefixes = [[*begin, *_tokens(text, tokenizer)] for text in texts]
    if not settings.soft_tokens:
        names = [*label_names, *(f"not {name}" for name in label_names)]
        seen: dict[tuple[int, ...], int] = {}
        for number, prefix in enumerate(prefixes):
            if not prefix:
                raise SettingsError(
                    f"What stands before texts of {names[number]!r} is no token, and there are no soft "
                    "tokens."
                )
            twin = seen.setdefault(tuple(prefix), number)
            if twin != number:
                raise SettingsError(
                    f"{names[twin]!r} and {names[number]!r} have the same words before a text (as the "
                    "tokenizer reads them), so nothing tells them apart; see `method.density.descriptions`."
                )
    return prefixes


def soft_token_starts(
    settings: DensitySettings, label_names: Sequence[str], sets: bool, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """The tokens whose embeddings the soft tokens begin as: those of the description, over and over."""
    names = descriptions(settings, label_names)
    texts = [*names, *(f"not {name}" for name in names)] if sets else names
    starts = []
    for text in texts:
        tokens = _tokens(text, tokenizer) or [int(tokenizer.pad_token_id or 0)]
        starts.append([tokens[place % len(tokens)] for place in range(settings.soft_tokens)])
    return starts


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def log_prior(
    settings: DensitySettings, label_names: Sequence[str], sets: bool, labels: Sequence[object]
) -> list[float]:
    """log P(y) of each condition, from the labels of the training part or as given.

    Frequencies have one record added to each label; of sets, to its presence and its absence.
    """
    count = len(label_names)
    given = settings.prior
    if isinstance(given, dict):
        check_names("method.density.prior", given, label_names)
        shares = np.array([given[name] for name in label_names])
        if not sets and abs(shares.sum() - 1.0) > _TOLERANCE:
            raise SettingsError(f"`method.density.prior` adds up to {shares.sum():.4g} instead of 1.")
        shares = shares if sets else shares / shares.sum()
    elif given == "uniform":
        shares = np.full(count, 0.5 if sets else 1.0 / count)
    elif sets:
        shares = (np.sum(np.asarray(labels), axis=0) + 1.0) / (len(labels) + 2.0)
    else:
        found = np.bincount(np.asarray(labels, dtype=np.int64), minlength=count)
        shares = (found + 1.0) / (len(labels) + count)
    return [math.log(share) for share in ([*shares, *(1.0 - shares)] if sets else shares)]

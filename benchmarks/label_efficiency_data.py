"""The data sets on which label efficiency is measured, and how each speaks of its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from benchmarks import public_sets


@dataclass(frozen=True)
class DataSet:
    """Texts and labels for training and for the test, and what the labels are called before a text.

    `max_length` is in tokens: of Chinese, the backbone's vocabulary spells most characters in two or three
    bytes.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    max_length: int
    template: str
    descriptions: Mapping[str, str]
    #: What prompts ask, as a file of `templates/`.
    prompt: str


def sst2() -> DataSet:
    parts = public_sets.sst2(public_sets.FOLDER)
    return DataSet(
        parts["train"],
        parts["test"],
        48,
        "Film review\nRating: {label}\nText: ",
        {"negative": "1 of 5 stars, terrible", "positive": "5 of 5 stars, great"},
        "sentiment",
    )


def phrasebank() -> DataSet:
    table = public_sets.phrasebank(public_sets.FOLDER).sample(frac=1.0, random_state=0).reset_index(drop=True)
    return DataSet(
        table.iloc[1000:],
        table.iloc[:1000],
        64,
        "Financial news for investors: {label}.\n",
        {"negative": "bad news, a loss", "neutral": "a plain fact", "positive": "good news, a gain"},
        "financial-sentiment",
    )


def eprstmt() -> DataSet:
    parts = public_sets.eprstmt(public_sets.FOLDER)
    train = pd.concat([parts["train"], parts["validation"]], ignore_index=True).drop_duplicates("text")
    return DataSet(
        train,
        parts["test"],
        128,
        "商品评价（{label}）：",
        {"negative": "差评，很失望", "positive": "好评，很满意"},
        "shop-reviews-chinese",
    )


SETS: dict[str, Callable[[], DataSet]] = {"sst2": sst2, "phrasebank": phrasebank, "eprstmt": eprstmt}

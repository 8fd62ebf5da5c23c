"""Public data sets as tables of `text` and `label`, for the benchmarks of few labels and of prompts.

Each is a folder of its name (`sst2`, `phrasebank`, `eprstmt`) in the folder that the environment variable
`CATENA_DATA` names, by default `data/raw`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

FOLDER = Path(os.environ.get("CATENA_DATA", Path(__file__).resolve().parent.parent / "data" / "raw"))


def sst2(folder: Path) -> dict[str, pd.DataFrame]:
    """SST-2 in its published parts: `train`, `validation` and `test`."""
    parts = {}
    for part, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        lines = (folder / "sst2" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        rows = [line.rpartition("\t")[::2] for line in lines if line.strip()]
        parts[part] = pd.DataFrame(
            {"text": [text for text, _ in rows], "label": [("negative", "positive")[int(n)] for _, n in rows]}
        )
    return parts


def phrasebank(folder: Path) -> pd.DataFrame:
    """Financial PhraseBank (at least 75% of the annotators agree), each sentence once; it has no parts.

    Lines are `sentence@label` in ISO-8859-1, and `@` also occurs inside sentences.
    """
    text = (folder / "phrasebank" / "Sentences_75Agree.txt").read_text(encoding="iso-8859-1")
    rows = [line.rpartition("@")[::2] for line in text.splitlines() if line.strip()]
    return pd.DataFrame(rows, columns=["text", "label"]).drop_duplicates("text", ignore_index=True)


def eprstmt(folder: Path) -> dict[str, pd.DataFrame]:
    """EPRSTMT, Chinese reviews of goods: all published `train` and `validation` records, and `test`."""
    names = {"Negative": "negative", "Positive": "positive"}
    parts = {}
    for part, pattern in (("train", "train*.json*"), ("validation", "dev*.json*"), ("test", "test*.json*")):
        lines = [
            line
            for file in sorted((folder / "eprstmt").glob(pattern))
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        table = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        label = table["label"].astype(str).map(lambda one: names.get(one, one.lower()))
        parts[part] = pd.DataFrame({"text": table["sentence"], "label": label}).drop_duplicates("text")
    return parts

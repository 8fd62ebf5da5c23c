"""The data quality report: what was found in the records and what was done about it.

`reports/data_quality.json` holds, the same for the same data and settings, floats rounded to 4 digits:

- `format`: 1. `data`: name of the data set; `version`: MD5 in `data/raw/<name>.dvc`, or null.
- `files`: one entry a file: `name`, `part` ("train", "validation", "test", "unlabelled"), `format`,
  `encoding` (null for binary formats), `bytes`, `sha256`, `rows`, `accepted`, `rejected`; of files in
  `data.labelled` also `passed_over`, the rows whose label is still empty.
- `classes`: class names in head order.
- `parts`: by "train", "validation", "test": `records` (with augmented ones), `augmented`,
  `classes` {name: count}, `shares` {name: share}, `characters` and `words` (each `min`, `p5`, `p25`,
  `p50`, `p75`, `p95`, `p99`, `max`, `mean`; in scripts without spaces each character is a word; empty
  where inputs are no texts),
  `imbalance_ratio` (largest class ÷ smallest class), `targets` (what the problem says about them,
  [[name, figure]]; empty where their classes say enough).
- `rejected`: `total`, `share` of all rows, `by_reason` {kind: count}, `by_file` {file: {kind: count}},
  `examples`: [{source, row, reason, text}], up to 3 for each kind.
- `duplicates`: `files` {name: `found`, `examples` [{text, label, kept: {source, row},
  repeated: {source, row}}]}; `across_parts`: number of records whose text another part keeps.
- `contradictions`: `files` {name: `texts`, `records`, `examples` [{text, records: [{source, row, label}]}]}.
- `near_duplicates`: `policy`, `threshold`, `pairs`, `between` {"train → test": count, …}, `examples`
  [{similarity, kept: {source, row, part, text}, other: {…}}], most similar below 1 first.
- `imbalance`: of the training part: `largest` and `smallest` {class, records}, `ratio`, `evenness`
  (entropy of the class shares ÷ its maximum; 1 is perfectly even).
- `augmentation`: null when off, else `copies`, `unchanged_copies_left_out`, `changes` {operation: count},
  `examples` [{before, after, changes}].
- `unlabelled`: null without `data.unlabelled`, else `name`, `records`, `left_out` {reason: count},
  `near_duplicates` of test and validation records, `with_label` (rows that have one).
- `warnings`: sentences a person should read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from catena.data.near_duplicates import NearDuplicates
from catena.data.scripts import word_counts

_PERCENTILES = (5, 25, 50, 75, 95, 99)
_EXAMPLES = 3
_SHOWN = 200
#: A training part this uneven deserves a word.
_UNEVEN = 20.0


def lengths(values: pd.Series) -> dict[str, float]:
    """Minimum, percentiles, maximum and mean of a column of lengths."""
    if values.empty:
        return {}
    numbers = values.to_numpy(dtype=np.float64)
    points = np.percentile(numbers, _PERCENTILES)
    return {
        "min": int(numbers.min()),
        **{f"p{p}": round(float(point), 1) for p, point in zip(_PERCENTILES, points, strict=True)},
        "max": int(numbers.max()),
        "mean": round(float(numbers.mean()), 1),
    }


def part_report(
    records: pd.DataFrame, text: pd.Series | None, members: pd.Series | None, classes: Sequence[str]
) -> dict[str, Any]:
    """Counts, shares and lengths of one part.

    `text` is none where inputs are not read as texts. `members` are the
    records' classes, several rows for a record of several; none without classes.
    """
    found = pd.Series(dtype="str") if members is None else members
    counts = found.value_counts().reindex(list(classes), fill_value=0)
    smallest = int(counts.min()) if len(counts) else 0
    return {
        "records": len(records),
        "augmented": int(records["augmented"].sum()),
        "classes": {str(name): int(count) for name, count in counts.items()},
        "shares": {str(name): round(count / max(len(records), 1), 4) for name, count in counts.items()},
        "characters": {} if text is None else lengths(text.str.len()),
        "words": {} if text is None else lengths(word_counts(text)),
        "imbalance_ratio": round(int(counts.max()) / smallest, 4) if smallest else None,
    }


def rejected_report(rejected: pd.DataFrame, rows: int) -> dict[str, Any]:
    """Rejected rows by reason and file, with examples."""
    kinds = rejected["kind"].value_counts().sort_index()
    by_file: dict[str, dict[str, int]] = {}
    pairs = Counter(zip(rejected["source"], rejected["kind"], strict=True))
    for (source, kind), count in sorted(pairs.items()):
        by_file.setdefault(source, {})[kind] = count
    examples = rejected.groupby("kind", sort=True).head(_EXAMPLES)
    return {
        "total": len(rejected),
        "share": round(len(rejected) / max(rows, 1), 4),
        "by_reason": {str(kind): int(count) for kind, count in kinds.items()},
        "by_file": by_file,
        "examples": [
            {"source": str(source), "row": int(row), "reason": str(reason), "text": str(text)[:_SHOWN]}
            for source, row, reason, text in zip(
                examples["source"], examples["row"], examples["reason"], examples["text"], strict=True
            )
        ],
    }


def near_duplicate_examples(
    found: NearDuplicates,
    lower: pd.DataFrame,
    higher: pd.DataFrame,
    text: str,
    show: Callable[[Sequence[str]], list[str]] = list,
) -> list[dict[str, Any]]:
    """The most similar pairs that are not the same letter by letter, then those that are."""
    order = np.lexsort((found.lower, -found.similarity, found.similarity >= 1.0))[:_EXAMPLES]

    def side(records: pd.DataFrame, at: int) -> dict[str, Any]:
        record = records.iloc[at]
        return {
            "source": str(record["source"]),
            "row": int(record["row"]),
            "part": str(record["part"]),
            "text": show([str(record[text])])[0][:_SHOWN],
        }

    return [
        {
            "similarity": round(float(found.similarity[at]), 4),
            "kept": side(higher, int(found.higher[at])),
            "other": side(lower, int(found.lower[at])),
        }
        for at in order
    ]


def imbalance(counts: dict[str, int]) -> dict[str, Any]:
    """How uneven the classes of the training part are."""
    smallest, largest = min(counts, key=lambda c: (counts[c], c)), max(counts, key=lambda c: (counts[c], c))
    shares = np.array([count for count in counts.values() if count], dtype=np.float64)
    shares /= shares.sum()
    evenness = float(-(shares * np.log(shares)).sum() / np.log(len(shares))) if len(shares) > 1 else 0.0
    return {
        "largest": {"class": largest, "records": counts[largest]},
        "smallest": {"class": smallest, "records": counts[smallest]},
        "ratio": round(counts[largest] / max(counts[smallest], 1), 4),
        "evenness": round(evenness, 4),
    }


def warnings_about(parts: dict[str, Any], uneven: dict[str, Any] | None, classes: Sequence[str]) -> list[str]:
    """What a person should know before trusting the figures."""
    found = []
    if uneven is not None and uneven["ratio"] > _UNEVEN:
        largest, smallest = uneven["largest"], uneven["smallest"]
        found.append(
            f"the classes are uneven: {largest['class']!r} has {largest['records']} training records, "
            f"{smallest['class']!r} {smallest['records']}; read macro F1 beside accuracy, and consider "
            "`training.class_weights`"
        )
    for part in ("validation", "test"):
        if 0 < parts[part]["records"] < 100:
            found.append(
                f"the {part} part has only {parts[part]['records']} records, so its figures are rough"
            )
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault("".join(filter(str.isalnum, name.casefold())), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            found.append(
                f"the classes {', '.join(map(repr, names))} differ only in case or punctuation; "
                "if they are one, give them one name in `data.labels`"
            )
    return found

"""Guesses about a file nobody has described: delimiter, header, and which columns hold text and label."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence

import pandas as pd

_DELIMITERS = (",", "\t", ";", "|")
_TEXT_NAMES = (
    "text",
    "sentence",
    "review",
    "content",
    "body",
    "comment",
    "message",
    "document",
    "title",
    "query",
    "文本",
    "内容",
    "标题",
    "正文",
    "句子",
    "评论",
)
_LABEL_NAMES = (
    "label", "class", "category", "target", "sentiment", "intent", "topic", "stars", "rating", "score",
    "标签", "类别", "分类", "y",
)  # fmt: skip
_MAX_CLASSES = 500


def guess_delimiter(lines: Sequence[str], usual: str) -> str:
    """The delimiter that splits most lines into the same number of fields; `usual` if it does at all."""
    best, best_score = usual, 0.0
    for delimiter in (usual, *(other for other in _DELIMITERS if other != usual)):
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        score = count / sum(widths.values()) if width > 1 else 0.0
        if score > best_score + (0.1 if best == usual and best_score else 0.0):
            best, best_score = delimiter, score
    return best


def guess_quoting(lines: Sequence[str], delimiter: str) -> bool:
    """Whether double quotes enclose fields: every field that begins with one also ends with one."""
    opened = [field for line in lines for field in line.split(delimiter) if field.startswith('"')]
    return bool(opened) and all(len(field) > 1 and field.rstrip().endswith('"') for field in opened)


def guess_header(rows: Sequence[Sequence[str]], named: Sequence[str]) -> bool:
    """Whether the first row names the columns.

    It does when it holds the names the user gave, or when it looks like names (short, distinct, no
    numbers) and none of its values comes again below as a class would.
    """
    if not rows:
        return False
    first = [field.strip() for field in rows[0]]
    if named and all(name in first for name in named):
        return True
    filled = [field for field in first if field]
    if len(set(filled)) != len(filled) or not filled:
        return False
    if any(len(field) > 40 or field.replace(".", "", 1).lstrip("-").isdigit() for field in filled):
        return False
    below = [row for row in rows[1:] if len(row) == len(first)]
    return not any(any(row[at].strip() == name for row in below) for at, name in enumerate(first) if name)


def guess_text(sample: pd.DataFrame, exclude: str | None) -> str | None:
    """The column most like running text: long, varied values, or a name that says so."""
    scores = {}
    for name in sample.columns:
        values = sample[name].dropna()
        if name == exclude or values.empty:
            continue
        variety = values.nunique() / len(values)
        length = float(values.str.len().mean())
        named = 3.0 if str(name).lower() in _TEXT_NAMES else 1.0
        if variety > 0.1 or length > 20:
            scores[str(name)] = length * variety * named
    return max(scores, key=lambda name: scores[name]) if scores else None


def guess_label(sample: pd.DataFrame, exclude: str | None) -> str | None:
    """The column most like classes: few, short, often repeated values, or a name that says so."""
    scores = {}
    for name in sample.columns:
        values = sample[name].dropna()
        distinct = values.nunique()
        if name == exclude or values.empty or distinct > min(_MAX_CLASSES, max(len(values) // 2, 2)):
            continue
        if values.str.len().mean() > 60:
            continue
        named = 100.0 if any(part in str(name).lower() for part in _LABEL_NAMES[:-1]) else 1.0
        named = 100.0 if str(name).lower() == _LABEL_NAMES[-1] else named
        scores[str(name)] = named * (1.0 if distinct > 1 else 0.01) * len(values) / max(distinct, 2)
    return max(scores, key=lambda name: scores[name]) if scores else None

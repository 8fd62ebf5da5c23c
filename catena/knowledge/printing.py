"""What `catena ask` and `catena knowledge` print."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catena.data.scripts import shortened
from catena.knowledge.asking import READ, Reply
from catena.knowledge.checking import Level
from catena.knowledge.index import Hit

_SHOWN = 240


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=120)


def print_replies(replies: Sequence[Reply], as_json: bool) -> None:
    """Each question's answer, how sure it is, and where it is from."""
    if as_json:
        for reply in replies:
            print(json.dumps(_as_dict(reply), ensure_ascii=False))
        return
    console = _console()
    for number, reply in enumerate(replies):
        if len(replies) > 1:
            console.print(f"{chr(10) if number else ''}[bold]{escape(reply.question)}[/bold]")
        if reply.known:
            console.print(escape(reply.answer), soft_wrap=True)
            print(f"Confidence {reply.confidence:.2f}. Sources:")
        else:
            print(f"I do not know (confidence {reply.confidence:.2f}). The nearest sources:")
        table = Table("source", "heading or question", "passage", "match")
        for place, hit in enumerate(reply.sources):
            span = (reply.start, reply.end) if place == 0 and reply.known and reply.kind == READ else (0, 0)
            name = f"{hit.passage.source}, {hit.passage.row}"
            about = hit.passage.question or hit.passage.heading
            table.add_row(escape(name), escape(about), _quoted(hit, span), f"{hit.match:.2f}")
        console.print(table)


def _quoted(hit: Hit, span: tuple[int, int]) -> str:
    """The passage, or as much of it as is shown, around its answer in bold."""
    text = hit.passage.text
    start, end = span
    if start == end:
        return escape(shortened(text, _SHOWN))
    first = max(start - (_SHOWN - (end - start)) // 2, 0)
    last = max(first + _SHOWN, end)
    before, after = ("…" if first else ""), ("…" if last < len(text) else "")
    return (
        f"{before}{escape(text[first:start])}[bold]{escape(text[start:end])}[/bold]"
        f"{escape(text[end:last])}{after}"
    )


def _as_dict(reply: Reply) -> dict[str, object]:
    return {
        "question": reply.question,
        "answer": reply.answer if reply.known else None,
        "confidence": round(reply.confidence, 6),
        "kind": reply.kind,
        "best_guess": reply.answer,
        "start": reply.start,
        "end": reply.end,
        "sources": [
            {
                "source": hit.passage.source,
                "row": hit.passage.row,
                "heading": hit.passage.heading,
                "question": hit.passage.question,
                "passage": hit.passage.text,
                "match": round(hit.match, 6),
            }
            for hit in reply.sources
        ],
    }


def print_levels(found: Sequence[Level]) -> None:
    """What each threshold does to the questions of a file."""
    table = Table("least confidence", "answered", "of these right", "unanswerable refused")
    for level in found:
        shares = (
            "–" if math.isnan(one) else f"{one:.1%}" for one in (level.answered, level.right, level.refused)
        )
        table.add_row(f"{level.threshold:.2f}", *shares)
    _console().print(table)

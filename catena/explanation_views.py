"""An explanation for people: coloured words and a table in the terminal, or a page of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from catena.data.pictures import as_text
from catena.evaluation.report import AGAINST, FOR, page_environment
from catena.explanation import Explained, Explanation
from catena.explanation_pictures import heat_picture, image_patches
from catena.files import complete_file
from catena.problems.pieces import Piece

#: Rows of the table of words.
_TOP = 10


def print_explanation(explanation: Explanation, console: Console) -> None:
    """The words of the input, coloured by what they do, and those with the largest effects."""
    console.print(f"Prediction: [bold]{escape(explanation.prediction)}[/bold]")
    if not explanation.claims:
        console.print(f"It names nothing that {explanation.called[1]} could speak for.")
    several = len(explanation.inputs) > 1
    for claim in explanation.claims:
        heading = f"{claim.name}: {claim.measured} {claim.support:.3f}"
        console.print(f"\n[bold]{escape(heading)}[/bold]")
        for role, segments in _texts(explanation, claim).items():
            line = Text(f"{role}: " if several else "")
            for one in segments:
                line.append(one["text"], _style(one))
            console.print(line)
        _print_table(explanation, claim, console, several)
        if claim.beside:
            console.print(_sum(claim))
    if explanation.truncated:
        console.print("The text is longer than the model reads; what was cut off cannot count.")


def write_page(explanation: Explanation, path: Path, model: str) -> None:
    """The same as one self-contained page, whole or not at all."""
    text = (
        page_environment()
        .get_template("explanation.html.jinja")
        .render(model=model, explanation=explanation, claims=shown_claims(explanation))
    )
    with complete_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def shown_claims(explanation: Explanation) -> list[dict[str, Any]]:
    """The claims as pages show them."""
    return [
        {
            "name": claim.name,
            "measured": claim.measured,
            "support": claim.support,
            "unit": _unit(claim),
            "inputs": list(_texts(explanation, claim).items()),
            "picture": _picture(explanation, claim),
            "top": list(_top(explanation, claim)),
            "sum": _sum(claim) if claim.beside else None,
        }
        for claim in explanation.claims
    ]


def _print_table(explanation: Explanation, claim: Explained, console: Console, several: bool) -> None:
    rows = list(_top(explanation, claim))
    if not rows:
        if explanation.exact:
            console.print("No word has a share in it.")
        else:
            console.print(f"No {explanation.called[0]} changes it when it is left out.")
        return
    table = Table(explanation.called[0], *(["input"] if several else []))
    what = "its share" if explanation.exact else "lost without it"
    table.add_column(f"{what} ({_unit(claim)})", justify="right")
    for row in rows:
        role = [row["role"]] if several else []
        table.add_row(*map(escape, (row["text"], *role, f"{row['effect']:+.3f}")))
    console.print(table)


def _sum(claim: Explained) -> str:
    """Everything that makes the log-odds, in one line."""
    words = sum(effect or 0.0 for effect in claim.effects)
    parts = [("the words", words), *claim.beside]
    total = sum(value for _, value in parts)
    return ", ".join(f"{name} {value:+.3f}" for name, value in parts) + f": log-odds {total:+.3f}"


def _unit(claim: Explained) -> str:
    return "log-odds" if claim.odds else claim.measured


def _top(explanation: Explanation, claim: Explained) -> Iterator[dict[str, Any]]:
    for at in claim.largest(_TOP):
        piece = explanation.pieces[at]
        yield {"text": piece.text, "role": piece.role, "effect": claim.effects[at]}


def _picture(explanation: Explanation, claim: Explained) -> str | None:
    """The heat map of an image as a data URI."""
    if not image_patches(explanation):
        return None
    return "data:image/png;base64," + as_text(heat_picture(explanation, claim))


def _texts(explanation: Explanation, claim: Explained) -> Mapping[str, list[dict[str, Any]]]:
    """Each text as stretches with their share of the largest effect; 0 between the pieces."""
    parts: dict[str, list[dict[str, Any]]] = {}
    if image_patches(explanation):
        return parts
    for role, text in explanation.inputs.items():
        segments, at = [], 0
        for piece, effect, share in zip(explanation.pieces, claim.effects, claim.shares(), strict=True):
            if not isinstance(piece, Piece) or piece.role != role:
                continue
            segments.append({"text": text[at : piece.start], "share": 0.0, "effect": 0.0, "own": False})
            segments.append({"text": piece.text, "share": share, "effect": effect, "own": effect is None})
            at = piece.end
        segments.append({"text": text[at:], "share": 0.0, "effect": 0.0, "own": False})
        parts[role] = [one for one in segments if one["text"]]
    return parts


def _style(segment: Mapping[str, Any]) -> str:
    if segment["own"]:
        return "bold underline"
    share = segment["share"]
    if abs(share) < 0.1:  # fainter than an eye can tell
        return ""
    # Mixed with white, so that black letters stay readable on any background.
    mixed = (round(255 + (one - 255) * 0.6 * abs(share)) for one in (FOR if share > 0 else AGAINST))
    return f"black on rgb({','.join(map(str, mixed))})" + (" italic" if share < 0 else "")

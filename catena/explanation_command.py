"""The command `catena explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from catena.errors import SettingsError
from catena.model_choice import chosen_folder


def explain(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to explain.")] = None,
    assigned: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ROLE=TEXT", help="One input of a model that reads several."),
    ] = None,
    about: Annotated[
        str | None,
        typer.Option("--class", help="Explain what speaks for this class instead of what is predicted."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="`shares`: what each word adds to the score, where the model knows (then the default); "
            "`tokens`: the same of each token; `occlusion`: each word left out in turn."
        ),
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write a page for one text or image.")] = None,
    picture: Annotated[Path | None, typer.Option("--png", help="Draw the heat map of one image.")] = None,
    most: Annotated[
        int, typer.Option(min=8, max=10_000, help="Most predictions; longer texts are divided into as many.")
    ] = 256,
    tail: Annotated[str | None, typer.Option(help="Of a chain, the tail to explain.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
) -> None:
    """Which words, or patches of an image, carry a prediction: what each adds, or what is lost without it."""
    if not (texts or assigned):
        raise SettingsError("Give a text, or `--set role=text` for each input of a model that reads several.")
    if (page or picture) and len(texts or [""]) > 1:
        raise SettingsError("`--html` and `--png` show one record; explain the others by themselves.")
    from catena.explanation import explain as ask
    from catena.explanation_pictures import write_picture
    from catena.explanation_views import print_explanation, write_page
    from catena.inputs import given_records
    from catena.predictor import Predictor
    from catena.terminal import console
    from catena.token_shares import explain_by_shares, has_shares

    if by not in (None, "shares", "tokens", "occlusion"):
        raise SettingsError(f"`--by` {by} is not one of shares, tokens, occlusion.")
    folder = chosen_folder(model)
    # In full precision: effects of single words are small.
    predictor = Predictor.load(folder, precision="float32", tail=tail)
    for record in given_records(texts or [], assigned or [], predictor.problem.input_roles):
        record = {role: predictor.problem.read_argument(text) for role, text in record.items()}
        if by == "occlusion" or (by is None and not has_shares(predictor)):
            explanation = ask(predictor, record, about=about, most_predictions=most)
        else:
            explanation = explain_by_shares(predictor, record, about, by_token=by == "tokens")
        if as_json:
            print(json.dumps(explanation.as_dict(), ensure_ascii=False))
        else:
            print_explanation(explanation, console())
        if page is not None:
            write_page(explanation, page, str(predictor.card.get("name") or folder.name))
            print(f"The page is in {page}", file=sys.stderr)
        if picture is not None:
            write_picture(explanation, picture)
            print(f"The picture is in {picture}", file=sys.stderr)

"""The command `catena label-next`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from catena.errors import SettingsError


class StrategyName(StrEnum):
    """How records are chosen."""

    entropy = "entropy"
    margin = "margin"
    least_confidence = "least_confidence"
    diversity = "diversity"
    mixed = "mixed"


def label_next(
    source: Annotated[
        Path,
        typer.Option("--input", help="File of records without labels, in any format `catena init` reads."),
    ],
    output: Annotated[
        Path, typer.Option(help="File for the chosen records, with an empty label: .csv, .jsonl or .parquet.")
    ],
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many records to choose.")] = 100,
    strategy: Annotated[
        StrategyName,
        typer.Option(
            help="entropy, margin, least_confidence: the least sure; diversity: the least like what is "
            "known; mixed: both at once."
        ),
    ] = StrategyName.margin,
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
    tail: Annotated[str | None, typer.Option(help="Of a chain, the tail that is to learn.")] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of records that are labelled already (repeatable), besides those that the project has "
            "prepared."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Input column; by default the one trained on.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Input column to copy along (repeatable).")] = None,
    most: Annotated[
        int,
        typer.Option(
            "--most",
            min=10,
            max=1_000_000,
            help="diversity, mixed: records compared; drawn from larger files.",
        ),
    ] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="mixed: what is drawn.")] = 0,
    encoding: Annotated[str, typer.Option(help="Character encoding of the input.")] = "utf-8",
    delimiter: Annotated[str | None, typer.Option(help="Column separator of the input.")] = None,
    written: Annotated[
        str, typer.Option("--format", help="How the input is written, as in `data.format`.")
    ] = "auto",
) -> None:
    """Choose the records without labels that are most useful to label next."""
    from catena.bulk import check_target, estimated_records
    from catena.data.text_stream import check_present
    from catena.labelling.known import Known
    from catena.labelling.selection import check_strategy
    from catena.labelling.selection import label_next as choose
    from catena.model_choice import chosen_folder
    from catena.predictor import Predictor
    from catena.settings import parse_settings
    from catena.terminal import record_progress

    check_target(output, source, *(known or []))
    for path in (source, *(known or [])):
        if not path.is_dir():
            check_present(path)
    predictor = Predictor.load(chosen_folder(model), tail=tail)
    check_strategy(predictor, strategy.value)
    columns = dict(predictor.card["columns"])
    columns |= predictor.problem.asked_columns(columns)
    columns |= {predictor.problem.input_roles[0]: text} if text else {}
    reading = {"columns": columns, "encoding": encoding, "delimiter": delimiter, "format": written}
    settings = parse_settings({"data": reading}, "options").data
    plain = parse_settings({"data": {"columns": columns}}, "options").data
    there = Known.gather(predictor, _prepared(tail), known or [], plain)
    with record_progress(f"reading {source.name}", estimated_records(source, settings)) as advance:
        chosen = choose(
            predictor,
            source,
            output,
            settings,
            there,
            count=count,
            strategy=strategy.value,
            keep=keep or [],
            most=most,
            seed=seed,
            on_progress=advance,
        )
    print(f"{chosen.chosen:,} of {chosen.read:,} records are in {output}, the most useful first.")
    if chosen.known:
        print(f"{chosen.known:,} are known already.")
    if chosen.skipped:
        print(f"{chosen.skipped:,} cannot be used.")
    if chosen.chosen < count:
        print(
            f"catena: {count:,} were asked for; the file has no more that are new and not nearly the same as "
            "others.",
            file=sys.stderr,
        )
    print("Fill in the labels, put the file beside the training file and name it in `data.labelled`.")


def _prepared(tail: str | None) -> Path | None:
    """The prepared parts of the project at hand, if there is one; of a chain, those of the `tail`."""
    from catena.layout import Layout

    try:
        folder = Layout.find().prepared
    except SettingsError:
        return None
    return folder / tail if tail else folder

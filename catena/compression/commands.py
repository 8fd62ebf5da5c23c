"""The commands `catena compress` and `catena export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from catena.errors import SettingsError

if TYPE_CHECKING:
    from catena.compression.folder import Compressed, Figures

_Model = Annotated[
    str | None,
    typer.Option(help="models:/NAME@champion, models:/NAME/3, a version number or a model folder; by default "
                 "the champion."),
]  # fmt: skip
_Records = Annotated[
    Path | None,
    typer.Option(
        help="Prepared records to measure on (Parquet); by default the project's validation part, if there "
        "is one."
    ),
]


def compress(
    output: Annotated[Path, typer.Option(help="Folder for the smaller model.")],
    model: _Model = None,
    quantize: Annotated[Literal["none", "int8"], typer.Option(help="Weights in eight bits.")] = "none",
    prune_heads: Annotated[
        float, typer.Option(help="Share of the attention heads to cut out, the least important first.")
    ] = 0.0,
    prune_layers: Annotated[int, typer.Option(help="How many layers to cut out.")] = 0,
    head_importance: Annotated[
        Literal["sensitivity", "magnitude"], typer.Option(help="How a head's importance is found.")
    ] = "sensitivity",
    choose_layers: Annotated[
        Literal["measured", "magnitude", "top", "alternate"], typer.Option(help="Which layers go.")
    ] = "measured",
    records: _Records = None,
) -> None:
    """Make a finished model smaller and faster, without training it again."""
    from pydantic import ValidationError

    from catena.compression.folder import compress_folder
    from catena.model_choice import chosen_folder
    from catena.settings import CompressionSettings

    try:
        settings = CompressionSettings(
            quantize=quantize,
            prune_heads=prune_heads,
            prune_layers=prune_layers,
            head_importance=head_importance,
            choose_layers=choose_layers,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise SettingsError(f"`{option}`: {first['msg'][0].lower()}{first['msg'][1:]}.") from None
    done = compress_folder(chosen_folder(model), output, settings, records or _validation())
    _print(done, output)


def export(
    output: Annotated[Path, typer.Option(help="Folder for the exported model.")],
    model: _Model = None,
    written: Annotated[Literal["onnx"], typer.Option("--format", help="What to export to.")] = "onnx",
    quantize: Annotated[
        Literal["none", "int8"], typer.Option(help="Weights in eight bits, by the runtime's own tool.")
    ] = "none",
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest difference from PyTorch's outputs, before rounding.")
    ] = 1e-3,
    agreement: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="After rounding: least share of records predicted the same; R² of numbers.",
        ),
    ] = 0.95,
    records: _Records = None,
) -> None:
    """Write a model for another runtime, and check on real records that it says the same there."""
    from catena.compression.onnx import export_onnx
    from catena.model_choice import chosen_folder
    from catena.terminal import print_rows

    file = records or _validation()
    if file is None:
        raise SettingsError("There are no records to compare on; name prepared ones with `--records`.")
    done = export_onnx(
        chosen_folder(model),
        output,
        file,
        quantize=quantize == "int8",
        tolerance=tolerance,
        agreement=agreement,
    )
    print_rows(f"{written.upper()} in {output}", done.described())


def _validation() -> Path | None:
    """The validation part of the project at hand, if there is one."""
    from catena.layout import Layout

    try:
        file = Layout.find().prepared / "validation.parquet"
    except SettingsError:
        return None
    return file if file.is_file() else None


def _print(done: Compressed, output: Path) -> None:
    from rich.table import Table

    from catena.terminal import console

    def milliseconds(figures: Figures) -> str:
        return "" if figures.milliseconds is None else f"{figures.milliseconds:.1f} ms"

    table = Table("", "before", "after", title=f"Smaller model in {output}", title_justify="left")
    table.add_row("size", f"{done.before.bytes / 1e6:.1f} MB", f"{done.after.bytes / 1e6:.1f} MB")
    table.add_row("weights", f"{done.before.weights:,}", f"{done.after.weights:,}")
    if done.records:
        table.add_row("one record (median)", milliseconds(done.before), milliseconds(done.after))
        for name, value in done.before.scores.items():
            table.add_row(
                f"{name} ({done.records:,} records)", f"{value:.4f}", f"{done.after.scores[name]:.4f}"
            )
    screen = console()
    screen.print(table)
    for note in done.notes:
        print(f"{note[0].upper()}{note[1:]}.")

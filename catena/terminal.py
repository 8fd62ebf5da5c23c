"""What the commands print: short tables, progress bars, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from catena.bulk import BulkResult
    from catena.data.inspect import Inspection
    from catena.data.installed import Installed
    from catena.data.packages import Package
    from catena.registry import Reproduction


def console() -> Console:
    """Standard output, wide enough that a file or a pipe gets no wrapped lines."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def _rows(title: str, rows: Mapping[str, object]) -> Table:
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(escape(name), escape(str(value)))
    return table


def print_rows(title: str, rows: Mapping[str, object]) -> None:
    """A table of names and values."""
    console().print(_rows(title, rows))


def print_inspection(inspection: Inspection, params: Path, name: str) -> None:
    """What `catena init` saw and what to do next."""
    classes = ", ".join(f"{label} {count:,}" for label, count in list(inspection.classes.items())[:8])
    more = f" and {len(inspection.classes) - 8} more" if len(inspection.classes) > 8 else ""
    unit, counts = (
        ("words", inspection.words) if inspection.unspaced < 0.5 else ("characters", inspection.characters)
    )
    pictures = inspection.problem == "images"
    what = "images" if pictures else "texts"
    unit = "pixels (shorter side)" if pictures else unit
    encoding = "" if pictures else f", {inspection.data.encoding}"
    rows: dict[str, object] = {
        "format": f"{inspection.format}{encoding}",
        "columns": ", ".join(inspection.columns),
        ", ".join(inspection.data.columns): ", ".join(inspection.data.columns.values()),
        "records": f"{inspection.records:,}",
        **(
            {"numbers": ", ".join(f"{name} {value:g}" for name, value in inspection.numbers.items())}
            if inspection.numbers
            else {"classes": f"{len(inspection.classes)}: {classes}{more}"}
        ),
        unit: f"half of the {what} have up to {counts['p50']:g}, 95% up to {counts['p95']:g}",
    }
    console().print(_rows(str(inspection.path), rows))
    for note in inspection.notes:
        print(f"Note: {note}.")
    print(f"Wrote {params.name} and data/raw/{name}/. Next:")
    for command in (f"dvc add data/raw/{name}", "catena fetch", "python flows/finetune.py"):
        print(f"  {command}")


def print_packages(packages: Mapping[str, Package | Installed]) -> None:
    """The pinned packages of `catena fetch`."""
    table = Table("source", "kind", "package", "what it holds", title_justify="left")
    for key, package in packages.items():
        table.add_row(f"package:{key}", package.kind, package.requirement, package.about)
    console().print(table)


def print_nearest(found: Sequence[tuple[str, float]], as_json: bool) -> None:
    """Items and their cosines, the nearest first."""
    if as_json:
        for item, cosine in found:
            print(json.dumps({"item": item, "cosine": round(cosine, 6)}, ensure_ascii=False))
        return
    table = Table("item", "cosine")
    for item, cosine in found:
        table.add_row(escape(item), f"{cosine:.3f}")
    console().print(table)


def print_predictions(
    records: pd.DataFrame | Sequence[str], predictions: pd.DataFrame, as_json: bool
) -> None:
    """Predictions of records from the command line, of which texts may be all there is."""
    import pandas as pd

    from catena.data.scripts import shortened

    if not isinstance(records, pd.DataFrame):
        records = pd.DataFrame({"text": list(records)})
    inputs = {str(role): records[role].tolist() for role in records}
    rows = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
    if as_json:
        for given, record in zip(rows, predictions.to_dict("records"), strict=True):
            line = {**given, **{str(key): value for key, value in record.items()}}
            print(json.dumps(line, ensure_ascii=False))
        return
    tails = list(dict.fromkeys(str(column).partition(".")[0] for column in predictions))
    if "prediction" not in predictions:  # a chain's, one table for each tail
        for tail in tails:
            own = predictions[[name for name in predictions if str(name).startswith(f"{tail}.")]].rename(
                columns=lambda name: str(name).partition(".")[2]
            )
            console().print(f"[bold]{tail}[/bold]")
            print_predictions(records, own, as_json)
        return
    if "spans" in predictions:
        _print_entities(inputs["text"], predictions)
        return
    chances = [str(column) for column in predictions.columns if str(column).startswith("p:")]
    # Where one class is said, the second is of interest; where several may be, the first few are.
    one_class = predictions["prediction"].map(lambda said: f"p:{said}" in chances).all()
    shown = slice(1, 2) if one_class else slice(0, 3)
    sure = "confidence" in predictions
    table = Table(*inputs, "prediction", *(["confidence"] if sure else []))
    if chances:
        table.add_column("next best" if one_class else "most likely")
    for given, row in zip(rows, predictions.to_dict("records"), strict=True):
        ranked = sorted(chances, key=lambda column: -float(row[column]))
        others = ", ".join(f"{column[2:]} {row[column]:.3f}" for column in ranked[shown])
        confidence = [f"{row['confidence']:.3f}"] if sure else []
        texts = [shortened(text, 60 if len(inputs) == 1 else 40) for text in given.values()]
        cells = [*texts, str(row["prediction"]), *confidence, *([others] if chances else [])]
        table.add_row(*map(escape, cells))
    console().print(table)


def _print_entities(texts: Sequence[str], predictions: pd.DataFrame) -> None:
    """One line for each entity, beside the text it is in."""
    from catena.data.scripts import shortened

    table = Table("text", "entity", "label", "characters", "score")
    for text, spans in zip(texts, predictions["spans"], strict=True):
        shown = shortened(text, 60)
        for one in json.loads(spans) or [None]:
            if one is None:
                table.add_row(escape(shown), "none", "", "", "")
            else:
                where = f"{one['start']}–{one['end']}"
                table.add_row(
                    escape(shown), escape(one["text"]), escape(one["label"]), where, f"{one['score']:.3f}"
                )
            shown = ""
    console().print(table)


@contextmanager
def record_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error for the block; yields what advances it by some records."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=total)
        done = 0

        def advance(records: int) -> None:
            nonlocal done
            done += records
            progress.update(bar, completed=done)

        yield advance
        progress.update(bar, total=done)


def print_bulk_result(result: BulkResult, target: Path) -> None:
    """How a file's prediction ended."""
    print(f"{result.predicted:,} predictions in {target}")
    if result.skipped:
        print(f"{result.skipped:,} records skipped; {result.first_reason}")


def print_lineage(document: Mapping[str, Any], as_json: bool) -> None:
    """Where a registered version comes from."""
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    git = document["git"]
    state = " with uncommitted changes, which are kept with it" if git["dirty"] else ""
    rows: dict[str, object] = {
        "aliases": ", ".join(document["aliases"]) or "none",
        "registered": document["registered"],
        "decision": f"{document['decision']}: {' '.join(document['reasons'])}",
        "git commit": f"{git['commit']}{state}",
        "weights": document["weights_sha256"],
        "run": document["run_id"],
    }
    if base := document.get("adapter_for"):
        rows["stored as"] = f"an adapter for {base['name']} ({base['source']}), whose weights are not in it"
    for role, other in (document.get("predecessors") or {}).items():
        rows[role] = f"{other['given']}, weights {other['weights_sha256'][:12]}"
    screen = console()
    screen.print(_rows(f"{document['model']} version {document['version']}", rows))
    data = {path: md5 for paths in document["data"].values() for path, md5 in paths.items()}
    screen.print(_rows("data and what was made of it (DVC's MD5)", data))
    screen.print(_rows("metrics", {name: f"{value:.4f}" for name, value in document["metrics"].items()}))
    print("All parameters and the environment: --json")


def print_reproduction(result: Reproduction) -> None:
    """How a rebuilt version compares."""
    table = Table(
        "metric", "recorded", "rebuilt", title=f"{result.uri}: {result.verdict}", title_justify="left"
    )
    for name, pair in result.metrics.items():
        table.add_row(name, *("missing" if value is None else f"{value:.6f}" for value in pair))
    same = result.weights_recorded == result.weights_rebuilt
    table.add_row(
        "weights", result.weights_recorded[:12], result.weights_rebuilt[:12] + (" (same)" if same else "")
    )
    screen = console()
    screen.print(table)
    if result.environment:
        changes = {name: f"{then} → {now}" for name, (then, now) in result.environment.items()}
        screen.print(_rows("what differs between the machine then and now", changes))
    print(f"Took {result.seconds:.0f} s" + (f"; the copy is in {result.folder}" if result.folder else ""))

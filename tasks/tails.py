"""The stages of a chain: the stage of one problem for each tail in turn, and what they come to together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catena.data.versions import check_version
from catena.errors import CatenaError
from catena.files import complete_file, complete_folder, write_json
from catena.layout import Layout, TailLayout
from catena.settings import Settings
from catena.training.chain_tails import check_tails

Stage = Callable[[Settings, Layout], Mapping[str, object]]


def prepare_tails(prepare: Stage, settings: Settings, layout: Layout) -> dict[str, object]:
    """Prepare each tail in `data/prepared/<tail>`; nothing changes unless all of them can be prepared."""
    check_tails(settings)
    folder = layout.raw(settings.data.name)
    if folder.is_dir():
        check_version(folder)
    summary: dict[str, object] = {}
    with complete_file(layout.data_quality) as partial_report, complete_folder(layout.prepared) as within:
        reports = {}
        for name, tail in tail_layouts(settings, layout, prepared_in=within).items():
            with said_of(name):
                done = prepare(settings.tail(name), tail)
            summary |= {f"{name}: {key}": value for key, value in done.items() if key != "report"}
            reports[name] = _read(tail.data_quality)
        write_json(partial_report, _joined_quality(reports))
    return {**summary, "report": layout.data_quality.relative_to(layout.root)}


def tokenize_tails(tokenize: Stage, settings: Settings, layout: Layout) -> dict[str, object]:
    """Tokenize each tail into `data/tokenized/<tail>`, all with the backbone's tokenizer."""
    summary: dict[str, object] = {}
    with complete_folder(layout.tokenized) as within:
        for name, tail in tail_layouts(settings, layout, tokenized_in=within).items():
            with said_of(name):
                done = tokenize(settings.tail(name), tail)
            summary |= {f"{name}: {key}": value for key, value in done.items()}
    return summary


def evaluate_tails(evaluate: Stage, settings: Settings, layout: Layout) -> dict[str, object]:
    """Evaluate each tail on its own test part, and join what was found."""
    from catena.evaluation.joined import join_metrics, write_joined, write_joined_report
    from catena.evaluation.plots import write_missing
    from catena.evaluation.predictions import read_predictions

    summary: dict[str, object] = {}
    with complete_folder(layout.evaluation / "plots") as within:
        tails = tail_layouts(settings, layout, evaluated_in=within)
        for name, own in tails.items():
            with said_of(name):
                done = evaluate(settings.tail(name), own)
            summary |= {f"{name}: {key}": value for key, value in done.items() if key != "report"}
        metrics = join_metrics({name: _read(own.metrics) for name, own in tails.items()})
        predictions = {name: read_predictions(own.predictions) for name, own in tails.items()}
        write_joined(layout.predictions, predictions)
        for own in tails.values():
            own.predictions.unlink()  # they are in the joined file
        write_json(layout.metrics, metrics)
        reports = {name: own.report for name, own in tails.items()}
        write_joined_report(layout.report, settings.model_name, metrics, reports)
        write_missing(within)
    return {**summary, "report": layout.report.relative_to(layout.root)}


def tail_layouts(settings: Settings, layout: Layout, **folders: Path) -> dict[str, TailLayout]:
    """Where the files of each tail lie; `folders` as in `TailLayout`."""
    data = settings.data.name
    return {name: TailLayout(layout.root, name, data, **folders) for name in settings.problem.tails or {}}


@contextmanager
def said_of(tail: str) -> Iterator[None]:
    """An error in the block says which tail it is about."""
    try:
        yield
    except CatenaError as error:
        raise type(error)(f"The tail {tail}: {error}") from None


def _joined_quality(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The reports of all tails, and their parts at the top, as `<tail> <part>`."""
    parts = {
        f"{name} {part}": found for name, report in reports.items() for part, found in report["parts"].items()
    }
    return {"parts": parts, "tails": reports}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

"""Stage `prepare`: raw records → data/prepared/ and reports/data_quality.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catena.data.cleaning import Cleaner
from catena.data.preparation import prepare as prepare_records
from catena.data.versions import check_version
from catena.files import complete_file, complete_folder, write_json
from catena.layout import Layout
from catena.problems import get_problem
from catena.settings import Settings
from tasks.stage import run_stage
from tasks.tails import prepare_tails

_ROW_GROUP = 50_000


def prepare(settings: Settings, layout: Layout) -> dict[str, object]:
    """Prepare the records that `data` names; see `catena.data.preparation` for the steps.

    Writes `train.parquet`, `validation.parquet`, `test.parquet`, `rejected.parquet`, `labels.json` and
    `cleaning.json` into `data/prepared/` (with `data.unlabelled` also `unlabelled.parquet`), and the quality
    report. Earlier results stay as they are when
    anything is wrong.
    """
    folder = layout.raw(settings.data.name)
    version = check_version(folder) if folder.is_dir() else None
    problem = get_problem(settings.problem)
    prepared = prepare_records(settings, problem, folder)
    report = {**prepared.report, "version": version}
    counts = {part: report["parts"][part]["classes"] for part in prepared.parts}
    # Both are written before either takes its name, so that a full disk changes neither.
    with complete_file(layout.data_quality) as partial_report:
        write_json(partial_report, report)
        with complete_folder(layout.prepared) as partial:
            for part, records in prepared.parts.items():
                _write(records, partial / f"{part}.parquet")
            if prepared.unlabelled is not None:
                _write(prepared.unlabelled, partial / "unlabelled.parquet")
            _write(prepared.rejected, partial / "rejected.parquet")
            write_json(partial / "labels.json", {"labels": list(prepared.classes), "counts": counts})
            cleaner = Cleaner.from_settings(settings.preparation)
            write_json(partial / "cleaning.json", cleaner.as_dict())
    rejected = report["rejected"]
    summary: dict[str, object] = {
        part: f"{report['parts'][part]['records']:,} records" for part in prepared.parts
    }
    if report["unlabelled"] is not None:
        found = report["unlabelled"]
        gone = ", ".join(f"{count:,} × {kind}" for kind, count in found["left_out"].items())
        summary["unlabelled"] = f"{found['records']:,} records" + (f"; left out: {gone}" if gone else "")
    if report["imbalance"] is not None:
        ratio = report["imbalance"]["ratio"]
        summary["classes"] = f"{len(prepared.classes)}, largest ÷ smallest {ratio:.1f}"
    if figures := report["parts"]["train"]["targets"]:
        summary["targets (training)"] = ", ".join(f"{name} {value:g}" for name, value in figures)
    reasons = sorted(rejected["by_reason"].items(), key=lambda item: -item[1])
    shown = ", ".join(f"{count:,} × {kind}" for kind, count in reasons[:4])
    summary["rejected"] = f"{rejected['total']:,} rows ({rejected['share']:.1%})" + (
        f": {shown}{' …' if len(reasons) > 4 else ''}" if shown else ""
    )
    if empty := sum(file.get("passed_over", 0) for file in report["files"]):
        summary["passed over"] = f"{empty:,} rows whose label is still empty"
    if report["augmentation"] is not None:
        summary["augmented"] = f"{report['augmentation']['copies']:,} altered copies in the training part"
    if report["generated"] is not None:
        lost = sum(report["generated"]["left_out"].values())
        summary["generated"] = (
            f"{report['generated']['records']:,} records in the training part, {lost:,} left out"
        )
    for number, warning in enumerate(report["warnings"], 1):
        summary[f"note {number}"] = warning
    summary["report"] = layout.data_quality.relative_to(layout.root)
    return summary


def _write(records: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(records, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP)


if __name__ == "__main__":
    run_stage("prepare", prepare, partial(prepare_tails, prepare))

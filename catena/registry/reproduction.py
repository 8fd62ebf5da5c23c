"""Rebuild a registered version in a clean copy of the project and compare."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catena.evaluation.joined import read_tests
from catena.layout import Layout
from catena.model_folder import read_card, weights_sha256
from catena.registry.clone import make_copy, run_stages
from catena.registry.lineage import lineage
from catena.registry.provenance import environment
from catena.registry.versions import mlflow_model

#: Largest difference of a metric that counts as the same result on another machine.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Reproduction:
    """How a rebuilt model compares with the registered one.

    `verdict` is `identical` (weights and metrics equal to the last bit), `equivalent` (no metric
    further off than `tolerance`) or `different`. `metrics` maps each to its recorded and rebuilt
    value; `environment` names what differs between the machine then and now, as (then, now).
    """

    uri: str
    verdict: str
    weights_recorded: str
    weights_rebuilt: str
    metrics: dict[str, tuple[float | None, float | None]]
    environment: dict[str, tuple[str, str]]
    tolerance: float
    seconds: float
    folder: str | None

    @property
    def reproduced(self) -> bool:
        return self.verdict != "different"

    @property
    def largest_difference(self) -> float:
        """Largest absolute difference of a metric; infinite when one is missing."""
        return max((_gap(*pair) for pair in self.metrics.values()), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reproduced": self.reproduced}


def reproduce(
    uri: str,
    layout: Layout,
    *,
    tolerance: float = TOLERANCE,
    keep: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Reproduction:
    """Rebuild `models:/NAME/3` from its recorded sources, data and parameters, and compare.

    The stages run afresh, without DVC's run cache, in a clone of the recorded commit in a
    temporary folder; with `keep` it is moved there afterwards. `report` gets each line printed.
    Raises `RegistryError` when sources or data of that time cannot be had or a stage fails.
    """
    from catena.registry.registration import headline_metrics

    started = time.monotonic()
    document = lineage(uri, layout)
    exact = f"models:/{document['model']}/{document['version']}"
    with tempfile.TemporaryDirectory(prefix="catena-reproduce-") as scratch:
        copy = make_copy(
            layout, document, mlflow_model(exact, layout), Path(scratch, "project"), exact, report
        )
        store = Path(scratch, "tracking")
        store.mkdir()
        run_stages(copy, store, report)
        rebuilt = weights_sha256(read_card(copy.candidate))
        metrics = headline_metrics(read_tests(copy.predictions))
        if keep is not None:
            shutil.move(str(Path(scratch, "project")), keep)
    compared = pair_metrics(document["metrics"], metrics)
    return Reproduction(
        uri=exact,
        verdict=verdict(document["weights_sha256"] == rebuilt, compared, tolerance),
        weights_recorded=document["weights_sha256"],
        weights_rebuilt=rebuilt,
        metrics=compared,
        environment=environment_changes(document["environment"], environment()),
        tolerance=tolerance,
        seconds=round(time.monotonic() - started, 1),
        folder=None if keep is None else str(keep),
    )


def pair_metrics(
    recorded: Mapping[str, float], rebuilt: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    """Each metric's recorded and rebuilt value; `None` where one side lacks it."""
    return {name: (recorded.get(name), rebuilt.get(name)) for name in sorted({*recorded, *rebuilt})}


def verdict(
    same_weights: bool, metrics: Mapping[str, tuple[float | None, float | None]], tolerance: float
) -> str:
    """`identical`, `equivalent` or `different`."""
    gaps = [_gap(*pair) for pair in metrics.values()]
    if same_weights and not any(gaps):
        return "identical"
    return "equivalent" if all(gap <= tolerance for gap in gaps) else "different"


def environment_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs between two environments, as name → (then, now); `(absent)` where one lacks it."""
    old, new = ({**each.get("packages", {}), **_plain(each)} for each in (then, now))
    return {
        name: (str(old.get(name, "(absent)")), str(new.get(name, "(absent)")))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    }


def _plain(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name != "packages"}


def _gap(recorded: float | None, rebuilt: float | None) -> float:
    return math.inf if recorded is None or rebuilt is None else abs(recorded - rebuilt)

"""One tracked run: metrics in batches, parameters, tags, artifacts and data sets."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from catena.errors import RegistryError
from catena.registry.store import registry_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_LONGEST_PARAMETER = 6000
_BATCH = 100
_METRICS_IN_BATCH = 900
_FLUSH_SECONDS = 5.0
_RETRY_SECONDS = 60.0


class TrackedRun:
    """A run under way. Metrics are kept and sent in batches: one write of 900 costs what one of 1 does."""

    def __init__(self, client: MlflowClient, run: Run, uri: str, resumed: bool = False) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.name: str = run.info.run_name or self.run_id
        self.uri = uri
        self._pending: list[Metric] = []
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        # A resumed training repeats the steps since its checkpoint; their points are there already.
        self._stored: dict[str, set[int]] | None = {} if resumed else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Remember metrics of a step; values that are not finite numbers are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for key, value in metrics.items():
            number = float(value)
            if math.isfinite(number) and not (step is not None and self._is_stored(key, step)):
                self._pending.append(Metric(key, number, now, step or 0))
        if time.monotonic() >= self._next_flush or len(self._pending) >= 50 * _METRICS_IN_BATCH:
            try:
                self.flush()
            except RegistryError:
                # A long training does not die of a busy database: try again later, and at the end.
                self._next_flush = time.monotonic() + _RETRY_SECONDS

    def _is_stored(self, key: str, step: int) -> bool:
        if self._stored is None:
            return False
        if key not in self._stored:
            with registry_errors(self.uri):
                history = self.client.get_metric_history(self.run_id, key)
            self._stored[key] = {metric.step for metric in history}
        return step in self._stored[key]

    def flush(self) -> None:
        """Send what is remembered. Raises `RegistryError` and keeps it when that fails."""
        while self._pending:
            batch = self._pending[:_METRICS_IN_BATCH]
            with registry_errors(self.uri):
                self.client.log_batch(self.run_id, metrics=batch)
            del self._pending[: len(batch)]
        self._next_flush = time.monotonic() + _FLUSH_SECONDS

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; a value over 6,000 characters is cut."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in params.items()]
        with registry_errors(self.uri):
            for start in range(0, len(entries), _BATCH):
                self.client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the run; a value over 5,000 characters is cut."""
        from mlflow.entities import RunTag

        entries = [RunTag(key, str(value)[:5000]) for key, value in tags.items()]
        with registry_errors(self.uri):
            for start in range(0, len(entries), _BATCH):
                self.client.log_batch(self.run_id, tags=entries[start : start + _BATCH])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's files, below `folder` of the run's artifacts."""
        with registry_errors(self.uri):
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), folder or path.name)
            else:
                self.client.log_artifact(self.run_id, str(path), folder)

    def log_text(self, text: str | bytes, file: str) -> None:
        """Upload `text` as the artifact `file` (a relative path)."""
        folder, _, name = file.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, name)
            path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
            self.log_artifact(path, folder or None)

    def log_inputs(self, inputs: list[dict[str, str]]) -> None:
        """Record the data sets read, as `catena.registry.provenance.data_inputs` describes them."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        entries = []
        for fields in inputs:
            values = {key: value for key, value in fields.items() if key != "context"}
            tag = InputTag(key=MLFLOW_DATASET_CONTEXT, value=fields["context"])
            entries.append(DatasetInput(Dataset(**values), tags=[tag]))
        if entries:
            with registry_errors(self.uri):
                self.client.log_inputs(self.run_id, entries)

    def finish(self, status: str) -> None:
        """Send what is left and close the run with `FINISHED`, `FAILED` or `KILLED`."""
        self.flush()
        with registry_errors(self.uri):
            self.client.set_terminated(self.run_id, status)

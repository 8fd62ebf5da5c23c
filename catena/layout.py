"""Where everything lies in a project's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catena.errors import SettingsError


@dataclass(frozen=True)
class Layout:
    """The files of one project; every path hangs on `root`."""

    root: Path

    @property
    def tail(self) -> str | None:
        """The tail of a chain whose files these are; nothing where the project is meant."""
        return None

    @classmethod
    def find(cls, start: Path | None = None) -> Layout:
        """The project at or above `start` (default: the current folder).

        Raises `SettingsError` where no folder on the way up holds a `params.yaml`.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "params.yaml").is_file():
                return cls(folder)
        raise SettingsError(
            f"There is no params.yaml in {start} or above it; "
            "go to a Catena project or make one with `catena init --data FILE`."
        )

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    def raw(self, name: str) -> Path:
        """Folder of the raw data set `name`, versioned by DVC as `data/raw/<name>.dvc`."""
        return self.root / "data" / "raw" / name

    def backbone(self, name: str) -> Path:
        """Folder of the pretrained weights and tokenizer of backbone `name`."""
        return self.root / "models" / "backbones" / name

    @property
    def prepared(self) -> Path:
        return self.root / "data" / "prepared"

    @property
    def tokenized(self) -> Path:
        return self.root / "data" / "tokenized"

    @property
    def candidate(self) -> Path:
        return self.root / "models" / "candidate"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def data_quality(self) -> Path:
        return self.reports / "data_quality.json"

    @property
    def training_curve(self) -> Path:
        return self.reports / "training" / "curve.csv"

    @property
    def training_values(self) -> Path:
        return self.reports / "training" / "values.csv"

    @property
    def evaluation(self) -> Path:
        return self.reports / "evaluation"

    @property
    def predictions(self) -> Path:
        return self.evaluation / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        return self.evaluation / "metrics.json"

    @property
    def report(self) -> Path:
        return self.evaluation / "report.html"

    @property
    def registry_report(self) -> Path:
        return self.reports / "registry.json"

    @property
    def private(self) -> Path:
        """`.catena`: what names a run or speeds one up, kept apart from what a run made."""
        return self.root / ".catena"

    def checkpoints(self, fingerprint: str) -> Path:
        """Checkpoints of the training with this fingerprint. Not a DVC output, because DVC
        removes a stage's outputs before running it and a killed training must resume."""
        return self.private / "checkpoints" / fingerprint

    @property
    def frozen_outputs(self) -> Path:
        """What frozen layers say of records, kept for later epochs and trainings."""
        return self.private / "cache" / "frozen"

    def run_record(self, fingerprint: str) -> Path:
        """JSON file naming the MLflow run, host and times of the training with this fingerprint."""
        return self.private / "runs" / f"{fingerprint}.json"

    def lock(self, name: str) -> Path:
        return self.private / "locks" / f"{name}.lock"


@dataclass(frozen=True)
class TailLayout(Layout):
    """The files of one tail of a chain, in folders of its own inside the project's.

    While a stage makes its folder, `prepared_in`, `tokenized_in` or `evaluated_in` stands for it: the
    project's own appears when the files of all tails are there.
    """

    name: str
    data: str
    prepared_in: Path | None = None
    tokenized_in: Path | None = None
    evaluated_in: Path | None = None

    @property
    def tail(self) -> str:
        return self.name

    def raw(self, name: str) -> Path:
        return super().raw(self.data) / name

    @property
    def prepared(self) -> Path:
        return (self.prepared_in or super().prepared) / self.name

    @property
    def data_quality(self) -> Path:
        return self.prepared.with_name(f"{self.name}.quality.json")

    @property
    def tokenized(self) -> Path:
        return (self.tokenized_in or super().tokenized) / self.name

    @property
    def evaluation(self) -> Path:
        return (self.evaluated_in or super().evaluation / "plots") / self.name

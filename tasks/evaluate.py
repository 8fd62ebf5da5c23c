"""Evaluate: the candidate on the test part → predictions, metrics, plots and the report."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from catena.errors import DataError, SettingsError
from catena.evaluation.baselines import BaselineData, baseline_predictions, chosen_baselines
from catena.evaluation.behaviour import BehaviourSuite, load_behaviour
from catena.evaluation.checklist import Checklist
from catena.evaluation.plots import write_missing
from catena.evaluation.predictions import EvaluationPlan, Predictions, read_predictions, write_predictions
from catena.evaluation.report import ReportSource
from catena.files import write_json
from catena.layout import Layout
from catena.predictor import Predictor
from catena.problems import Problem, get_problem
from catena.registry.tracking import TrackedRun, continue_run
from catena.settings import Settings
from catena.token_shares import explained_records
from tasks.stage import run_stage
from tasks.tails import evaluate_tails

#: Libraries whose versions decide what the figures are.
_LIBRARIES = ("catena", "torch", "transformers", "tokenizers", "scikit-learn", "numpy", "pandas")


def evaluate(settings: Settings, layout: Layout) -> dict[str, object]:
    """Write all of `reports/evaluation` and add it to the MLflow run that trained the model."""
    problem = get_problem(settings.problem)
    evaluation = problem.evaluation()
    columns = (*problem.input_roles, problem.target_role)
    train, test = _read(layout, "train", columns), _read(layout, "test", columns)
    baseline_names = chosen_baselines(evaluation, settings.evaluation.baselines)
    _check_slices(settings, test)
    # MLflow takes seconds to import: in a thread of its own while PyTorch computes.
    threading.Thread(target=import_module, args=("mlflow",), daemon=True).start()
    suite = _behaviour(settings, layout, problem)
    predictor = Predictor.load(layout.candidate, tail=layout.tail)
    evaluation.check_targets(test, predictor.label_names)
    checklist = None
    if suite is not None:
        source = str(settings.evaluation.behaviour)
        checklist = Checklist(
            suite, problem, predictor.label_names, test, settings.seed, settings.data.labels, source,
            (layout.root / source).parent,
        )  # fmt: skip
    predicted = _predict(predictor, test)
    data = BaselineData(
        train=train,
        test=test,
        backbone=layout.backbone(settings.backbone.name),
        max_length=predictor.tokenization.max_length,
        seed=settings.seed,
        backbone_records=settings.evaluation.backbone_records,
        columns=columns,
    )
    baselines = baseline_predictions(data, evaluation, baseline_names, layout.private / "baselines")
    plan = EvaluationPlan(
        label_names=predictor.label_names,
        fingerprint=str(predictor.card["fingerprint"]),
        problem=settings.problem.model_dump(mode="json"),
        samples=settings.evaluation.bootstrap_samples,
        confidence=settings.evaluation.confidence,
        seed=settings.seed,
        slices=settings.evaluation.slices,
        worst_errors=settings.evaluation.worst_errors,
    )
    records = pd.concat([test.drop(columns="augmented", errors="ignore"), predicted, baselines], axis=1)
    write_predictions(layout.predictions, Predictions(records, plan))
    predictions = read_predictions(layout.predictions)
    metrics = evaluation.score(predictions)
    if checklist is not None:
        metrics["behaviour"] = checklist.run(predictor.predict)
    _write_reports(settings, layout, metrics, predictor, predictions)
    with continue_run(settings, layout, plan.fingerprint) as run:
        _track(run, layout, metrics)
    return _summary(layout, metrics)


def _read(layout: Layout, part: str, columns: tuple[str, ...]) -> pd.DataFrame:
    path = layout.prepared / f"{part}.parquet"
    try:
        records = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"There is no {path}; run the prepare stage first.") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{path} is not a complete Parquet file ({reason}); run prepare again.") from None
    missing = [name for name in ("id", *columns) if name not in records]
    if missing:
        raise DataError(f"{path} has no column `{missing[0]}`; run the prepare stage again.")
    if records.empty:
        raise DataError(f"{path} holds no records, so there is nothing to evaluate on.")
    return records


def _check_slices(settings: Settings, test: pd.DataFrame) -> None:
    """Say what is wrong before the long work, not after it."""
    for column in settings.evaluation.slices:
        if column not in test:
            raise SettingsError(
                f"params.yaml: `evaluation.slices` names the column `{column}`, which the prepared records "
                "do not have; add it to `data.keep`."
            )


def _behaviour(settings: Settings, layout: Layout, problem: Problem) -> BehaviourSuite | None:
    name = settings.evaluation.behaviour
    if name is None:
        return None
    return load_behaviour(layout.root / name, problem.target_role, problem.perturbation())


def _predict(predictor: Predictor, test: pd.DataFrame) -> pd.DataFrame:
    """The candidate's predictions; the prepared texts are clean already."""
    parts = []
    step = predictor.problem.records_at_once
    for start in range(0, len(test), step):
        parts.append(predictor.predict(test.iloc[start : start + step], clean=False, score_targets=True))
        if len(test) > step:
            print(f"progress step={min(start + step, len(test))}/{len(test)}", flush=True)
    return pd.concat(parts)


def _write_reports(
    settings: Settings,
    layout: Layout,
    metrics: dict[str, Any],
    predictor: Predictor,
    predictions: Predictions,
) -> None:
    write_json(layout.metrics, metrics)
    predictions.evaluation.write_plots(layout.evaluation / "plots", predictions)
    if layout.tail is None:
        write_missing(layout.evaluation / "plots")
    curve = layout.training_curve
    right = predictions.evaluation.right(predictions.records, predictions.plan)
    source = ReportSource(
        title=settings.model_name if layout.tail is None else f"{settings.model_name}: {layout.tail}",
        predictions=predictions,
        metrics=metrics,
        data_quality=_json(layout.data_quality),
        curve=_curve(curve, layout.tail) if curve.is_file() else None,
        made_with=_made_with(settings, predictor),
        explained=explained_records(predictor, predictions.records, right),
        self_training=predictor.card.get("self_training"),
    )
    predictions.evaluation.write_report(layout.report, source)


def _curve(path: Path, tail: str | None) -> pd.DataFrame:
    """The training curve; of a chain, with the validation of one tail."""
    curve = pd.read_csv(path)
    if tail is None:
        return curve
    own, general = f"validation_{tail}.", [name for name in curve if not str(name).startswith("validation_")]
    validated = curve.filter(regex=f"^{re.escape(own)}")
    return pd.concat(
        [curve[general], validated.rename(columns=lambda name: f"validation_{name[len(own) :]}")], axis=1
    )


def _made_with(settings: Settings, predictor: Predictor) -> dict[str, dict[str, object]]:
    """Parameters and versions, and no time or host: equal work gives an equal page."""
    groups = settings.model_dump(mode="json", exclude={"registry", "gate"})
    parameters = {"seed": groups.pop("seed")}
    for group, values in groups.items():
        parameters |= {f"{group}.{name}": value for name, value in values.items() if value is not None}
    model = {
        "fingerprint": predictor.card["fingerprint"],
        **({"classes": len(predictor.label_names)} if predictor.problem.fewest_classes else {}),
        **(
            {"longest input": f"{predictor.tokenization.max_length} tokens"}
            if predictor.problem.tokenizes
            else {}
        ),
    }
    return {
        "Model": model,
        "Parameters": parameters,
        "Versions": {name: version(name) for name in _LIBRARIES},
    }


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path} is damaged; run the prepare stage again.") from None
    return value if isinstance(value, dict) else None


def _track(run: TrackedRun, layout: Layout, metrics: dict[str, Any]) -> None:
    """Scores with their intervals, the baselines' scores, report and plots into the MLflow run."""
    logged = {f"test_{name}": value for name, value in metrics.items() if isinstance(value, int | float)}
    for name, (low, high) in metrics["intervals"].items():
        logged |= {f"test_{name}_low": low, f"test_{name}_high": high}
    for baseline, scores in metrics["baselines"].items():
        logged |= {
            f"baseline_{baseline}_{name}": scores[name] for name, _ in metrics["headline"] if name in scores
        }
    if "behaviour" in metrics:
        logged["behaviour_pass_rate"] = metrics["behaviour"]["pass_rate"]
    run.log_metrics({f"{layout.tail}.{name}" if layout.tail else name: logged[name] for name in logged})
    folder = f"evaluation/{layout.tail}" if layout.tail else "evaluation"
    for path in (layout.report, layout.metrics, layout.evaluation / "plots"):
        run.log_artifact(path, f"{folder}/{path.name}" if path.is_dir() else folder)


def _summary(layout: Layout, metrics: dict[str, Any]) -> dict[str, object]:
    def line(scores: dict[str, Any]) -> str:
        bounds = scores["intervals"]
        return ", ".join(
            f"{title} {scores[name]:.4f} ({bounds[name][0]:.4f}–{bounds[name][1]:.4f})"
            for name, title in metrics["headline"]
            if name in scores
        )

    summary: dict[str, object] = {"test records": f"{metrics['records']:,}", "model": line(metrics)}
    titles = dict(metrics["baseline_titles"])
    for name, scores in metrics["baselines"].items():
        summary[titles.get(name, name)] = line(scores)
    if "behaviour" in metrics:
        behaviour = metrics["behaviour"]
        summary["behaviour"] = f"{behaviour['passed']} of {behaviour['tests']} tests passed"
    summary["report"] = layout.report.relative_to(layout.root)
    return summary


if __name__ == "__main__":
    run_stage("evaluate", evaluate, partial(evaluate_tails, evaluate))

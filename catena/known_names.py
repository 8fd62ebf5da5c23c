"""Names in the settings that the problem has to know: metrics, baselines, and whether classes have weights.

They are used late in the chain, and a training is long; so they are looked at before any work.
"""

from __future__ import annotations

from catena.errors import SettingsError
from catena.evaluation.baselines import chosen_baselines
from catena.problems import Problem, get_problem
from catena.settings import Settings, TrainingSettings

#: Columns that prepared and predicted records have beside their own.
_ADDED = frozenset({"id", "part", "source", "row", "augmented", "n_tokens", "truncated"})


def check_names(settings: Settings) -> None:
    """Raise `SettingsError` for a name that the problem, or the problem of a tail, does not know."""
    tails = settings.problem.tails or {}
    for own in [settings.tail(name) for name in tails] or [settings]:
        problem = get_problem(own.problem)
        evaluation = problem.evaluation()
        chosen_baselines(evaluation, own.evaluation.baselines)
        _check_kept(own, problem)
        for metric in filter(None, (own.gate.metric, *(own.gate.floors or {}))):
            try:
                evaluation.check_metric(metric)
            except SettingsError as error:
                raise SettingsError(f"`gate`: {error}") from None
        if not tails:
            validation_metric(own.training, problem)
            check_class_weights(own.training, problem)


def _check_kept(settings: Settings, problem: Problem) -> None:
    """Raise `SettingsError` where a column to be kept has the name of one that Catena itself adds."""
    columns = settings.data.columns
    roles = {role for role in (*problem.input_roles, problem.target_role) if columns.get(role) != role}
    taken = _ADDED | roles | {name for name, _ in problem.output_columns(())}
    for name in settings.data.keep:
        if name in taken or name.startswith("p:"):
            raise SettingsError(
                f"`data.keep` names the column {name}, and records have another of this name, which Catena "
                "adds; give it another name in the file, or leave it out."
            )


def validation_metric(settings: TrainingSettings, problem: Problem) -> str:
    """The metric that chooses the best weights. Raises `SettingsError` for one the problem has not."""
    metric = settings.metric or next(iter(problem.validation_metric_names))
    if metric not in problem.validation_metric_names:
        known = ", ".join(problem.validation_metric_names)
        raise SettingsError(f"`training.metric` {metric} is not one of {known}.")
    return metric


def check_class_weights(settings: TrainingSettings, problem: Problem) -> None:
    """Raise `SettingsError` where classes are to be weighed that the problem has not."""
    if settings.class_weights != "none" and not problem.weighs_classes:
        raise SettingsError(
            f"`training.class_weights` says nothing to the problem {problem.name}; set it to none."
        )

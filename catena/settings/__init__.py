"""`params.yaml` as typed, frozen settings."""

from catena.settings.groups import (
    AugmentationSettings,
    BackboneSettings,
    DataSettings,
    EvaluationSettings,
    GateSettings,
    Group,
    MethodSettings,
    PreparationSettings,
    ProblemSettings,
    RegistrySettings,
    Settings,
    TokenizationSettings,
    TrainingSettings,
)
from catena.settings.reading import known_parameters, load_settings, parse_settings, walk_parameters

__all__ = [
    "AugmentationSettings",
    "BackboneSettings",
    "DataSettings",
    "EvaluationSettings",
    "GateSettings",
    "Group",
    "MethodSettings",
    "PreparationSettings",
    "ProblemSettings",
    "RegistrySettings",
    "Settings",
    "TokenizationSettings",
    "TrainingSettings",
    "known_parameters",
    "load_settings",
    "parse_settings",
    "walk_parameters",
]

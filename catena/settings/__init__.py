"""`params.yaml` as typed, frozen settings."""

from catena.settings.chain import ChainSettings, ContinuedPretrainingSettings, LinkSettings
from catena.settings.compression import CompressionSettings, DistillationSettings
from catena.settings.data import AugmentationSettings, DataSettings, PreparationSettings
from catena.settings.decoding import DecodingSettings
from catena.settings.group import Group
from catena.settings.groups import (
    EvaluationSettings,
    GateSettings,
    RegistrySettings,
    Settings,
)
from catena.settings.images import ImageAugmentationSettings, ImageSettings
from catena.settings.method import MethodSettings
from catena.settings.network import BackboneSettings, TokenizationSettings
from catena.settings.problem import ProblemSettings
from catena.settings.reading import known_parameters, load_settings, parse_settings, walk_parameters
from catena.settings.self_training import SelfTrainingSettings
from catena.settings.tails import TailEvaluationSettings, TailSettings
from catena.settings.training import TrainingSettings

__all__ = [
    "AugmentationSettings",
    "BackboneSettings",
    "ChainSettings",
    "CompressionSettings",
    "ContinuedPretrainingSettings",
    "DataSettings",
    "DecodingSettings",
    "DistillationSettings",
    "EvaluationSettings",
    "GateSettings",
    "Group",
    "ImageAugmentationSettings",
    "ImageSettings",
    "LinkSettings",
    "MethodSettings",
    "PreparationSettings",
    "ProblemSettings",
    "RegistrySettings",
    "SelfTrainingSettings",
    "Settings",
    "TailEvaluationSettings",
    "TailSettings",
    "TokenizationSettings",
    "TrainingSettings",
    "known_parameters",
    "load_settings",
    "parse_settings",
    "walk_parameters",
]

"""What a method must offer. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.settings import MethodSettings


class Method(ABC):
    """How a network is adapted: made ready before training, and brought into its final form after."""

    name: ClassVar[str]

    @abstractmethod
    def prepare(self, model: PreTrainedModel, settings: MethodSettings) -> PreTrainedModel:
        """Freeze, wrap or extend `model`; what then has `requires_grad` is trained."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """The network as it is stored; by default what was trained."""
        return model

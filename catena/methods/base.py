"""What a method must offer. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from catena.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from catena.methods.shortcut import Shortcut
    from catena.settings import MethodSettings


class Head(Protocol):
    """The head that a problem needs (`problems.HeadSpec`), or that a method asks a backbone to carry."""

    @property
    def kind(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class HeadRequest:
    """A head of another kind than the problem's: what a method builds the problem's outputs from."""

    kind: str
    label_names: tuple[str, ...] = ()


class Records(Protocol):
    """The features of records, one mapping each; they may stay on disk until they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Surroundings:
    """What a method may look at: the problem's name and head, the tokenizer, and when it trains the records.

    `training` holds the features of the training part; it is `None` where a finished model is
    loaded. `backbone` is the folder of the pretrained weights, there only while training.
    """

    problem: str
    head: Head
    tokenizer: PreTrainedTokenizerBase | None = None
    training: Records | None = None
    backbone: Path | None = None
    seed: int = 0


#: Reads the network of a folder with a head of the kind asked for.
Read = Callable[[Path, Head], "PreTrainedModel"]


class Method(ABC):
    """How a network is adapted: made ready before training, trained, brought into its final form, stored.

    Whatever a method makes of a network, it is a network whose `logits` are what the problem's head would
    say, so that no problem knows of any method.
    """

    name: ClassVar[str]
    #: Kinds of heads whose problems it can solve; `None` where it can solve all.
    heads: ClassVar[frozenset[str] | None] = None
    #: Whether the network's forward pass in training is to be given the labels as well.
    reads_labels: ClassVar[bool] = False

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    @property
    def trains(self) -> bool:
        """Whether any weight moves; where none does, the network is only measured."""
        return True

    def check(self, problem: str, head: Head) -> None:
        """Raise `SettingsError` where the method cannot solve the problem that needs `head`."""
        if self.heads is not None and head.kind not in self.heads:
            raise SettingsError(
                f"`method.name` {self.name} does not fit the problem {problem}; see the table of methods and "
                "problems in the manual."
            )

    # -- before training ---------------------------------------------------------------------

    def head(self, wanted: Head) -> Head:
        """The head that the backbone is to carry for a problem that needs `wanted`."""
        return wanted

    @abstractmethod
    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        """Freeze, wrap or extend `model`; what then has `requires_grad` is trained."""

    # -- in training -------------------------------------------------------------------------

    def learning_rates(self, model: PreTrainedModel) -> Mapping[str, float]:
        """Factors on the learning rate by the names of weights; those not named have 1."""
        return {}

    def begin(self, model: PreTrainedModel, steps: int, epoch_ends: Sequence[int]) -> None:
        """Called once before the first of `steps`, or the one resumed at; an epoch ends after each of
        `epoch_ends`. Raises `SettingsError` where the method's timetable does not fit in."""
        return

    def rest(self, model: PreTrainedModel) -> None:
        """Called before each forward pass in training: what is to run as in prediction is set so here."""
        return

    @property
    def caches(self) -> bool:
        """Whether what frozen layers say of each record is kept, so that they run only once."""
        return False

    def shortcut(self, model: PreTrainedModel, probe: Mapping[str, torch.Tensor]) -> Shortcut:
        """Where forward passes begin with kept outputs; asked where the method `caches`.

        `probe` is a batch as the network is given it. Raises `SettingsError` where that cannot be done.
        """
        raise NotImplementedError

    def before_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        """Called before optimiser step `step`, counted from 0, of `steps`; also when one is resumed at."""
        return

    def after_step(self, model: PreTrainedModel, step: int, steps: int) -> None:
        """Called after optimiser step `step`, while the weights still have their gradients."""
        return

    def loss(
        self, outputs: Any, labels: torch.Tensor, of_logits: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Mean loss of a batch; by default the problem's own, which `of_logits` computes."""
        return of_logits(outputs.logits)

    # -- after training ----------------------------------------------------------------------

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """The network as it is stored; by default what was trained."""
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a finished network into `folder`; safetensors and JSON only."""
        model.save_pretrained(folder)

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        """The network that `save` wrote, ready to predict. Raises `ModelError` for one that is damaged."""
        return read(folder, self.head(around.head))

"""What a method must offer. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from catena.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
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

    @property
    def pairs(self) -> bool: ...


@dataclass(frozen=True)
class HeadRequest:
    """A head of another kind than the problem's: what a method builds the problem's outputs from."""

    kind: str
    label_names: tuple[str, ...] = ()
    pairs: bool = False


class Records(Protocol):
    """The features of records, one mapping each; they may stay on disk until they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Mapping[str, Any]: ...


#: Reads the network of a folder with a head of the kind asked for.
Read = Callable[[Path, Head], "PreTrainedModel"]


@dataclass(frozen=True)
class Surroundings:
    """What a method may look at: the problem's name and head, the tokenizer, and when it trains the records.

    `training` holds the features of the training part, of which only records that were collected: none that
    are altered copies, written by a model or pseudo-labelled. It is `None` where a finished model is
    loaded. `backbone` is the folder of the pretrained weights and `source` where they come from, there only
    while training. `build` makes the network of such a folder with a new head, where a model is loaded that
    does not hold its weights. Texts are cut at `max_length` tokens, or else where the tokenizer says.
    """

    problem: str
    head: Head
    tokenizer: PreTrainedTokenizerBase | None = None
    training: Records | None = None
    backbone: Path | None = None
    seed: int = 0
    source: str = ""
    build: Read | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class Validation:
    """What a trained network says of the validation part: `outputs` `(records, outputs)`, the `extras` that
    the method names `(records, extras)`, and the true `labels` as in the features.
    """

    outputs: np.ndarray
    extras: np.ndarray
    labels: Any


@dataclass(frozen=True)
class Shares:
    """What each token of a text adds to the log-odds of each label `(labels, tokens)`, nats.

    `beside` names what is added by no token `(labels,)`; everything together is the log-odds.
    """

    tokens: np.ndarray
    beside: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Opening:
    """What a causal language model goes on from to write a text of one label: embeddings `(1, tokens,
    hidden)`, and the token that ends the text.
    """

    network: PreTrainedModel
    embeddings: torch.Tensor
    end: int


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
    #: Numbers it says of each record beside the problem's outputs, and what they mean: further columns of
    #: predictions, from the `extras` `(batch, extras)` that the network gives with its `logits`.
    extras: ClassVar[Mapping[str, str]] = {}
    #: Whether each token's share in a prediction is known (`token_shares`).
    explains: ClassVar[bool] = False
    #: Whether new texts of a label can be written (`opening`).
    writes_inputs: ClassVar[bool] = False

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    @property
    def trains(self) -> bool:
        """Whether any weight moves; where none does, the network is only measured."""
        return True

    @property
    def whole(self) -> bool:
        """Whether what is stored is the network itself, so that it can be made smaller and trained on."""
        return type(self).load is Method.load and type(self).save is Method.save

    @property
    def stores_adapter(self) -> bool:
        """Whether what it learns can be stored apart from the backbone (`method.store` adapter)."""
        return False

    @classmethod
    def example(cls, problem: str) -> dict[str, object]:
        """What `method` must say for this problem beside its name, where the labels are one and two."""
        return {}

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

    def undecayed(self, model: PreTrainedModel) -> frozenset[str]:
        """Names of weights that are not to be drawn to zero, besides biases and norms."""
        return frozenset()

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

    def state(self) -> dict[str, torch.Tensor]:
        """What training goes on with besides the network's weights; part of every checkpoint."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` gave."""
        return

    # -- after training ----------------------------------------------------------------------

    def calibrate(self, model: PreTrainedModel, validation: Validation) -> None:
        """Called with the best weights in place where the method has `extras`, before `finish`."""
        return

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """The network as it is stored; by default what was trained."""
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a finished network into `folder`; safetensors and JSON only."""
        model.save_pretrained(folder)

    def notes(self, model: PreTrainedModel) -> dict[str, object]:
        """What the stage's closing table is to say of the method besides."""
        return {}

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        """The network that `save` wrote, ready to predict. Raises `ModelError` for one that is damaged."""
        return read(folder, self.head(around.head))

    # -- what it says beside the problem's outputs -----------------------------------------------

    def token_shares(self, model: PreTrainedModel, input_ids: Sequence[int]) -> Shares:
        """What each token of one text adds to the log-odds of each label, where the method `explains`."""
        raise NotImplementedError

    def opening(self, model: PreTrainedModel, label: int) -> Opening:
        """What the language model goes on from to write a text of a label, where it `writes_inputs`."""
        raise NotImplementedError

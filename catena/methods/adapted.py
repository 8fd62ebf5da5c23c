"""What parameter-efficient methods share: a frozen network, a trained head, and two forms of storage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from catena.errors import ModelError
from catena.methods.base import Method, Read, Surroundings
from catena.methods.base_reference import BaseReference
from catena.methods.targets import head_weights
from catena.model_folder import ADAPTER
from catena.settings import MethodSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Adapted(Method):
    """The network's own weights stay; a little that is inserted moves, together with the head.

    Everything is inserted into the network in place, so that it stays of its class. Stored is by
    `method.store`:

    - `merged`: a complete model folder. What can be is merged into the weights and leaves no trace; other
      things lie in `adapter.safetensors` beside them.
    - `adapter`: `adapter.safetensors` and the backbone's name and hashes (`adapter.json`).
    """

    #: Whether what was learned can become part of the network's weights.
    merges: ClassVar[bool] = False

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__(settings)
        self.peft = settings.peft
        self._base: BaseReference | None = None

    @property
    def whole(self) -> bool:
        return self.merges and self.settings.store == "merged"

    @property
    def stores_adapter(self) -> bool:
        return True

    @abstractmethod
    def insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        """Freeze `model` and insert what is trained, with `requires_grad`, as new or as it is `stored`.

        The values of `stored` are put in afterwards. Raises `SettingsError` where the network has no place
        for it.
        """

    def merge(self, model: PreTrainedModel) -> None:
        """Make what was inserted part of the weights. Only of methods that merge."""

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        if self.settings.store == "adapter":
            self._base = BaseReference.of(around.backbone or Path(), around.source)
        self._insert(model, around, None)
        return model

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        if self.whole:
            self._merge(model)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        from safetensors.torch import save_file

        if self._base is not None:
            model.config.save_pretrained(folder)
            self._base.write(folder)
        elif self.merges:
            super().save(model, folder)
            return
        else:
            own = {name: weight for name, weight in model.state_dict().items() if name not in self._inserted}
            model.save_pretrained(folder, state_dict=own)
        save_file(_trained(model), folder / ADAPTER)

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        from torch.random import fork_rng

        head = self.head(around.head)
        if self.whole:
            return read(folder, head)
        stored = read_adapter(folder / ADAPTER)
        if self.settings.store == "merged":
            model = read(folder, head)
        else:
            base = BaseReference.read(folder).find(folder)
            if around.build is None:
                raise ModelError(
                    f"The model in {folder} is an adapter, and nothing here builds its backbone."
                )
            with fork_rng():
                model = around.build(base, head)
        with fork_rng():
            self._insert(model, around, stored)
        _put(stored, model, folder / ADAPTER)
        if self.merges:
            self._merge(model)
        return model.eval()

    def _insert(
        self, model: PreTrainedModel, around: Surroundings, stored: Mapping[str, torch.Tensor] | None
    ) -> None:
        head = head_weights(model)
        before = set(model.state_dict())
        self.insert(model, around, stored)
        for weight in head.values():
            weight.requires_grad_(True)
        self._inserted = frozenset(model.state_dict()) - before

    def _merge(self, model: PreTrainedModel) -> None:
        try:
            self.merge(model)
        except ValueError as error:  # peft's word for weights that are no numbers
            raise ModelError(f"What {self.name} learned cannot be merged: {error}") from error


def read_adapter(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of an adapter's file. Raises `ModelError` where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; the model folder is incomplete.") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is damaged ({error}); fetch the model again.") from error


def _trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """All that training moves: weights with `requires_grad`, each once, and buffers."""
    frozen = {
        name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad
    }
    seen: set[int] = set()
    found: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in frozen or (tensor.numel() and tensor.data_ptr() in seen):
            continue
        seen.add(tensor.data_ptr())
        found[name] = tensor.detach().cpu().contiguous()
    return found


def _put(stored: Mapping[str, torch.Tensor], model: PreTrainedModel, file: Path) -> None:
    """Put what `_trained` gave into a network into which the same has been inserted."""
    wanted = _trained(model)
    if different := sorted(wanted.keys() ^ stored.keys()):
        verb = "lacks" if different[0] in wanted else "holds"
        raise ModelError(
            f"{file} {verb} {different[0]}, so it is not the adapter that this model's settings describe."
        )
    for name, tensor in stored.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{file} holds {name} of shape {tuple(tensor.shape)}, but the network needs "
                f"{tuple(wanted[name].shape)}; it is an adapter for another backbone."
            )
    model.load_state_dict(dict(stored), strict=False)

"""Complete checkpoints without pickle: tensors as safetensors, everything else as JSON."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from catena.files import complete_folder
from catena.methods import Method
from catena.training.averaging import WeightAverage

_PREFIX = "step-"
#: What a method goes on with, where it has such a thing.
_METHOD = "method.safetensors"


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`; incomplete ones never carry such a name."""
    found = sorted(folder.glob(f"{_PREFIX}*[0-9]"), key=lambda path: int(path.name[len(_PREFIX) :]))
    return found[-1] if found else None


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    scaler: Any,
    state: dict[str, Any],
    average: WeightAverage | None = None,
    method: Method | None = None,
    texts: Mapping[str, str],
    moving: Collection[str] | None = None,
) -> Path:
    """Write `step-<n>` and then remove older checkpoints.

    Holds the trained weights and their running mean, what the method goes on with, optimiser, schedule,
    loss scaler, all random states, `state` (JSON values, from which the data position follows) and `texts`
    as files of their own. `moving` as in `trained_weights`.
    """
    target = folder / f"{_PREFIX}{step}"
    with complete_folder(target) as partial:
        save_file(trained_weights(model, moving), partial / "model.safetensors")
        tensors, rest = _flatten(optimizer.state_dict())
        save_file(tensors, partial / "optimizer.safetensors")
        if average is not None:
            save_file(average.state(), partial / "average.safetensors")
        if method is not None and (own := method.state()):
            save_file({name: values.contiguous() for name, values in own.items()}, partial / _METHOD)
        randoms, random_rest = _random_states()
        save_file(randoms, partial / "random.safetensors")
        text = json.dumps(
            {
                "state": state,
                "optimizer": rest,
                "schedule": schedule.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "random": random_rest,
            }
        )
        (partial / "state.json").write_text(text, encoding="utf-8")
        for name, content in texts.items():
            (partial / name).write_text(content, encoding="utf-8")
    for older in folder.glob(f"{_PREFIX}*"):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)
    return target


def load_checkpoint(
    checkpoint: Path,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    scaler: Any,
    average: WeightAverage | None = None,
    method: Method | None = None,
) -> dict[str, Any]:
    """Put everything but the random states back in place; return the saved `state`."""
    content = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    load_weights(model, checkpoint / "model.safetensors")
    tensors = load_file(checkpoint / "optimizer.safetensors")
    optimizer.load_state_dict(_unflatten(tensors, content["optimizer"]))
    schedule.load_state_dict(content["schedule"])
    if average is not None:
        average.load(load_file(checkpoint / "average.safetensors"))
    if method is not None and (checkpoint / _METHOD).is_file():
        method.restore(load_file(checkpoint / _METHOD))
    if scaler is not None and content["scaler"] is not None:
        scaler.load_state_dict(content["scaler"])
    state: dict[str, Any] = content["state"]
    return state


def restore_random_states(checkpoint: Path) -> None:
    """Continue every random stream where the checkpoint was taken."""
    content = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["random"]
    tensors = load_file(checkpoint / "random.safetensors")
    torch.set_rng_state(tensors["torch"])
    for index in range(min(content["cuda"], torch.cuda.device_count())):
        torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)
    version, internal, gauss = content["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, position, has_gauss, cached = content["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().view(np.uint32), position, has_gauss, cached))


def moving_weights(model: torch.nn.Module) -> frozenset[str]:
    """Names of the weights that have `requires_grad`."""
    return frozenset(name for name, weight in model.named_parameters() if weight.requires_grad)


def trained_weights(model: torch.nn.Module, moving: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """The weights that training moves, and all buffers that belong to the state.

    `moving` names those weights; by default they are the ones with `requires_grad`, which does not do where
    a method changes it as training goes on. Frozen weights come from the backbone again. Tied weights are
    stored once.
    """
    moved = moving_weights(model) if moving is None else moving
    # weights that are tied have several names, of which `moved` holds the first
    frozen = {name for name, _ in model.named_parameters(remove_duplicate=False) if name not in moved}
    seen: set[int] = set()
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in frozen or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        weights[name] = tensor.detach().cpu().contiguous()
    return weights


def load_weights(model: torch.nn.Module, file: Path) -> None:
    """Put what `trained_weights` gave back into `model`."""
    model.load_state_dict(load_file(file), strict=False)


def _flatten(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors and JSON values."""
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for number, entries in state["state"].items():
        values[str(number)] = {}
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}/{key}"] = value.detach().cpu().contiguous()
            else:
                values[str(number)][key] = value
    return tensors, {"values": values, "param_groups": state["param_groups"]}


def _unflatten(tensors: dict[str, torch.Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in rest["values"].items()
    }
    for name, tensor in tensors.items():
        number, key = name.split("/", 1)
        state[int(number)][key] = tensor
    return {"state": state, "param_groups": rest["param_groups"]}


def _random_states() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.uint32).view(np.int32).copy()),
    }
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(devices):
        tensors[f"cuda.{index}"] = torch.cuda.get_rng_state(index)
    return tensors, {
        "python": random.getstate(),
        "numpy": [kind, int(position), int(has_gauss), float(cached)],
        "cuda": devices,
    }

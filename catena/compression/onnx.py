"""Export to ONNX: the network, its tokenizer and what its outputs mean, compared with PyTorch."""

from __future__ import annotations

import logging
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from catena.backbones.smaller import is_int8
from catena.compression.folder import read_labelled
from catena.compression.sample import as_rows
from catena.errors import ModelError, SettingsError
from catena.files import check_replaceable, complete_folder, write_json
from catena.methods import get_method
from catena.model_folder import read_card, weights_sha256
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import MethodSettings, ProblemSettings
from catena.training.embedding import row_lengths
from catena.training.teaching import KINDS

if TYPE_CHECKING:
    import onnxruntime

NETWORK, DESCRIPTION = "model.onnx", "export.json"
#: The operators that everything exported is written in.
OPSET = 18
#: Records that are compared, and the sizes of the batches they are compared in.
_COMPARED = 64
_SIZES = (1, 2, 7)


#: Columns of predictions that are numbers, which rounding always changes.
_NUMBERS = ("value", "score")


@dataclass(frozen=True)
class Exported:
    """How the exported network compares with the one in PyTorch."""

    bytes: int
    records: int
    difference: float
    agreement: float
    quantized: bool

    def described(self) -> dict[str, object]:
        """Names and values for a table."""
        return {
            "size": f"{self.bytes / 1e6:.1f} MB",
            "compared on": f"{self.records:,} records",
            "largest difference of an output": f"{self.difference:.2g}",
            "predicted the same": f"{self.agreement:.1%}",
        }


class _Logits(nn.Module):
    """A network of named tensors → logits, and nothing else."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def export_onnx(
    source: Path,
    target: Path,
    records: Path,
    *,
    quantize: bool = False,
    tolerance: float = 1e-3,
    agreement: float = 0.95,
) -> Exported:
    """Write `model.onnx`, `export.json` and the tokenizer's files to the folder `target`.

    Batch and length are free. The outputs for `records` (prepared ones with targets) are compared with
    PyTorch's in batches of several sizes; with `quantize` ONNX Runtime rounds the weights afterwards, and
    predictions are compared. Raises `SettingsError` for a model without logits or a target that is in use,
    `ModelError` where the network cannot be exported or says something else than before.
    """
    check_replaceable(target, (DESCRIPTION, NETWORK), (source,))
    card = read_card(source)
    if "tails" in card:
        raise SettingsError(
            "A chain answers several questions at once and is not exported; let its tails teach students "
            "(`method.distillation.teacher`), and export those."
        )
    problem = get_problem(ProblemSettings.model_validate(card["problem"]))
    if problem.generates:
        raise SettingsError(
            f"A model of the problem {problem.name} writes token by token, and only networks whose outputs "
            "are scores are exported; serve it with `mlflow models serve` instead."
        )
    head = problem.head(card["label_names"])
    method = get_method(MethodSettings.model_validate(card.get("method", {})))
    if method.head(head) != head:
        advice = "; let it teach a student (`method.distillation.teacher`), and export that"
        raise SettingsError(
            f"A model of the method {method.name} asks a language model about every label or word, which is "
            f"no network from texts to scores{advice if head.kind in KINDS else ''}."
        )
    predictor = Predictor.load(source, device="cpu", precision="float32")
    if any(isinstance(module, nn.RNNBase) for module in predictor.model.modules()):
        raise ModelError(
            "A recurrent network reads each text exactly as far as it goes, which cannot be written as ONNX; "
            "choose a convolutional network or a transformer."
        )
    if is_int8(predictor.model):
        raise ModelError(
            "The weights of this model are in eight bits in a form of Catena's own; export the model before, "
            "with `--quantize int8`."
        )
    table = read_labelled(records, predictor, targets=False).head(_COMPARED)
    inputs = table[list(problem.input_roles)].reset_index(drop=True)
    features = problem.encode(inputs, predictor.tokenizer, predictor.tokenization, predictor.label_names)
    batches = _batches(predictor, features)
    names = list(batches[0][0])
    with complete_folder(target) as partial:
        file = partial / NETWORK
        _export(predictor.model, names, batches, file)
        session = _session(file)
        difference, _ = _compare(predictor, session, batches)
        if not difference <= tolerance:
            raise ModelError(
                f"The exported network differs from PyTorch's by up to {difference:.2g}, more than "
                f"{tolerance:g} (`--tolerance`); nothing was written."
            )
        if quantize:
            _quantize(file)
            session = _session(file)
        difference, outputs = _compare(predictor, session, batches)
        same = _agreement(predictor, inputs, features, outputs)
        if same < agreement:
            numbers = any(
                name in _NUMBERS for name, _ in predictor.problem.output_columns(predictor.label_names)
            )
            of = "variance of the predictions is kept" if numbers else "records are predicted as before"
            raise ModelError(
                f"After rounding only {same:.1%} of the {of}, less than {agreement:.1%} (`--agreement`); "
                "nothing was written."
            )
        _copy_tokenizer(predictor, partial)
        write_json(partial / DESCRIPTION, _description(predictor, names, quantize))
        size = file.stat().st_size
    return Exported(size, len(inputs), difference, same, quantize)


Batch = tuple[dict[str, torch.Tensor], list[int]]


def _batches(predictor: Predictor, features: Mapping[str, list[Any]]) -> list[Any]:
    """All rows, in batches of different sizes and lengths, with the numbers of their rows."""
    rows = as_rows(features)
    order = np.argsort(row_lengths(features), kind="stable").tolist()
    found: list[Batch] = []
    at = 0
    while at < len(order):
        numbers = order[at : at + _SIZES[len(found) % len(_SIZES)]]
        batch = predictor.problem.collate([rows[number] for number in numbers], predictor.pad_token_id)
        found.append(({name: values for name, values in batch.items() if name != "labels"}, numbers))
        at += len(numbers)
    # the exporter learns from the first, and takes a size of 1 for one that is always so
    return sorted(found, key=lambda pair: -len(pair[1]))


def _export(model: nn.Module, names: Sequence[str], batches: Sequence[Any], file: Path) -> None:
    example = tuple(batches[0][0][name] for name in names)
    shapes = tuple(map(_axes, example))
    example = tuple(tensor if len(tensor) > 1 else torch.cat([tensor, tensor]) for tensor in example)
    for logger in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, about its insides
            torch.onnx.export(
                _Logits(model.eval(), names).eval(),
                example,
                str(file),
                input_names=list(names),
                output_names=["logits"],
                dynamic_shapes=(shapes,),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]
        raise ModelError(f"This network cannot be written as ONNX: {reason}") from error


def _axes(tensor: torch.Tensor) -> dict[int, Any]:
    """Batch first; of whole numbers, which tokens are, the last axis is the length."""
    if tensor.is_floating_point():
        return {0: torch.export.Dim.DYNAMIC}
    return {0: torch.export.Dim.DYNAMIC, tensor.ndim - 1: torch.export.Dim.DYNAMIC}


def _session(file: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _compare(
    predictor: Predictor, session: onnxruntime.InferenceSession, batches: Sequence[Any]
) -> tuple[float, dict[int, np.ndarray]]:
    """Largest difference of an output that stands for something, and the outputs of each row."""
    worst = 0.0
    outputs: dict[int, np.ndarray] = {}
    for batch, numbers in batches:
        with torch.inference_mode():
            wanted = predictor.model(**batch).logits.float().numpy()
        (found,) = session.run(None, {name: values.numpy() for name, values in batch.items()})
        if found.shape != wanted.shape:
            raise ModelError(
                f"The exported network gives outputs of shape {found.shape} instead of {wanted.shape}."
            )
        for at, number in enumerate(numbers):
            one, other = found[at], wanted[at]
            if one.ndim > 1:  # of padding, a network may say anything
                length = int(batch["attention_mask"][at].sum())
                one, other = one[:length], other[:length]
            gap = float(np.abs(one - other).max())
            worst = max(worst, gap if np.isfinite(gap) else np.inf)
            outputs[number] = one
    return worst, outputs


def _agreement(
    predictor: Predictor,
    records: pd.DataFrame,
    features: Mapping[str, list[Any]],
    outputs: Mapping[int, np.ndarray],
) -> float:
    """Share of the records that are predicted the same from these outputs.

    Of numbers and scores, which never are the same, the share of their variance that is kept (R²).
    """
    rows = [outputs[row] for row in range(len(outputs))]
    given: Any = rows if rows[0].ndim > 1 else np.stack(rows)
    said = predictor.problem.predictions(given, records, dict(features), predictor.label_names)
    before = predictor.predict(records, clean=False)
    for name in _NUMBERS:
        if name in said:
            wanted = before[name].to_numpy(dtype=np.float64)
            gaps = said[name].to_numpy(dtype=np.float64) - wanted
            return max(1.0 - float((gaps**2).mean()) / max(float(wanted.var()), 1e-18), 0.0)
    return float((said["prediction"].to_numpy() == before["prediction"].to_numpy()).mean())


def _quantize(file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.with_name("float.onnx")
    file.replace(whole)
    chatter = logging.getLogger()
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        quantize_dynamic(whole, file, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        chatter.setLevel(level)
    whole.unlink()


def _copy_tokenizer(predictor: Predictor, folder: Path) -> None:
    if predictor.tokenizer is None:
        return
    for name in predictor.card["files"]:
        if "token" in name and (predictor.folder / name).is_file() and "/" not in name:
            shutil.copyfile(predictor.folder / name, folder / name)


def _description(predictor: Predictor, names: Sequence[str], quantized: bool) -> dict[str, Any]:
    card = predictor.card
    return {
        "problem": card["problem"],
        "label_names": list(predictor.label_names),
        "inputs": list(names),
        "output": "logits",
        "pad_token_id": predictor.pad_token_id,
        "max_length": predictor.tokenization.max_length if predictor.problem.tokenizes else None,
        "cleaning": card["cleaning"],
        "opset": OPSET,
        "int8": quantized,
        "fingerprint": card["fingerprint"],
        "weights_sha256": weights_sha256(card),
    }

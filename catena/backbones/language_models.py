"""The head with which a network was pretrained as a language model, masked or causal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catena.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from catena.backbones.base import Head


@dataclass(frozen=True)
class OwnHead:
    """A head without labels."""

    kind: str
    label_names: tuple[str, ...] = ()
    pairs: bool = False


def own_head(folder: Path, config: PretrainedConfig) -> OwnHead:
    """Which of both heads the network in `folder` has. Raises `ModelError` where it is no language model."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    decodes = bool(getattr(config, "is_decoder", False))
    if kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decodes and not config.is_encoder_decoder:
        return OwnHead("masked-language-model")
    if kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        return OwnHead("causal-language-model")
    raise ModelError(
        f"The network in {folder} ({kind}) is no language model that goes on with a text or fills in a mask, "
        "so it cannot be asked in words; choose another backbone."
    )


def build_language_model(
    head: Head, folder: Path, *, config: PretrainedConfig, **options: Any
) -> PreTrainedModel:
    """The network of `folder` with the head it was pretrained with.

    Raises `ModelError` where the weights have none: what a new one says would be chance.
    """
    from catena.backbones.pretrained import auto_class

    found = own_head(folder, config)
    if head.kind not in ("language-model", found.kind):
        raise ModelError(
            f"The network in {folder} ({config.model_type}) fills in no masks; choose one such as BERT."
        )
    return with_own_head(auto_class(found), folder, config=config, **options)


def with_own_head(auto: Any, folder: Path, *, config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """The network of `folder` as transformers' class `auto`, with no weight that is not stored there.

    Raises `ModelError` where its output layer is not.
    """
    model, report = auto.from_pretrained(folder, config=config, output_loading_info=True, **options)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights in {folder} have no language-model head ({missing[0]} is not among them), so what "
            "it says of a word would be noise; choose a backbone that was stored with it, such as "
            "SmolLM2-135M-Instruct."
        )
    network: PreTrainedModel = model
    return network

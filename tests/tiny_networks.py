"""Tiny pretrained networks of every kind that a method may have to adapt, and records for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from catena.backbones.pretrained import Pretrained
from catena.methods import Surroundings
from catena.problems import HeadSpec

VOCABULARY = 40
_TEXT: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0}
_ENCODER_DECODER: dict[str, Any] = {
    **_TEXT,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "eos_token_id": 2,
    "bos_token_id": None,
    "init_std": 0.2,
}


def _bert() -> PreTrainedModel:
    return BertModel(
        BertConfig(
            **_TEXT,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            **_TEXT,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.2,
        )
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            **_TEXT, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2,
            initializer_range=0.2,
        )
    )  # fmt: skip


def _m2m100() -> PreTrainedModel:
    return M2M100ForConditionalGeneration(M2M100Config(**_ENCODER_DECODER, tie_word_embeddings=True))


def _marian() -> PreTrainedModel:
    return MarianMTModel(MarianConfig(**_ENCODER_DECODER, scale_embedding=True, forced_eos_token_id=None))


def _vit() -> PreTrainedModel:
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
            initializer_range=0.2,
        )
    )


def _resnet() -> PreTrainedModel:
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", image_size=16)
    )


LABELS = ("a", "b", "c")
_SEQUENCE = HeadSpec("sequence-classification", LABELS)
_WRITES = HeadSpec("sequence-to-sequence", ())
_GOES_ON = HeadSpec("causal-language-model", ())
_IMAGES = HeadSpec("image-classification", LABELS)

#: Name → what makes the pretrained network, the head it gets, and how texts become vectors.
NETWORKS: dict[str, tuple[Callable[[], PreTrainedModel], HeadSpec, str]] = {
    "bert, mean": (_bert, _SEQUENCE, "mean"),
    "bert, pooler": (_bert, _SEQUENCE, "native"),
    "bert, regression": (_bert, HeadSpec("regression", ("0 1",)), "native"),
    "bert, tags": (_bert, HeadSpec("token-classification", LABELS), "native"),
    "bert, towers": (_bert, HeadSpec("pair-embedding", ("relevance",)), "native"),
    "llama": (_llama, _GOES_ON, "native"),
    "gpt2": (_gpt2, _GOES_ON, "native"),
    "m2m100": (_m2m100, _WRITES, "native"),
    "marian": (_marian, _WRITES, "native"),
    "vit": (_vit, _IMAGES, "native"),
    "resnet": (_resnet, _IMAGES, "native"),
}


@dataclass(frozen=True)
class Tiny:
    """A pretrained network in a folder, and how a finished one is built from it and read."""

    folder: Path
    head: HeadSpec
    pooling: str
    attention: str = "eager"

    def build(self, folder: Path | None = None, head: Any = None) -> PreTrainedModel:
        """The network with a head of its own, always the same."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return (
                Pretrained()
                .build(
                    folder or self.folder,
                    head or self.head,
                    dropout=0.0,
                    attention=self.attention,
                    pooling=self.pooling,
                )
                .eval()
            )

    def read(self, folder: Path, head: Any) -> PreTrainedModel:
        return Pretrained().load(folder, head, attention=self.attention)

    @property
    def around(self) -> Surroundings:
        return Surroundings("problem", self.head, backbone=self.folder, source="folder:x", build=self.build)

    def inputs(self, *, seed: int = 0, length: int = 8) -> dict[str, torch.Tensor]:
        """Two records, the second of them shorter, as the network with its head reads them."""
        random = torch.Generator().manual_seed(seed)
        if self.head.kind == "image-classification":
            return {"pixel_values": torch.rand(2, 3, 16, 16, generator=random)}
        shape = (2, 2, length) if self.head.kind == "pair-embedding" else (2, length)
        ids = torch.randint(3, VOCABULARY, shape, generator=random)
        mask = torch.ones_like(ids)
        ids[1, ..., -3:], mask[1, ..., -3:] = 0, 0
        given = {"input_ids": ids, "attention_mask": mask}
        if self.head.kind == "sequence-to-sequence":
            given["decoder_input_ids"] = torch.randint(3, VOCABULARY, (2, 5), generator=random)
        return given


def write_network(name: str, folder: Path, attention: str = "eager") -> Tiny:
    """Write the pretrained network `name` of `NETWORKS` into `folder`."""
    make, head, pooling = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = make()
    network.save_pretrained(folder)
    return Tiny(folder, head, pooling, attention)


@torch.no_grad()
def shaken(model: PreTrainedModel, seed: int = 5) -> PreTrainedModel:
    """`model` with its trained weights moved a little at random, as if it had learned something."""
    random = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn(weight.shape, generator=random) * 0.1)
    return model


@torch.no_grad()
def logits(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the network says of records `(records, …)`, where it is told of no padding."""
    said: torch.Tensor = model.eval()(**inputs).logits
    mask = inputs.get("attention_mask")
    if mask is None or said.shape[:2] != mask.shape:
        return said
    return said * mask.unsqueeze(-1)

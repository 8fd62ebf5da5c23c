"""Where `training.dropout` sets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, GPT2Config, LlamaConfig, ModernBertConfig, PreTrainedConfig

from catena.backbones import get_backbone
from catena.backbones.pretrained import set_dropout
from catena.methods import HeadRequest
from tests.tiny_language_model import write_language_backbone


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BertConfig(), {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}),
        (BertConfig(attention_probs_dropout_prob=0.0), {"attention_probs_dropout_prob": 0.0}),
        (GPT2Config(), {"resid_pdrop": 0.3, "attn_pdrop": 0.3}),
        (LlamaConfig(), {"attention_dropout": 0.0, "classifier_dropout": 0.3}),
        (LlamaConfig(attention_dropout=0.1), {"attention_dropout": 0.3}),
        (ModernBertConfig(), {"attention_dropout": 0.0, "mlp_dropout": 0.3, "classifier_dropout": 0.3}),
    ],
)
def test_attention_without_dropout_stays_so(config: PreTrainedConfig, expected: dict[str, float]) -> None:
    set_dropout(config, 0.3)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("kind", "pooling"), [("token-classification", "native"), ("sequence-classification", "mean")]
)
def test_a_network_without_dropout_has_it_before_its_head(tmp_path: Path, kind: str, pooling: str) -> None:
    write_language_backbone(tmp_path)
    network: Any = get_backbone("pretrained").build(
        tmp_path, HeadRequest(kind, ("a", "b")), dropout=0.3, attention="eager", pooling=pooling
    )
    assert network.dropout.p == 0.3
    assert network.encoder.config.attention_dropout == 0.0

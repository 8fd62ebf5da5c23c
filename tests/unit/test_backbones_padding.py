"""Padding is what the tokenizer pads with, whatever the network's configuration has for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from catena.backbones import get_backbone
from catena.problems import HeadSpec
from tests.tiny_language_model import tiny_network, tiny_tokenizer


@pytest.mark.parametrize("configured", [None, 7, -1])
def test_a_text_is_read_the_same_whatever_it_is_padded_to(configured: int | None, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    language_model = tiny_network(tokenizer)
    language_model.config.pad_token_id = configured
    language_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    head = HeadSpec("sequence-classification", ("a", "b"))
    network = get_backbone("pretrained").build(tmp_path, head, dropout=0.0, attention="eager").eval()
    alone = torch.tensor([[9, 10, 11]])
    padded = torch.cat([alone, torch.full((1, 3), int(tokenizer.pad_token_id))], dim=1)
    with torch.no_grad():
        wanted = network(input_ids=alone).logits
        found = network(input_ids=padded, attention_mask=(torch.arange(6) < 3).long().unsqueeze(0)).logits
    torch.testing.assert_close(found, wanted)

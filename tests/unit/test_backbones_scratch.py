"""Networks made from scratch: built to their sizes, stored and loaded, the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from catena.backbones import Blueprint, get_backbone
from catena.errors import ModelError
from catena.problems import HeadSpec
from catena.settings import BackboneSettings

HEAD = HeadSpec("sequence-classification", ("财经", "体育", "娱乐"))
KINDS: dict[str, dict[str, Any]] = {
    "transformer": {"layers": 2, "hidden_size": 16, "heads": 4, "intermediate_size": 32},
    "rnn": {"cell": "rnn", "hidden_size": 8, "embedding_size": 12, "bidirectional": False},
    "lstm": {"cell": "lstm", "hidden_size": 8, "embedding_size": 12, "layers": 2},
    "gru": {"cell": "gru", "hidden_size": 8, "embedding_size": 12},
    "convolutional": {"embedding_size": 12, "filters": 6, "kernel_sizes": [1, 2, 5]},
}


def build(kind: str, *, seed: int = 0, dropout: float = 0.0, pooling: str = "native") -> Any:
    family = kind if kind in ("transformer", "convolutional") else "recurrent"
    settings = BackboneSettings.model_validate({"name": "scratch", "type": family, **KINDS[kind]})
    torch.manual_seed(seed)
    return get_backbone(family).build(
        Path("unused"),
        HEAD,
        dropout=dropout,
        attention="eager",
        pooling=pooling,
        blueprint=Blueprint(settings, vocabulary=50, pad_token_id=0, max_length=20),
    )


def batch() -> dict[str, torch.Tensor]:
    """Two texts of five and three tokens."""
    ids = torch.tensor([[2, 7, 9, 11, 3], [2, 30, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.mark.parametrize("pooling", ["native", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_network_comes_back_with_the_same_answers(kind: str, pooling: str, tmp_path: Path) -> None:
    model = build(kind, pooling=pooling).eval()
    model.save_pretrained(tmp_path)
    family = kind if kind in ("transformer", "convolutional") else "recurrent"
    again = get_backbone(family).load(tmp_path, HEAD, attention="eager")
    weights = again.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(model(**batch()).logits, again(**batch()).logits)
        assert again(**batch()).logits.shape == (2, 3)
    assert again.config.id2label == dict(enumerate(HEAD.label_names))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_from_the_seed_alone(kind: str) -> None:
    first, same, other = (build(kind, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_gets_the_same_answer_alone_and_beside_a_longer_one(kind: str) -> None:
    """Padding must be invisible: to filters, to the backward direction, and to attention."""
    model = build(kind).eval()
    both = batch()
    alone = {name: values[1:, :3] for name, values in both.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**both).logits[1:], model(**alone).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient_and_a_few_steps_learn_two_texts(kind: str) -> None:
    model = build(kind, dropout=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    labels = torch.tensor([2, 0])
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(**batch()).logits, labels).backward()
        idle = [name for name, weight in model.named_parameters() if weight.grad is None]
        assert not idle
        optimizer.step()
    assert model.eval()(**batch()).logits.argmax(1).tolist() == [2, 0]


def test_the_last_states_of_an_lstm_are_those_of_a_plain_one_on_the_bare_text() -> None:
    model = build("lstm").eval()
    with torch.no_grad():
        ours = model.encoder(**batch()).pooler_output[1]
        state = model.encoder.embeddings(torch.tensor([[2, 30, 3]]))
        for layer in model.encoder.layers:
            state, (hidden, _) = layer(state)
    torch.testing.assert_close(ours, torch.cat([hidden[0, 0], hidden[1, 0]]))


def test_the_maxima_of_filters_are_those_of_a_plain_convolution() -> None:
    model = build("convolutional").eval()
    with torch.no_grad():
        ours = model.encoder(**batch()).pooler_output[0]
        embedded = model.encoder.embeddings(batch()["input_ids"][:1]).transpose(1, 2)
        whole = [
            torch.nn.functional.conv1d(
                torch.nn.functional.pad(embedded, ((size - 1) // 2, size // 2)), layer.weight, layer.bias
            )
            for size, layer in zip([1, 2, 5], model.encoder.layers, strict=True)
        ]
    torch.testing.assert_close(ours, torch.cat([one.relu().amax(2)[0] for one in whole]))


def test_a_transformer_from_scratch_is_an_ordinary_bert(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    model = build("transformer").eval()
    model.save_pretrained(tmp_path)
    theirs = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    assert theirs.config.max_position_embeddings == 24  # 20 tokens, padded to a multiple of 8
    with torch.no_grad():
        torch.testing.assert_close(model(**batch()).logits, theirs(**batch()).logits)


def test_a_head_that_a_network_cannot_carry_is_refused_in_a_sentence() -> None:
    settings = BackboneSettings.model_validate({"type": "recurrent"})
    blueprint = Blueprint(settings, vocabulary=50, pad_token_id=0, max_length=20)
    with pytest.raises(ModelError, match="A recurrent backbone has no head for token-classification"):
        get_backbone("recurrent").build(
            Path("unused"),
            HeadSpec("token-classification", ("a", "b")),
            dropout=None,
            attention="eager",
            blueprint=blueprint,
        )

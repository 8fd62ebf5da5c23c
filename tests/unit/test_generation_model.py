"""A causal language model trains on answers, packed or not, measures what it foresees, and stops."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from catena.decoding.writing import write_texts
from catena.errors import SettingsError
from catena.methods.trial import check_shared_rows
from catena.problems import get_problem
from catena.settings import DecodingSettings, TokenizationSettings, parse_settings
from catena.training.batches import plan_training
from catena.training.devices import choose_device
from catena.training.inputs import network_inputs
from tests.tiny_language_model import tiny_network, tiny_tokenizer

PROBLEM = get_problem("generation")
PAIRS = [
    ("what is blue?", "the sky"),
    ("and green?", "grass, mostly"),
    ("x", "y"),
    ("count", "one two three"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def rows(tokenizer: Any, pairs: Any = PAIRS) -> list[dict[str, Any]]:
    turns = [json.dumps([{"role": "user", "content": prompt}]) for prompt, _ in pairs]
    records = pd.DataFrame({"prompt": turns, "response": [response for _, response in pairs]})
    features = PROBLEM.encode(records, tokenizer, TokenizationSettings(max_length=128), ())
    return [{name: values[at] for name, values in features.items()} for at in range(len(records))]


def test_networks_whose_tokens_would_see_other_records_do_not_share_rows(tokenizer: Any) -> None:
    for kind in ("llama", "gpt2"):
        check_shared_rows(tiny_network(tokenizer, kind))
    leaking = OPTForCausalLM(
        OPTConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
            max_position_embeddings=32, word_embed_proj_dim=16,
        )
    )  # fmt: skip
    with pytest.raises(SettingsError, match=r"packing` is not there for networks such as this one \(opt\)"):
        check_shared_rows(leaking)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_records_are_foreseen_exactly_as_alone(tokenizer: Any, kind: str, attention: str) -> None:
    model = tiny_network(tokenizer, kind, attention)
    features = rows(tokenizer)
    packed = PROBLEM.pack(features, tokenizer.pad_token_id, 96)
    assert len(packed["input_ids"]) < len(features)
    with torch.inference_mode():
        logits = model(**network_inputs(model, packed)).logits
        alone = [PROBLEM.collate([one], tokenizer.pad_token_id, 1) for one in features]
        expected = [model(input_ids=one["input_ids"]).logits[0] for one in alone]
    place = [
        (row, int(start))
        for row, positions in enumerate(packed["position_ids"])
        for start in np.flatnonzero(positions.numpy() == 0)
        if int(start) < 96 and (packed["labels"][row, int(start) :] >= 0).any()
    ]
    assert len(place) == len(features)
    for (row, start), one, wanted in zip(place, alone, expected, strict=True):
        length = one["input_ids"].shape[1]
        assert packed["input_ids"][row, start : start + length].tolist() == one["input_ids"][0].tolist()
        assert torch.allclose(logits[row, start : start + length], wanted, atol=1e-4, rtol=1e-4)
        ours = PROBLEM.measure(
            logits[row : row + 1, start : start + length],
            {"labels": packed["labels"][row : row + 1, start : start + length]},
        )
        theirs = PROBLEM.measure(wanted[None], one)
        assert float(ours[0, 0]) == pytest.approx(float(theirs[0, 0]), rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_no_token_of_a_packed_record_sees_another_record(tokenizer: Any, kind: str) -> None:
    model = tiny_network(tokenizer, kind)
    features = rows(tokenizer)
    changed = [dict(one) for one in features]
    changed[0]["input_ids"] = [5] * len(features[0]["input_ids"])
    size = len(features[0]["input_ids"]) + len(features[0]["labels"])
    outputs = []
    with torch.inference_mode():
        for one in (features, changed):
            batch = PROBLEM.pack(one, tokenizer.pad_token_id, 256)
            assert len(batch["input_ids"]) == 1
            outputs.append(model(**network_inputs(model, batch)).logits[0])
    assert not torch.allclose(outputs[0][:size], outputs[1][:size])
    assert torch.equal(outputs[0][size:], outputs[1][size:])


def test_a_packed_batch_has_the_loss_of_an_unpacked_one(tokenizer: Any) -> None:
    model = tiny_network(tokenizer)
    features = rows(tokenizer)
    losses = []
    for batch in (
        PROBLEM.collate(features, tokenizer.pad_token_id),
        PROBLEM.pack(features, tokenizer.pad_token_id, 128),
    ):
        with torch.inference_mode():
            logits = model(**network_inputs(model, batch)).logits
        losses.append((float(PROBLEM.loss(logits, batch["labels"])), PROBLEM.weight(batch["labels"])))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][1] == losses[1][1] == sum(len(one["labels"]) for one in features)


def test_each_token_is_said_by_the_one_before_it() -> None:
    labels = torch.tensor([[-100, 1, -100, 0]])
    logits = torch.log(torch.tensor([[[0.25, 0.75], [0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]]))
    # token 1 at place 1 by place 0: 0.75; token 0 at place 3 by place 2: 0.9
    expected = -(math.log(0.75) + math.log(0.9))
    assert float(PROBLEM.loss(logits, labels)) == pytest.approx(expected / 2)
    assert PROBLEM.weight(labels) == 2
    assert PROBLEM.measure(logits, {"labels": labels})[0].tolist() == pytest.approx([expected, 2, 2])
    measured = PROBLEM.validation_metrics(PROBLEM.measure(logits, {"labels": labels}).numpy(), None)
    assert measured["perplexity"] == pytest.approx(math.exp(expected / 2))


def test_a_network_that_learned_an_answer_writes_it_and_stops(tokenizer: Any) -> None:
    from catena.decoding.writing import write_texts
    from catena.training.devices import choose_device

    model = tiny_network(tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.div_(4.0)
    features = rows(tokenizer, PAIRS[:2])
    batch = PROBLEM.collate(features, tokenizer.pad_token_id)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        PROBLEM.loss(model(**network_inputs(model, batch)).logits, batch["labels"]).backward()
        optimizer.step()
    device = choose_device("cpu", "float32")
    prompts = [one["input_ids"] for one in features]
    written = write_texts(model, tokenizer, prompts, DecodingSettings(max_new_tokens=60), device)
    assert written.texts == ["the sky", "grass, mostly"]
    assert written.tokens.tolist() == [len(one["labels"]) for one in features]  # the end included, no more


def test_packed_plans_hold_every_record_once_an_epoch_and_waste_little() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 500)
    plan = plan_training(
        lengths, batch_tokens=1024, batch_size=16, epochs=2, gradient_accumulation=1, max_steps=None, seed=1,
        packed=256,
    )  # fmt: skip
    half = plan.epoch_ends[0]
    for part in (plan.batches[:half], plan.batches[half:]):
        assert sorted(record for batch in part for record in batch) == list(range(500))
    assert plan.batches[:half] != plan.batches[half:]
    full = lengths.sum() / (half * 1024)
    assert full > 0.95


def test_packing_fills_rows_with_no_more_than_their_width() -> None:
    features = [
        {"input_ids": [7] * size, "learned": [0] * size, "labels": [3, 3]} for size in (5, 6, 3, 8, 1, 2)
    ]
    batch = PROBLEM.pack(features, 0, 12)
    assert batch["input_ids"].shape == (5, 12)
    starts = [np.flatnonzero(row.numpy() == 0).tolist() for row in batch["position_ids"]]
    assert starts == [
        [0, 7],
        [0, 8],
        [0, 5],
        [0, 10],
        [0, 3, 7],
    ]  # then padding
    assert int((batch["labels"] >= 0).sum()) == 12


def test_training_max_length_is_refused_for_generation() -> None:

    with pytest.raises(
        SettingsError, match=r"`training\.max_length` would cut off what is read in generation"
    ):
        parse_settings({"problem": {"name": "generation"}, "training": {"max_length": 64}}, "params.yaml")


def test_packing_is_refused_where_records_cannot_share_rows() -> None:
    from catena.settings import TrainingSettings
    from catena.training.finetune import plan_for

    with pytest.raises(SettingsError, match=r"`training\.packing` is not there for this problem"):
        plan_for(None, TrainingSettings(packing=True), 0)  # type: ignore[arg-type]


def test_how_much_may_be_written_depends_on_no_other_text(tokenizer: Any) -> None:
    model = tiny_network(tokenizer)
    model.config.max_position_embeddings = 24
    model.generation_config.eos_token_id = None  # so that nothing ends before it must
    settings = DecodingSettings(max_new_tokens=100)
    device = choose_device("cpu", "float32")
    alone = write_texts(model, tokenizer, [[5, 6]], settings, device)
    beside = write_texts(model, tokenizer, [[5, 6], list(range(5, 25))], settings, device)
    assert [alone.tokens[0], *beside.tokens] == [22, 22, 4]

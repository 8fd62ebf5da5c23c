"""Prefixes and prompts: what networks make of them, against the same worked out by other means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from catena.errors import SettingsError
from catena.methods import Surroundings, get_method
from catena.methods.trial import check_shared_rows
from catena.settings import MethodSettings
from tests.tiny_networks import VOCABULARY, Tiny, logits, shaken, write_network

COUNT = 4


def adapted(tiny: Tiny, name: str, learned: bool = True) -> Any:
    """The network with a prefix or prompt that has learned something."""
    peft = {"virtual_tokens": COUNT}
    settings = MethodSettings.model_validate({"name": name, "peft": peft})
    model = get_method(settings).prepare(tiny.build(), tiny.around)
    return shaken(model).eval() if learned else model.eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    folder = tmp_path_factory.mktemp("backbones")
    names = ("bert, mean", "bert, pooler", "llama", "gpt2", "m2m100", "marian", "vit")
    return {name: write_network(name, folder / name.replace(", ", "-")) for name in names}


# -- prefixes ------------------------------------------------------------------------------------------


def test_a_prefix_stands_before_keys_and_values_of_every_head(tiny: dict[str, Tiny]) -> None:
    model = adapted(tiny["bert, mean"], "prefix_tuning")
    attention = model.encoder.encoder.layer[0].attention.self
    x, mask = torch.randn(1, 5, 16), torch.tensor([[[[0.0, 0.0, 0.0, -1e9, -1e9]]]])
    heads = [
        part(x).view(1, 5, 2, 8).transpose(1, 2) for part in (attention.query, attention.key, attention.value)
    ]
    query, key, value = heads
    keys = torch.cat([attention.prefix["learned_keys"].unsqueeze(0), key], dim=2)
    values = torch.cat([attention.prefix["learned_values"].unsqueeze(0), value], dim=2)
    wanted = functional.scaled_dot_product_attention(query, keys, values, functional.pad(mask, (COUNT, 0)))
    got = attention(x, attention_mask=mask)[0]
    torch.testing.assert_close(got, wanted.transpose(1, 2).reshape(1, 5, 16), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("network", ["bert, mean", "llama", "m2m100"])
@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_both_attention_kernels_say_the_same(tiny: dict[str, Tiny], network: str, name: str) -> None:
    eager = tiny[network]
    fused = Tiny(eager.folder, eager.head, eager.pooling, "sdpa")
    said = []
    for own in (eager, fused):
        torch.manual_seed(9)
        said.append(logits(adapted(own, name), own.inputs()))
    torch.testing.assert_close(*said, atol=1e-5, rtol=1e-4)


def test_a_first_prefix_is_what_the_network_makes_of_tokens(tiny: dict[str, Tiny]) -> None:
    own = tiny["llama"]
    torch.manual_seed(4)
    model = adapted(own, "prefix_tuning", learned=False)
    torch.manual_seed(4)
    ids = torch.randint(0, VOCABULARY, (1, COUNT))
    cache = own.build()(input_ids=ids, use_cache=True).past_key_values
    for layer, attention in enumerate(layer.self_attn for layer in model.model.layers):
        torch.testing.assert_close(attention.prefix["learned_keys"], cache.layers[layer].keys[0])
        torch.testing.assert_close(attention.prefix["learned_values"], cache.layers[layer].values[0])


# -- prompts -------------------------------------------------------------------------------------------


def test_a_causal_network_reads_a_prompt_as_if_it_stood_before_the_text(tiny: dict[str, Tiny]) -> None:
    own = tiny["llama"]
    model, plain = adapted(own, "prompt_tuning"), own.build()
    ids = own.inputs()["input_ids"][:1]
    embedded = plain.get_input_embeddings()(ids)
    both = torch.cat([model.model.prompt.unsqueeze(0), embedded], dim=1)
    wanted = plain(inputs_embeds=both).logits[:, COUNT:]
    torch.testing.assert_close(model(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-4)
    wanted.pow(2).sum().backward()
    # and learns it in the same way
    model(input_ids=ids).logits.pow(2).sum().backward()
    assert model.model.prompt.grad.abs().max() > 0


def test_an_encoder_reads_a_prompt_together_with_the_text(tiny: dict[str, Tiny]) -> None:
    own = tiny["bert, pooler"]
    model, plain = adapted(own, "prompt_tuning"), own.build()
    given = own.inputs()
    embedded = plain.bert.embeddings.word_embeddings(given["input_ids"])
    prompt = model.bert.prompt.expand(2, -1, -1)
    mask = functional.pad(given["attention_mask"], (COUNT, 0), value=1)
    hidden = plain.bert(inputs_embeds=torch.cat([prompt, embedded], 1), attention_mask=mask).last_hidden_state
    # the pooler sees the text's first token, not the prompt's
    wanted = model.classifier(model.bert.pooler(hidden[:, COUNT:]))
    torch.testing.assert_close(model(**given).logits, wanted, atol=1e-5, rtol=1e-4)


def test_scaled_embeddings_scale_the_prompt_alike(tiny: dict[str, Tiny]) -> None:
    own = tiny["marian"]
    model, plain = adapted(own, "prompt_tuning"), own.build()
    encoder, given = plain.get_encoder(), own.inputs()
    embedded = encoder.embed_tokens(given["input_ids"])
    prompt = model.get_encoder().prompt.expand(2, -1, -1)
    assert encoder.embed_scale == 4.0
    hidden = encoder(
        inputs_embeds=torch.cat([prompt, embedded], 1) * encoder.embed_scale,
        attention_mask=functional.pad(given["attention_mask"], (COUNT, 0), value=1),
    ).last_hidden_state
    said = model.get_encoder()(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    torch.testing.assert_close(said.last_hidden_state, hidden[:, COUNT:], atol=1e-5, rtol=1e-4)


def test_a_prompt_that_leaves_the_text_no_positions_is_refused(tiny: dict[str, Tiny]) -> None:
    class Tokenizer:
        model_max_length = 61

    own = tiny["bert, mean"]
    around = Surroundings("classification", own.head, Tokenizer())  # type: ignore[arg-type]
    learned = get_method(MethodSettings.model_validate({"name": "prompt_tuning"}))
    with pytest.raises(SettingsError, match="up to 64 tokens do not fit the 64 positions"):
        learned.prepare(own.build(), around)
    # where texts are cut counts, not what the tokenizer was made for
    learned.prepare(own.build(), replace(around, max_length=40))


# -- both ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["bert, mean", "llama", "gpt2", "m2m100"])
@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_what_is_said_of_a_text_does_not_depend_on_its_batch(
    tiny: dict[str, Tiny], network: str, name: str
) -> None:
    own = tiny[network]
    model, given = adapted(own, name), own.inputs()
    together = logits(model, given)[1:]
    alone = {key: values[1:] for key, values in given.items()}
    if own.head.kind != "sequence-to-sequence":
        together = together[:, :5] if together.ndim == 3 else together
    alone |= {key: alone[key][:, :5] for key in ("input_ids", "attention_mask")}
    torch.testing.assert_close(logits(model, alone), together, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("network", ["llama", "gpt2", "m2m100"])
@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_texts_are_written_with_a_cache_as_without_one(
    tiny: dict[str, Tiny], network: str, name: str
) -> None:
    own = tiny[network]
    model, given = adapted(own, name), own.inputs()
    read = {key: given[key].flip(1) for key in ("input_ids", "attention_mask")}  # padded on the left
    common: dict[str, Any] = {
        "max_new_tokens": 6,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    with torch.inference_mode():
        cached = model.generate(**read, use_cache=True, **common)
        whole = model.generate(**read, use_cache=False, **common)
    assert torch.equal(cached, whole)
    with torch.inference_mode():
        plain = own.build().generate(**read, use_cache=True, **common)
    assert not torch.equal(cached, plain), "what was learned shows"


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_records_that_share_a_row_do_not_see_each_other(tiny: dict[str, Tiny], name: str) -> None:
    own = tiny["llama"]
    model = adapted(own, name)
    first, second = own.inputs()["input_ids"][:1, :4], own.inputs(seed=2)["input_ids"][:1, :3]
    packed = {
        "input_ids": torch.cat([first, second], dim=1),
        "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2]]),
        "use_cache": False,
    }
    with torch.no_grad():
        together = model(**packed).logits
        apart = [model(input_ids=ids).logits for ids in (first, second)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), atol=1e-5, rtol=1e-4)
    check_shared_rows(model)  # nor are they taken for such as do


def test_a_prompt_is_read_again_when_it_has_changed(tiny: dict[str, Tiny]) -> None:
    own = tiny["llama"]
    model, given = adapted(own, "prompt_tuning"), own.inputs()
    before = logits(model, given)
    assert torch.equal(logits(model, given), before)
    kept = {"model.prompt": model.model.prompt.detach().clone()}
    shaken(model, seed=8)
    assert not torch.allclose(logits(model, given), before)
    model.load_state_dict(kept, strict=False)
    torch.testing.assert_close(logits(model, given), before)


def test_an_image_is_seen_with_its_prompt_and_patches_stay_in_place(
    tiny: dict[str, Tiny],
) -> None:
    own = tiny["vit"]
    model, plain = adapted(own, "prompt_tuning"), own.build()
    given = own.inputs()
    with torch.no_grad():
        wanted = plain.base_model(
            pixel_values=plain.normalised(given["pixel_values"])
        ).last_hidden_state.shape
        got = model.base_model(pixel_values=model.normalised(given["pixel_values"])).last_hidden_state.shape
    assert got == wanted
    assert not torch.allclose(logits(model, given), logits(plain, given))

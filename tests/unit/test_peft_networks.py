"""Every parameter-efficient method on every kind of network: what it trains, how it is stored and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from catena.errors import SettingsError
from catena.methods import Method, Surroundings, get_method
from catena.methods.targets import chosen_layers, head_weights
from catena.settings import MethodSettings
from catena.settings.peft import PeftSettings
from catena.training.checkpoints import trained_weights
from tests.tiny_networks import NETWORKS, Tiny, logits, shaken, write_network

METHODS = ("lora", "adalora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning", "bitfit")
#: What does not go together, and a word of the sentence that says so.
REFUSED = {
    ("llama", "bitfit"): "no biases",
    ("resnet", "bottleneck"): "convolutions",
    ("resnet", "prefix_tuning"): "no attention",
    ("resnet", "prompt_tuning"): "cannot read embeddings",
}
#: Every method on the four families of networks, and where the others differ from these.
STORED = [
    (network, method)
    for network in ("bert, mean", "llama", "m2m100", "vit")
    for method in METHODS
    if (network, method) not in REFUSED
] + [
    ("bert, pooler", "prompt_tuning"),
    ("bert, regression", "bottleneck"),
    ("bert, tags", "prompt_tuning"),
    ("bert, tags", "lora"),
    ("bert, towers", "prefix_tuning"),
    ("gpt2", "lora"),
    ("gpt2", "prompt_tuning"),
    ("marian", "prompt_tuning"),
    ("resnet", "lora"),
    ("resnet", "adalora"),
    ("resnet", "ia3"),
    ("resnet", "bitfit"),
]
#: Where the other form of storage is tried as well.
AS_ADAPTER = {"bert, mean", "bert, tags", "bert, towers", "resnet"}


def method(name: str, store: str = "merged", **peft: Any) -> Method:
    small = {"rank": 2, "bottleneck": 4, "virtual_tokens": 4}
    return get_method(MethodSettings.model_validate({"name": name, "store": store, "peft": small | peft}))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    folder = tmp_path_factory.mktemp("backbones")
    return {name: write_network(name, folder / f"net{number}") for number, name in enumerate(NETWORKS)}


@pytest.mark.parametrize(("network", "name"), STORED)
def test_what_was_learned_says_the_same_after_storing(
    tiny: dict[str, Tiny], network: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tiny[network]
    monkeypatch.setenv("CATENA_BACKBONES", str(own.folder.parent))
    frozen = {key: value.clone() for key, value in own.build().state_dict().items()}
    for store in ("merged", "adapter") if network in AS_ADAPTER else ("merged",):
        learned = method(name, store)
        built = own.build()
        heads = {id(weight) for weight in head_weights(built).values()}
        model = learned.prepare(built, own.around)
        assert model is built, "the network stays of its class"
        before = logits(model, own.inputs())
        shaken(model)
        wanted = logits(model, own.inputs())
        assert (wanted - before).abs().max() > 1e-3
        for key, weight in model.named_parameters():
            if id(weight) in heads:
                assert weight.requires_grad, "the head always trains"
            elif not weight.requires_grad and (old := frozen.get(key.replace(".base_layer", ""))) is not None:
                assert torch.equal(weight, old), f"{key} is frozen"
        finished = learned.finish(model)
        folder = tmp_path / store
        folder.mkdir()
        learned.save(finished, folder)
        torch.testing.assert_close(logits(finished, own.inputs()), wanted, atol=1e-5, rtol=1e-5)
        back = method(name, store).load(folder, own.read, own.around)
        torch.testing.assert_close(logits(back, own.inputs()), wanted, atol=1e-5, rtol=1e-5)
        names = {path.name for path in folder.iterdir()}
        assert ("model.safetensors" in names) == (store == "merged")
        if store == "merged" and learned.merges:  # type: ignore[attr-defined]
            # an ordinary network, as if all its weights had been trained
            assert own.read(folder, own.head).state_dict().keys() == frozen.keys()


@pytest.mark.parametrize(("network", "name"), list(REFUSED))
def test_what_does_not_fit_is_refused_in_a_sentence(tiny: dict[str, Tiny], network: str, name: str) -> None:
    with pytest.raises(SettingsError, match=REFUSED[network, name]):
        method(name).prepare(tiny[network].build(), tiny[network].around)


@pytest.mark.parametrize("kind", ["recurrent", "convolutional"])
def test_networks_of_other_layers_take_what_suits_them(kind: str) -> None:
    from catena.backbones import Blueprint, get_backbone
    from catena.problems import HeadSpec
    from catena.settings import BackboneSettings

    settings = BackboneSettings.model_validate({"name": "x", "type": kind, "source": "scratch"})
    head = HeadSpec("sequence-classification", ("a", "b"))

    def build() -> Any:
        return get_backbone(kind).build(
            Path(), head, dropout=0.0, attention="eager", blueprint=Blueprint(settings, 40, 0, 16)
        )

    around = Surroundings("classification", head)
    inputs = {"input_ids": torch.arange(3, 11).unsqueeze(0), "attention_mask": torch.ones(1, 8).long()}
    fitting = {"recurrent": ("bitfit",), "convolutional": ("bitfit", "lora")}[kind]
    for name in METHODS:
        learned = method(name)
        if name == "adalora" and kind == "convolutional":
            continue
        if name not in fitting:
            with pytest.raises(SettingsError, match=r"fit|no layers"):
                learned.prepare(build(), around)
            continue
        model = shaken(learned.prepare(build(), around))
        wanted = logits(model, inputs)
        torch.testing.assert_close(logits(learned.finish(model), inputs), wanted, atol=1e-5, rtol=1e-5)


TARGETS = {
    ("bert, mean", "attention"): {"query", "key", "value", "dense"},
    ("llama", "attention"): {"q_proj", "k_proj", "v_proj", "o_proj"},
    ("m2m100", "attention"): {"q_proj", "k_proj", "v_proj", "out_proj"},
    ("vit", "attention"): {"q_proj", "k_proj", "v_proj", "o_proj"},
    ("gpt2", "attention"): {"c_attn", "c_proj"},
    ("llama", "all_linear"): {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    ("m2m100", "all_linear"): {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    ("bert, mean", ("layer.1.attention.self.query",)): {"query"},
    ("resnet", "attention"): {"convolution"},
}  # fmt: skip
COUNTS = {
    ("bert, mean", "attention"): 8,
    ("llama", "attention"): 8,
    ("m2m100", "attention"): 12,
    ("vit", "attention"): 8,
    ("gpt2", "attention"): 4,
    ("llama", "all_linear"): 14,
    ("m2m100", "all_linear"): 16,
    ("bert, mean", ("layer.1.attention.self.query",)): 1,
    ("resnet", "attention"): 6,
}  # fmt: skip


@pytest.mark.parametrize(("network", "targets"), list(TARGETS))
def test_layers_are_chosen_by_what_networks_call_them(
    tiny: dict[str, Tiny], network: str, targets: Any
) -> None:
    chosen = chosen_layers(tiny[network].build(), PeftSettings(targets=targets), "attention")
    assert {name.rpartition(".")[2] for name in chosen} == TARGETS[network, targets]
    assert len(chosen) == COUNTS[network, targets]


def test_names_that_no_layer_has_are_refused_with_those_there_are(tiny: dict[str, Tiny]) -> None:
    with pytest.raises(SettingsError, match=r"'q_proj', but no layer .*query"):
        method("lora", targets=["q_proj"]).prepare(tiny["bert, mean"].build(), tiny["bert, mean"].around)


def test_methods_that_move_the_networks_own_weights_leave_no_adapter() -> None:
    with pytest.raises(SettingsError, match=r"`method.store` adapter says nothing to `method.name` full"):
        method("full", store="adapter")


def test_a_causal_network_that_no_prompt_can_be_put_before_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    from catena.problems import HeadSpec

    network = BloomForCausalLM(BloomConfig(vocab_size=40, hidden_size=16, n_layer=1, n_head=2))
    around = Surroundings("generation", HeadSpec("causal-language-model", ()))
    for name in ("prefix_tuning", "prompt_tuning"):
        with pytest.raises(SettingsError, match="does not fit the backbone"):
            method(name).prepare(network, around)


def test_a_checkpoint_holds_what_trains_and_no_frozen_weight_under_another_name(
    tiny: dict[str, Tiny],
) -> None:
    """GPT-2 writes with its embeddings, so this matrix has two names."""
    model = method("lora").prepare(tiny["gpt2"].build(), tiny["gpt2"].around)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert all(".lora_" in name for name in trained_weights(model))


def test_a_rank_above_a_layers_own_is_refused(tiny: dict[str, Tiny]) -> None:
    with pytest.raises(SettingsError, match=r"`method.peft.rank` is 17, .*only rank 16"):
        method("lora", rank=17).prepare(tiny["bert, mean"].build(), tiny["bert, mean"].around)


def test_dora_and_stabilized_ranks_are_merged_too(tiny: dict[str, Tiny]) -> None:
    for network in ("bert, mean", "resnet"):
        own = tiny[network]
        learned = method("lora", dora=True, rank_stabilized=True)
        model = shaken(learned.prepare(own.build(), own.around))
        wanted = logits(model, own.inputs())
        torch.testing.assert_close(logits(learned.finish(model), own.inputs()), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stabilized", "scale"), [(False, 6.0 / 4), (True, 6.0 / 2)])
def test_a_merged_weight_is_the_old_one_and_the_scaled_product(
    tiny: dict[str, Tiny], stabilized: bool, scale: float
) -> None:
    own = tiny["bert, mean"]
    old = own.build().encoder.encoder.layer[0].attention.self.query.weight.detach().clone()
    learned = method("lora", rank=4, alpha=6.0, rank_stabilized=stabilized)
    model: Any = shaken(learned.prepare(own.build(), own.around))
    layer = model.encoder.encoder.layer[0].attention.self.query
    update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = learned.finish(model).encoder.encoder.layer[0].attention.self.query.weight
    torch.testing.assert_close(merged, old + scale * update, atol=1e-6, rtol=1e-6)


def test_ia3_scales_outputs_of_keys_and_inputs_of_feed_forward_parts(tiny: dict[str, Tiny]) -> None:
    own = tiny["llama"]
    learned = method("ia3")
    plain: Any = own.build()
    model: Any = shaken(learned.prepare(own.build(), own.around))
    layer, old = model.model.layers[1], plain.model.layers[1]
    keys = layer.self_attn.k_proj.ia3_l["default"].detach().clone()
    down = layer.mlp.down_proj.ia3_l["default"].detach().clone()
    assert keys.shape == (8, 1) and down.shape == (1, 32)
    learned.finish(model)
    merged = model.model.layers[1]
    torch.testing.assert_close(merged.self_attn.k_proj.weight, old.self_attn.k_proj.weight * keys)
    torch.testing.assert_close(merged.mlp.down_proj.weight, old.mlp.down_proj.weight * down)
    assert torch.equal(merged.self_attn.q_proj.weight, old.self_attn.q_proj.weight)


def test_a_bottleneck_adds_what_a_narrow_network_makes_of_a_layers_output(tiny: dict[str, Tiny]) -> None:
    own = tiny["bert, mean"]
    learned = method("bottleneck")
    model: Any = learned.prepare(own.build(), own.around)
    layer = model.encoder.encoder.layer[0].output.dense
    assert {name for name, _ in layer.named_children()} == {"bottleneck"}
    x = torch.randn(3, 32)
    plain = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer(x), plain)  # the identity in the beginning
    shaken(model)
    down, _, up = layer.bottleneck
    narrow = torch.nn.functional.gelu(plain @ down.weight.T + down.bias)
    torch.testing.assert_close(layer(x), plain + narrow @ up.weight.T + up.bias)
    # behind attention and feed-forward part of both layers
    assert sum("bottleneck" in name for name, _ in model.named_modules()) == 4 * 4


def test_bitfit_moves_biases_and_the_head_alone(tiny: dict[str, Tiny]) -> None:
    own = tiny["bert, mean"]
    model = method("bitfit").prepare(own.build(), own.around)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    named = {name for name, _ in model.named_parameters()}
    assert moving == {name for name in named if name.endswith(".bias")} | {"classifier.weight"}

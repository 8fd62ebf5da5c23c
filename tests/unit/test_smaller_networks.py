"""Cutting out heads and layers, and rounding weights, does to a network exactly what it says."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from catena.backbones import Blueprint, get_backbone
from catena.backbones.int8 import Int8Embedding, Int8Linear, quantized_rows
from catena.backbones.smaller import attentions, keep_heads, keep_layers, to_int8, without_others
from catena.compression.pruning import head_magnitudes, head_sensitivities, prune
from catena.compression.sample import Sample
from catena.errors import ModelError, SettingsError
from catena.problems import HeadSpec, get_problem
from catena.settings import BackboneSettings, CompressionSettings, ProblemSettings
from tests.tiny_project import write_backbone

HEAD = HeadSpec("sequence-classification", ("a", "b", "c"))
IDS = torch.tensor([[2, 70, 80, 90, 75, 3], [2, 100, 85, 3, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


@pytest.fixture
def network(backbone: Path) -> Any:
    """A two-layer BERT with two heads in each; weights large enough that every part matters."""
    torch.manual_seed(3)
    model = get_backbone("pretrained").build(backbone, HEAD, dropout=0.0, attention="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm" not in name and weight.ndim == 2 and "embeddings" not in name:
                weight.mul_(10)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**BATCH).logits
    return result


def sample(labels: list[int]) -> Sample:
    problem = get_problem(ProblemSettings(name="classification"))
    return Sample(problem, [{**BATCH, "labels": torch.tensor(labels)}])


def test_rows_are_rounded_to_127ths_of_their_greatest() -> None:
    rounded, scale = quantized_rows(torch.tensor([[1.27, -0.635, 0.0], [0.0, 0.0, -0.254]]))
    assert rounded.tolist() == [[127, -64, 0], [0, 0, -127]]  # -63.5 goes to the even neighbour
    torch.testing.assert_close(scale, torch.tensor([0.01, 0.002]))


def test_a_linear_layer_in_eight_bits_says_what_pytorchs_own_dynamic_quantisation_says() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 32).eval()
    inputs = torch.randn(7, 3, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        theirs = quantize_dynamic(
            nn.Sequential(layer), {nn.Linear: per_channel_dynamic_qconfig}, dtype=torch.qint8
        )
    ours, reference = Int8Linear.of(layer)(inputs), theirs(inputs)
    exact = layer(inputs)
    # theirs rounds weights to 128ths and inputs a little more coarsely
    assert (ours - exact).abs().max() < 0.05
    assert (ours - reference).abs().max() < 0.05
    assert (ours - exact).abs().mean() <= (reference - exact).abs().mean()


def test_an_embedding_in_eight_bits_is_off_by_half_a_step_at_most() -> None:
    torch.manual_seed(0)
    layer = nn.Embedding(20, 16)
    ids = torch.arange(20).view(4, 5)
    steps = layer.weight.detach().abs().amax(1) / 127
    gap = (Int8Embedding.of(layer)(ids) - layer(ids)).abs().amax(-1)
    assert (gap <= steps[ids] * 0.501).all()


def test_without_a_head_the_network_says_what_it_said_with_that_head_silenced(network: Any) -> None:
    part = attentions(network)[0]

    def silence(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        inputs = arguments[0].clone()
        inputs[..., : part.size] = 0.0  # the first of two heads
        return (inputs, *arguments[1:])

    before = logits(network)
    handle = part.output.register_forward_pre_hook(silence)
    silenced = logits(network)
    handle.remove()
    keep_heads(network, [[1], [0, 1]])
    torch.testing.assert_close(logits(network), silenced, rtol=1e-4, atol=1e-5)
    assert (silenced - before).abs().max() > 1e-2, "the head said nothing, so the test would prove nothing"
    query = network.bert.encoder.layer[0].attention.self.query
    assert query.weight.shape == (12, 24), "the matrices must get smaller"


def test_without_a_layer_the_network_is_one_built_without_it(network: Any, backbone: Path) -> None:
    whole = logits(network)
    with without_others(network, [1]):
        inside = logits(network)
    torch.testing.assert_close(logits(network), whole)
    keep_layers(network, [1])
    from transformers import BertForSequenceClassification

    shallow = BertForSequenceClassification(network.config)
    assert network.config.num_hidden_layers == len(shallow.bert.encoder.layer) == 1
    shallow.load_state_dict(network.state_dict())
    torch.testing.assert_close(logits(network), logits(shallow.eval()))
    torch.testing.assert_close(logits(network), inside)
    assert (whole - inside).abs().max() > 1e-2


@pytest.mark.parametrize("rounded", [False, True])
def test_a_smaller_network_is_stored_as_safetensors_and_read_again(
    network: Any, tmp_path: Path, rounded: bool
) -> None:
    keep_heads(network, [[0, 1], [1]])
    if rounded:
        to_int8(network)
    wanted = logits(network)
    network.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]
    read = get_backbone("pretrained").load(tmp_path, HEAD, attention="eager")
    torch.testing.assert_close(logits(read), wanted, rtol=0, atol=0)
    assert [layer.attention.self.num_attention_heads for layer in read.bert.encoder.layer] == [2, 1]


def test_in_eight_bits_a_network_takes_a_third_of_the_space_and_says_nearly_the_same(
    network: Any, tmp_path: Path
) -> None:
    before = logits(network)
    network.save_pretrained(tmp_path / "a")
    to_int8(network)
    network.save_pretrained(tmp_path / "b")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in "ab"]
    assert sizes[1] < 0.45 * sizes[0]  # a tiny network has many scales for its weights
    assert (logits(network) - before).abs().max() < 0.1 * before.abs().max()


def test_a_causal_network_keeps_the_embeddings_that_are_its_output_too(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=32, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    keep_layers(model, [0, 2])
    to_int8(model)
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        model.save_pretrained(tmp_path)
        read = get_backbone("pretrained").load(
            tmp_path, HeadSpec("causal-language-model", ()), attention="eager"
        )
        torch.testing.assert_close(read(input_ids=ids).logits, wanted)
        written = read.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert written.shape == (1, 7)


def test_sensitivity_of_words_does_not_depend_on_how_records_are_batched(backbone: Path) -> None:
    torch.manual_seed(3)
    problem = get_problem(ProblemSettings(name="tagging"))
    head = problem.head(("place",))
    model = get_backbone("pretrained").build(backbone, head, dropout=0.0, attention="eager").eval()
    labels = torch.tensor([[-100, 0, 1, 2, 0, -100], [-100, 1, -100, -100, -100, -100]])
    whole = {**BATCH, "labels": labels}
    parts = [{name: values[row : row + 1] for name, values in whole.items()} for row in range(2)]
    together = head_sensitivities(model, Sample(problem, [whole]))
    apart = head_sensitivities(model, Sample(problem, parts))
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_sensitivity_is_the_derivative_by_a_factor_on_the_head(network: Any) -> None:
    one = {name: values[:1] for name, values in BATCH.items()}
    measured = sample([1])
    only = Sample(measured.problem, [{**one, "labels": torch.tensor([1])}])
    found = head_sensitivities(network, only)
    step = 1e-2
    for number, part in enumerate(attentions(network)):
        slopes = []
        for head in range(part.heads):
            losses = []
            for factor in (1 - step, 1 + step):

                def scale(_: nn.Module, given: Any, at: int = head, by: float = factor) -> Any:
                    inputs = given[0].clone()
                    inputs[..., at * 12 : (at + 1) * 12] *= by
                    return (inputs, *given[1:])

                handle = part.output.register_forward_pre_hook(scale)
                losses.append(only.loss(network))
                handle.remove()
            slopes.append(abs(losses[1] - losses[0]) / (2 * step))
        expected = np.array(slopes) / np.linalg.norm(slopes)
        np.testing.assert_allclose(found[number], expected, rtol=0.03, atol=0.01)


def test_magnitude_is_the_share_of_a_heads_weights(network: Any) -> None:
    weight = attentions(network)[0].output.weight
    with torch.no_grad():
        weight.zero_()
        weight[0, 0] = 3.0  # the first head's
        weight[5, 20] = 4.0  # the second's
    np.testing.assert_allclose(head_magnitudes(network)[0], [0.6, 0.8], rtol=1e-5)


def test_the_layer_that_does_nothing_goes_first(network: Any) -> None:
    layer = network.bert.encoder.layer[0]
    with torch.no_grad():
        for part in (layer.attention.output.dense, layer.output.dense):
            part.weight.zero_()
            part.bias.zero_()
        network.classifier.weight.mul_(20)
    said = logits(network).argmax(-1).tolist()
    notes = prune(network, CompressionSettings(prune_layers=1), sample(said))
    assert notes == ["layers cut out: 1 of 2 (measured)"]
    assert logits(network).argmax(-1).tolist() == said


@pytest.mark.parametrize(("choice", "left"), [("top", "4, 5, 6 of 6"), ("alternate", "2, 4, 5 of 6")])
def test_layers_are_chosen_without_records_too(choice: Any, left: str) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=6, num_attention_heads=2, intermediate_size=8
    )
    notes = prune(
        BertForSequenceClassification(config), CompressionSettings(prune_layers=3, choose_layers=choice), None
    )
    assert notes == [f"layers cut out: {left} ({choice})"]


def test_layers_with_the_smallest_weights_go_first(network: Any) -> None:
    first, second = network.bert.encoder.layer
    with torch.no_grad():
        second.load_state_dict(first.state_dict())
        first.attention.self.query.weight.mul_(0.5)
        second.attention.self.query.bias.fill_(-100.0)  # no matrix, so that it does not count
    notes = prune(network, CompressionSettings(prune_layers=1, choose_layers="magnitude"), None)
    assert notes == ["layers cut out: 1 of 2 (magnitude)"]


def test_each_layer_keeps_a_head(network: Any) -> None:
    (note,) = prune(network, CompressionSettings(prune_heads=0.99, head_importance="magnitude"), None)
    assert note == "heads cut out: 2 of 4 (magnitude); left in each layer: 1, 1"


def test_what_cannot_be_cut_or_rounded_gets_a_sentence(network: Any) -> None:
    with pytest.raises(SettingsError, match="has only 2 layers, of which one must stay"):
        prune(network, CompressionSettings(prune_layers=2), None)
    with pytest.raises(SettingsError, match="All heads of layer 2 would be cut out"):
        keep_heads(network, [[0], []])
    with pytest.raises(SettingsError, match="Layer 3 is to be kept, but the network has only 2"):
        keep_layers(network, [0, 2])
    with pytest.raises(SettingsError, match="needs labelled records to measure on"):
        prune(network, CompressionSettings(prune_layers=1), None)
    with pytest.raises(ValueError, match="less than 1"):
        CompressionSettings(prune_heads=1.0)
    to_int8(network)
    with pytest.raises(ModelError, match="in eight bits already"):
        to_int8(network)
    sizes = BackboneSettings(name="x", type="recurrent", layers=2)
    lstm = get_backbone("recurrent").build(
        Path("nowhere"), HEAD, dropout=0.0, attention="eager", blueprint=Blueprint(sizes, 30)
    )
    with pytest.raises(SettingsError, match="has no single stack of equal layers"):
        prune(lstm, CompressionSettings(prune_layers=1), None)
    with pytest.raises(SettingsError, match="has no single stack of equal layers"):
        prune(lstm, CompressionSettings(prune_heads=0.5, head_importance="magnitude"), None)


def test_weights_that_do_not_fit_their_configuration_get_a_sentence(network: Any, tmp_path: Path) -> None:
    to_int8(network)
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["catena_smaller"]["int8"]
    config["catena_smaller"]["heads"] = [1, 1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"The weights in .* cannot be read: .*size mismatch"):
        get_backbone("pretrained").load(tmp_path, HEAD, attention="eager")
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"The weights in .* cannot be read"):
        get_backbone("pretrained").load(tmp_path, HEAD, attention="eager")

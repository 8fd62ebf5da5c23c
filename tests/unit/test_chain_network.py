"""A chain's network: links add nothing at first, tails share one pass, what is stored comes back exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, LlamaConfig, LlamaModel

from catena.backbones import get_backbone
from catena.backbones.base import Blueprint
from catena.errors import ModelError, SettingsError
from catena.methods import HeadRequest, Surroundings
from catena.methods.chain import Chain
from catena.methods.chain_network import ChainNetwork
from catena.settings import BackboneSettings, ChainSettings, MethodSettings, TrainingSettings
from catena.training.optimizers import build_optimizer, build_schedule
from tests.tiny_project import write_backbone

HEADS = {
    "topics": HeadRequest("sequence-classification", ("a", "b", "c")),
    "tags": HeadRequest("token-classification", ("O", "B-x", "I-x")),
}
KINDS = ("linear", "bottleneck", "lora", "attention")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain") / "backbone"
    write_backbone(folder)
    return folder


def build(folder: Path, seed: int = 0, heads: Any = None, **chain: Any) -> ChainNetwork:
    torch.manual_seed(seed)
    body = AutoModel.from_pretrained(folder, attn_implementation="eager")
    settings = ChainSettings.model_validate(chain)
    return ChainNetwork(body, heads or HEADS, settings, pooling="mean", dropout=0.0).eval()


def texts(seed: int = 1) -> dict[str, torch.Tensor]:
    """Two texts of 9 and 5 tokens, padded to 12."""
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(2, 12, dtype=torch.long)
    mask[0, :9] = 1
    mask[1, :5] = 1
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_link_leaves_the_backbone_as_it_was_and_a_trained_one_does_not(
    backbone: Path, kind: str
) -> None:
    plain = build(backbone)
    linked = build(backbone, links=[{"after": 1, "kind": kind, "size": 4}])
    with torch.no_grad():
        before = plain.encode(**texts())
        assert torch.equal(before, linked.encode(**texts()))
        torch.nn.init.normal_(linked.links[0].write.weight)
        assert not torch.allclose(before, linked.encode(**texts()))


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_padding_changes_no_answer(backbone: Path, kind: str) -> None:
    network = build(backbone, links=[{"after": 2, "kind": kind, "size": 4}], tail_size=8)
    torch.nn.init.normal_(network.links[0].write.weight)
    torch.nn.init.normal_(network.tails["tags"].shapes.weight)  # type: ignore[union-attr]
    batch, other = texts(), texts()
    other["input_ids"] = torch.where(other["attention_mask"] == 1, other["input_ids"], 77)
    with torch.no_grad():
        for tail in HEADS:
            ours, theirs = (network(tail, **one).logits for one in (batch, other))
            if tail == "tags":
                ours, theirs = ours[1, :5], theirs[1, :5]
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_linear_link_adds_the_product_worked_out_by_hand(backbone: Path) -> None:
    network = build(backbone, links=[{"after": 2, "kind": "linear"}])
    with torch.no_grad():
        before = network.encode(**texts())
        network.links[0].write.weight.copy_(2.0 * torch.eye(24))  # type: ignore[union-attr]
        network.links[0].write.bias.fill_(0.5)  # type: ignore[union-attr]
        assert torch.allclose(network.encode(**texts()), 3.0 * before + 0.5, atol=1e-6)


def test_tails_answer_from_one_pass_what_they_answer_alone(backbone: Path) -> None:
    network = build(backbone, tail_size=8)
    with torch.no_grad():
        outputs = network.encode(**texts())
        for tail in HEADS:
            mask = texts()["attention_mask"]
            assert torch.equal(network.answer(tail, outputs, mask), network(tail, **texts()).logits)


def test_a_stored_chain_comes_back_exactly_and_its_folder_is_a_backbone_too(
    backbone: Path, tmp_path: Path
) -> None:
    chain = {"links": [{"after": 1, "kind": "attention", "size": 8}], "tail_size": 8}
    network = build(backbone, **chain)
    torch.nn.init.normal_(network.links[0].write.weight, std=0.1)  # type: ignore[union-attr]
    network.save(tmp_path)
    again = build(tmp_path, seed=5, **chain)
    again.load(tmp_path)
    with torch.no_grad():
        for tail in HEADS:
            assert torch.equal(network(tail, **texts()).logits, again(tail, **texts()).logits)
    body = get_backbone("pretrained").encoder(tmp_path, attention="eager")
    weights = network.body.state_dict()
    assert all(torch.equal(value, body.state_dict()[name]) for name, value in weights.items())


def test_a_chain_of_other_tails_is_refused(backbone: Path, tmp_path: Path) -> None:
    build(backbone).save(tmp_path)
    other = build(tmp_path, heads={"topics": HEADS["topics"]})
    with pytest.raises(ModelError, match="holds another chain"):
        other.load(tmp_path)


def test_a_link_after_a_layer_that_is_not_there_is_refused(backbone: Path) -> None:
    with pytest.raises(SettingsError, match=r"one after layer 3, but the backbone has only 2 layers"):
        build(backbone, links=[{"after": 3}])


def test_a_chain_goes_on_with_the_tails_it_has_and_refuses_changes(backbone: Path, tmp_path: Path) -> None:
    first = build(backbone, tail_size=8)
    first.save(tmp_path)
    more = {**HEADS, "new": HeadRequest("regression", ("value",))}
    second = build(tmp_path, seed=3, heads=more, tail_size=8)
    second.take_over(tmp_path)
    assert second.earlier == {"topics", "tags"}
    with torch.no_grad():
        assert torch.equal(first("tags", **texts()).logits, second("tags", **texts()).logits)
    for changed, message in (
        (
            {"heads": {"topics": HEADS["topics"]}, "tail_size": 8},
            "a tail tags, which `problem.tails`",
        ),
        ({"heads": more}, "a chain goes on with the links, the `tail_size` and the classes it has"),
        (
            {"heads": more, "tail_size": 8, "links": [{"after": 1}]},
            "with the links none, and `method.chain.links` has bottleneck after layer 1",
        ),
        (
            {
                "heads": {**HEADS, "topics": HeadRequest("multi-label-classification", ("a", "b", "c"))},
                "tail_size": 8,
            },
            "whose tail topics has a head for sequence-classification, and now it is to be one for multi-la",
        ),
        (
            {"heads": {**HEADS, "topics": HeadRequest("regression", ("x", "y", "z"))}, "tail_size": 8},
            "knows the classes a, b, c, and now its data have x, y, z",
        ),
    ):
        with pytest.raises(SettingsError, match=message):
            build(tmp_path, **changed).take_over(tmp_path)  # type: ignore[arg-type]


def test_a_link_that_would_move_to_another_layer_is_refused(backbone: Path, tmp_path: Path) -> None:
    build(backbone, links=[{"after": 1}]).save(tmp_path)
    with pytest.raises(
        SettingsError, match=r"links bottleneck after layer 1, and .* has bottleneck after lay"
    ):
        build(tmp_path, links=[{"after": 2}]).take_over(tmp_path)


def test_of_a_network_that_reads_forwards_the_last_token_speaks_for_the_text(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=80, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    body = LlamaModel(config)
    network = ChainNetwork(body, HEADS, ChainSettings(), pooling="native", dropout=0.0).eval()
    batch, other = texts(), texts()
    other["input_ids"][0, 8] += 1  # the last token of the first text
    with torch.no_grad():
        ours, theirs = (network("topics", **one).logits for one in (batch, other))
        hidden = body(**batch).last_hidden_state
        by_hand = network.tails["topics"].classifier(hidden[[0, 1], [8, 4]])  # type: ignore[operator,union-attr]
    assert torch.allclose(ours, by_hand, atol=1e-6)
    assert not torch.allclose(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_a_tail_of_tags_may_learn_which_follows_which(backbone: Path) -> None:
    network = build(backbone, heads={"tags": HeadRequest("token-chain", ("O", "B-x", "I-x"))})
    tail = network.tails["tags"]
    with torch.no_grad():
        tail.transitions[0, 2] = -0.1  # type: ignore[index,union-attr,operator]
        logits = network("tags", **texts()).logits
    assert logits.shape == (2, 12, 3 + 9)
    assert logits[1, 4, 3:].tolist() == pytest.approx([0, 0, -5.0, *[0] * 6])


def moving(network: ChainNetwork, **chain: Any) -> set[str]:
    method = Chain(MethodSettings.model_validate({"name": "chain", "chain": chain}))
    method.prepare(network, Surroundings("chain", HeadRequest("chain")))  # type: ignore[arg-type]
    return {name.split(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}


def test_a_frozen_backbone_moves_nothing_and_drops_nothing_out(backbone: Path) -> None:
    network = build(backbone, links=[{"after": 1}])
    assert moving(network, backbone_rate=0) == {"links", "tails"}
    network.train()
    assert not network.body.training
    assert network.tails.training
    assert moving(network, weighting="uncertainty") == {"body", "links", "tails", "uncertainty"}


def test_weights_and_uncertainty_count_a_loss_as_worked_out_by_hand(backbone: Path) -> None:
    network = build(backbone)
    chain = {"weights": {"tags": 3.0}, "weighting": "uncertainty"}
    method = Chain(MethodSettings.model_validate({"name": "chain", "chain": chain}))
    with torch.no_grad():
        network.uncertainty[1] = 0.8
    counted = method.weighed(network, "tags", torch.tensor(2.0))
    assert counted.item() == pytest.approx(3.0 * (2.0 * 0.449329 + 0.4), abs=1e-5)  # exp(-0.8) = 0.449329
    (gradient,) = torch.autograd.grad(counted, network.uncertainty)
    assert gradient.tolist() == pytest.approx([0.0, 3.0 * (0.5 - 2.0 * 0.449329)], abs=1e-5)
    assert method.weighed(network, "topics", torch.tensor(2.0)).item() == 2.0


def test_uncertainties_get_where_the_losses_want_them_at_the_learning_rates_of_networks(
    backbone: Path,
) -> None:
    network = build(backbone)
    method = Chain(MethodSettings.model_validate({"name": "chain", "chain": {"weighting": "uncertainty"}}))
    method.prepare(network, Surroundings("chain", HeadRequest("chain")))  # type: ignore[arg-type]
    settings = TrainingSettings(learning_rate=5e-5)
    optimizer = build_optimizer(network, settings, method.learning_rates(network))  # type: ignore[arg-type]
    schedule = build_schedule(optimizer, settings, 1500, True)
    losses = {"topics": 0.05, "tags": 1.5}
    for _ in range(1500):
        optimizer.zero_grad()
        sum(method.weighed(network, name, torch.tensor(loss)) for name, loss in losses.items()).backward()
        optimizer.step()
        schedule.step()
    # log σ² is least at log(2 · loss): a task that does well counts ten times, the other a third
    wanted = [math.log(2 * losses[name]) for name in network.tails]
    assert network.uncertainty.tolist() == pytest.approx(wanted, abs=0.1)


def test_tails_of_images_share_a_convolutional_backbone_with_links(tmp_path: Path) -> None:
    settings = BackboneSettings(type="resnet", name="r", hidden_sizes=(8, 12), depths=(1, 1), input_size=32)
    body = get_backbone("resnet").build(
        tmp_path, HeadRequest("image-classification", ("", "")), dropout=None, attention="eager",
        blueprint=Blueprint.of(settings, None),
    )  # fmt: skip
    heads = {
        name: HeadRequest("image-classification", labels)
        for name, labels in {"digit": ("0", "1", "2"), "odd": ("no", "yes")}.items()
    }
    links = {"links": [{"after": 1, "kind": "attention", "size": 4}, {"after": 2, "kind": "bottleneck"}]}
    network = ChainNetwork(body, heads, ChainSettings.model_validate(links), pooling="native", dropout=0.0)
    assert [link.write.out_features for link in network.links] == [8, 12]  # type: ignore[union-attr]
    pixels = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        network.eval()
        vectors = network.encode(pixel_values=pixels)
        for name, labels in (("digit", 3), ("odd", 2)):
            assert network(name, pixel_values=pixels).logits.shape == (2, labels)
            assert torch.equal(network.answer(name, vectors), network(name, pixel_values=pixels).logits)

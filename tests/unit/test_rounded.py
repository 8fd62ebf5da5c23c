"""Linear layers that keep rounded weights."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from catena.backbones.rounded import RoundedLinear, keep_rounded
from catena.predictor import Predictor
from tests.tiny_model import build_tiny_model

INPUTS = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4, bias=False)).eval()


def answers(model: nn.Module, rounds: int = 1, precision: torch.dtype = torch.bfloat16) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", precision):
        for _ in range(rounds):
            said = model(INPUTS)
    return said


def test_answers_are_those_of_autocast_to_the_last_bit_also_the_second_time() -> None:
    plain = network()
    kept = copy.deepcopy(plain)
    keep_rounded(kept)
    assert all(type(kept[at]) is RoundedLinear for at in (0, 2))
    assert torch.equal(answers(kept), answers(plain))
    rounded = kept[0]._kept
    assert rounded is not None and rounded[0].dtype == torch.bfloat16
    assert torch.equal(answers(kept, rounds=2), answers(plain))
    assert kept[0]._kept is rounded
    kept.float()
    assert kept[0]._kept is None


def test_float32_still_finds_the_exact_weights() -> None:
    plain = network()
    kept = copy.deepcopy(plain)
    keep_rounded(kept)
    answers(kept)
    with torch.inference_mode():
        assert torch.equal(kept(INPUTS), plain(INPUTS))
    assert {name: value.dtype for name, value in kept.state_dict().items()} == {
        name: value.dtype for name, value in plain.state_dict().items()
    }


def test_what_is_loaded_later_is_what_answers() -> None:
    kept, other = network(), network()
    with torch.no_grad():
        other[0].weight.mul_(3)
    keep_rounded(kept)
    before = answers(kept)
    kept.load_state_dict(other.state_dict())
    assert torch.equal(answers(kept), answers(other))
    assert not torch.equal(answers(kept), before)


def test_weights_changed_in_place_or_replaced_are_what_answers() -> None:
    kept, other = network(), network()
    keep_rounded(kept)
    answers(kept)
    with torch.no_grad():
        kept[0].weight.mul_(3)
        other[0].weight.mul_(3)
    assert torch.equal(answers(kept), answers(other))
    kept[2].weight = nn.Parameter(torch.ones(4, 32))
    other[2].weight = nn.Parameter(torch.ones(4, 32))
    assert torch.equal(answers(kept), answers(other))


def test_a_predictor_keeps_them_where_it_does_not_compute_in_float32(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    rounded, exact = (
        Predictor.load(model, device="cpu", precision=precision) for precision in ("bfloat16", "float32")
    )
    kinds = [{type(part) for part in one.model.modules()} for one in (rounded, exact)]
    assert RoundedLinear in kinds[0] and nn.Linear not in kinds[0]
    assert RoundedLinear not in kinds[1]


def test_a_copy_and_another_precision_do_not_use_what_was_kept() -> None:
    kept = network()
    keep_rounded(kept)
    answers(kept)
    assert copy.deepcopy(kept)[0]._kept is None
    assert torch.equal(answers(kept, precision=torch.float16), answers(network(), precision=torch.float16))


def test_gradients_reach_the_exact_weights() -> None:
    kept = network()
    keep_rounded(kept)
    answers(kept)
    with torch.autocast("cpu", torch.bfloat16):
        kept(INPUTS).float().sum().backward()
    assert kept[0].weight.grad is not None


def test_kinds_of_linear_layers_with_a_forward_of_their_own_stay_as_they_are() -> None:
    attention = nn.MultiheadAttention(8, 2)
    before = type(attention.out_proj)
    keep_rounded(attention)
    assert type(attention.out_proj) is before

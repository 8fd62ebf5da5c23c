"""Linear layers that keep rounded weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from catena.backbones.rounded import RoundedLinear, keep_rounded

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
    assert torch.equal(answers(kept, rounds=2), answers(plain))


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

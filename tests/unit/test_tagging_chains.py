"""Conditional random fields over tags, against sums over all paths that could be."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from catena.backbones import get_backbone
from catena.errors import SettingsError
from catena.problems import get_problem
from catena.problems.tag_chains import chain_loss, log_partition, marginals, path_likelihood, tag_count
from catena.problems.tag_decoding import allowed_transitions, best_tags, decode
from catena.problems.tag_features import IGNORED
from catena.problems.tag_schemes import tag_names
from catena.settings import ProblemSettings, parse_settings
from tests.tiny_project import write_backbone

TAGS = tag_names(["LOC", "PER"])
FIRST, FOLLOWING = allowed_transitions(TAGS)
CHANCE = np.random.default_rng(3)
SCORES = CHANCE.normal(size=(4, 5)) * 2
LEARNED = CHANCE.normal(size=(5, 5)) * 2


def paths(words: int, *, begins: bool = True) -> dict[tuple[int, ...], float]:
    """The score of each path of so many words that breaks no rule; with `begins`, none begins with an I."""
    found = {}
    for path in itertools.product(range(5), repeat=words):
        if all(FOLLOWING[a, b] for a, b in itertools.pairwise(path)) and (FIRST[path[0]] or not begins):
            moved = sum(LEARNED[a, b] for a, b in itertools.pairwise(path))
            found[path] = sum(SCORES[at, tag] for at, tag in enumerate(path)) + moved
    return found


def logits(rows: list[list[int]], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network says of rows whose labelled tokens are at these places, and labels to be filled in."""
    said = torch.full((len(rows), length, 30), 7.0)
    said[..., 5:] = torch.from_numpy(LEARNED).flatten().float()
    for row, places in enumerate(rows):
        for word, place in enumerate(places):
            said[row, place, :5] = torch.from_numpy(SCORES[word]).float()
    return said.requires_grad_(), torch.full((len(rows), length), IGNORED)


def test_the_loss_is_that_of_all_paths_counted_one_by_one() -> None:
    given, labels = logits([[1, 2, 4, 6], [], [3, 4]], 8)
    first, second = (0, 1, 2, 0), (3, 4)
    labels[0, [1, 2, 4, 6]] = torch.tensor(first)
    labels[2, [3, 4]] = torch.tensor(second)
    expected = 0.0
    for path in (first, second):
        # a window may begin inside an entity
        everything = paths(len(path), begins=False)
        expected -= everything[path] - np.log(sum(map(np.exp, everything.values())))
    loss = chain_loss(given, labels, FOLLOWING, IGNORED)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)
    loss.backward()
    assert given.grad is not None and given.grad.isfinite().all()
    assert not given.grad[0, 0, :5].any() and not given.grad[1, :, :5].any()
    nothing = chain_loss(given, torch.full_like(labels, IGNORED), FOLLOWING, IGNORED)
    assert nothing.item() == 0.0


def test_half_precision_scores_are_summed_in_float32() -> None:
    given, labels = logits([[1, 2, 4, 6]], 8)
    labels[0, [1, 2, 4, 6]] = torch.tensor([0, 1, 2, 0])
    rounded = given.detach().bfloat16()
    loss = chain_loss(rounded, labels, FOLLOWING, IGNORED)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, chain_loss(rounded.float(), labels, FOLLOWING, IGNORED))


def test_marginals_and_the_partition_are_sums_over_all_paths() -> None:
    everything = paths(4)
    total = sum(map(np.exp, everything.values()))
    expected = np.zeros((4, 5))
    for path, score in everything.items():
        expected[np.arange(4), path] += np.exp(score) / total
    np.testing.assert_allclose(marginals(SCORES, LEARNED, FIRST, FOLLOWING), expected, atol=1e-12)
    assert log_partition(SCORES, LEARNED, FIRST, FOLLOWING) == pytest.approx(np.log(total))
    anywhere = paths(4, begins=False)
    path = max(anywhere, key=lambda one: anywhere[one])
    likelihood = path_likelihood(SCORES, LEARNED, np.array(path), FOLLOWING)
    assert likelihood == pytest.approx(anywhere[path] - np.log(sum(map(np.exp, anywhere.values()))))


def test_the_best_path_is_the_best_of_all_that_could_be() -> None:
    everything = paths(4)
    best = max(everything, key=lambda path: everything[path])
    assert best_tags(SCORES, FIRST, FOLLOWING, LEARNED).tolist() == list(best)
    assert best_tags(SCORES, FIRST, FOLLOWING).tolist() != list(best), "transitions must matter here"


def test_decoding_takes_learned_transitions_from_the_logits() -> None:
    said = np.concatenate([SCORES, np.tile(LEARNED.ravel(), (4, 1))], axis=1).astype(np.float32)
    words = [(0, 1), (2, 3), (4, 5), (6, 7)]
    everything = paths(4)
    best = max(everything, key=lambda path: everything[path])
    found, sure = decode((words, said), TAGS, "a b c d")
    begun = [words[at][0] for at, tag in enumerate(best) if TAGS[tag].startswith("B")]
    assert [start for (start, _, _), _ in found] == begun
    chances = marginals(SCORES, LEARNED, FIRST, FOLLOWING)[np.arange(4), best]
    assert sure == pytest.approx(chances.min(), rel=1e-4)


def test_the_number_of_tags_follows_from_the_width() -> None:
    assert [tag_count(tags + tags * tags) for tags in (1, 3, 5, 9, 101)] == [1, 3, 5, 9, 101]
    with pytest.raises(ValueError, match="31 is no number of tags"):
        tag_count(31)


def test_transitions_are_stored_with_the_network_and_begin_at_zero(tmp_path: Path) -> None:
    write_backbone(tmp_path / "backbone")
    problem = get_problem(ProblemSettings(name="tagging", crf=True))
    head = problem.head(("LOC",))
    pretrained = get_backbone("pretrained")
    model = pretrained.build(tmp_path / "backbone", head, dropout=0.0, attention="eager").eval()
    ids = torch.tensor([[2, 7, 9, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    before = model(**batch).logits
    assert before.shape == (1, 4, 3 + 9)
    assert not before[..., 3:].any()
    with torch.no_grad():
        model.transitions.copy_(torch.arange(9.0).reshape(3, 3) / 100)
    model.save_pretrained(tmp_path / "model")
    again = pretrained.load(tmp_path / "model", head, attention="eager")
    torch.testing.assert_close(model(**batch).logits, again(**batch).logits)
    torch.testing.assert_close(again(**batch).logits[0, 2, 3:], torch.arange(9.0) / 2)


def test_an_optimiser_learns_which_tag_follows_which() -> None:
    """Words say nothing; a B is always followed by an I. Only transitions can know."""
    problem = get_problem(ProblemSettings(name="tagging", crf=True))
    transitions = torch.zeros(3, 3, requires_grad=True)
    labels = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 0, 0]])
    optimizer = torch.optim.Adam([transitions], lr=0.1)
    losses = []
    for _ in range(150):
        said = torch.cat([torch.zeros(2, 6, 3), transitions.flatten().expand(2, 6, -1)], dim=-1)
        loss = problem.loss(said, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8 and losses[-1] < 0.5
    assert transitions[1].argmax() == 2  # I after B
    assert transitions[1, 2] > transitions[1, 0] + 2
    metrics = problem.validation_metrics(list(said.detach().numpy()), list(labels.numpy()))
    assert metrics["log_loss"] == pytest.approx(losses[-1], rel=1e-4)


def test_what_does_not_go_with_chains_is_refused() -> None:
    with pytest.raises(SettingsError, match="`crf` learns sequences of words"):
        parse_settings({"problem": {"name": "tagging", "crf": True, "labelled_pieces": "all"}})
    problem = get_problem(ProblemSettings(name="tagging", crf=True))
    given, labels = logits([[1]], 3)
    with pytest.raises(SettingsError, match="label_smoothing"):
        problem.loss(given, labels, label_smoothing=0.1)

"""Words after prompts and at masks are as likely as the plain network finds them; calibration by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from catena.methods.prompt_layout import Prompt
from catena.methods.prompt_scores import CausalScores, MaskedScores, calibrated, label_scores, whole_scores
from tests.tiny_language_model import tiny_network, tiny_tokenizer

SHARED = [20, 31, 40, 52, 33, 21]
TEXTS = [[50, 60, 70, 80, 90], [44], [61, 62, 63], [99, 98, 97, 96, 95, 94, 93], [50, 61]]
WORDS = [[70], [71, 80], [72, 81, 90], [73]]


def alone(network: Any, prompt: list[int], word: list[int]) -> float:
    """The log-probability of one word after one prompt, by the network without anything of ours."""
    logits = network(input_ids=torch.tensor([[*prompt, *word]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + at, token]) for at, token in enumerate(word))


@pytest.mark.parametrize(("kind", "attention"), [("llama", "eager"), ("llama", "sdpa"), ("gpt2", "eager")])
def test_with_a_shared_beginning_each_word_scores_as_in_a_text_of_its_own(kind: str, attention: str) -> None:
    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer, kind, attention)
    prompts = [Prompt([*SHARED, *text], len(SHARED)) for text in TEXTS]
    prompts.append(Prompt([77, 78, 79], 2))  # one that begins with something else
    scorer = CausalScores(network, tokenizer.pad_token_id, keeps=True)
    with torch.no_grad():
        expected = torch.tensor([[alone(network, prompt.ids, word) for word in WORDS] for prompt in prompts])
        found = scorer(prompts, WORDS)
        again = scorer(prompts[::-1][1:], WORDS)  # the beginning is kept from before
    assert found.std() > 0.5, "the network says the same everywhere, so nothing is tested"
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(again, expected[:-1].flip(0), atol=2e-4, rtol=1e-4)


def test_scores_for_training_are_the_same_and_have_gradients() -> None:
    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer)
    prompts = [[*SHARED, *text] for text in TEXTS]
    with torch.no_grad():
        expected = torch.tensor([[alone(network, prompt, word) for word in WORDS] for prompt in prompts])
    found = whole_scores(network, prompts, WORDS, tokenizer.pad_token_id)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    found.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    single = whole_scores(network, prompts, [[70], [73]], tokenizer.pad_token_id)
    torch.testing.assert_close(single.detach(), expected[:, [0, 3]], atol=2e-4, rtol=1e-4)


def test_words_at_several_masks_score_as_in_a_batch_of_one() -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    network = BertForMaskedLM(BertConfig(vocab_size=100, **sizes)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3.0)
    mask = 4
    prompts = [
        Prompt([2, *text, mask, mask, 9, 3], 0, 1 + len(text)) for text in ([mask, 8], [7], [5, 6, 7, 8])
    ]
    words = [[10, 11], [12, 13], [10, 13]]
    with torch.no_grad():
        found = MaskedScores(network, 0)(prompts, words)
        for row, prompt in enumerate(prompts):
            logits = network(input_ids=torch.tensor([prompt.ids])).logits[0].double().log_softmax(-1)
            for column, word in enumerate(words):
                at = prompt.mask_at
                expected = float(logits[at, word[0]] + logits[at + 1, word[1]])
                assert float(found[row, column]) == pytest.approx(expected, abs=1e-4)


def test_calibration_divides_by_what_is_said_of_records_without_content() -> None:
    """Content-free probabilities 0.9, 0.1 and 0.7, 0.3: on average 0.8, 0.2. Of a record 0.6, 0.4 becomes
    0.6 / 0.8 = 0.75 against 0.4 / 0.2 = 2, so the second label has 2 / 2.75."""
    content_free = torch.tensor([[[0.9, 0.1], [0.7, 0.3]]]).log()
    # scores need not sum to 1: what the labels' words have together is left to no word
    scores = (torch.tensor([[0.6, 0.4], [0.8, 0.2]]) * 0.01).log()
    probabilities = calibrated(scores, content_free).softmax(-1)
    torch.testing.assert_close(probabilities[0], torch.tensor([0.75 / 2.75, 2.0 / 2.75]))
    torch.testing.assert_close(probabilities[1], torch.tensor([0.5, 0.5]))


def test_pmi_is_what_the_record_adds_to_a_words_probability_in_the_domain() -> None:
    """A word of 0.3, in the domain 0.6, loses half; one of 0.1, in the domain 0.05, doubles, and wins."""
    scores = torch.tensor([[math.log(0.3), math.log(0.1)]])
    found = label_scores(scores, [1, 1], [0, 1], "pmi", [math.log(0.6), math.log(0.05)])
    torch.testing.assert_close(found.exp(), torch.tensor([[0.5, 2.0]]))


def test_length_takes_the_mean_over_a_words_tokens_and_several_words_their_mean_probability() -> None:
    scores = torch.tensor([[-6.0, math.log(0.2), math.log(0.4)]])
    found = label_scores(scores, [3, 1, 1], [0, 1, 1], "length", [])
    torch.testing.assert_close(found, torch.tensor([[-2.0, math.log(0.3)]]))
    plain = label_scores(scores, [3, 1, 1], [0, 1, 1], "none", [])
    torch.testing.assert_close(plain[0, 0], torch.tensor(-6.0))

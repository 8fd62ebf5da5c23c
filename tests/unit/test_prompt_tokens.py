"""Words of a text and answers in a passage, asked of language models: logits as problems' heads give."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from catena.errors import SettingsError
from catena.methods import Surroundings, get_method
from catena.problems import HeadSpec, get_problem
from catena.settings import TokenizationSettings, parse_settings
from tests.tiny_language_model import tiny_network, tiny_tokenizer

NAMES = {
    "pattern": "{text}\nIn it {word} is a {label}",
    "verbalizer": {"O": "thing", "PER": ["person", "name"]},
}
ASKED = {"pattern": "{context}\nQ: {question}\nA:{label}"}


def asked(
    problem: str, template: dict[str, Any], records: Any = None, network: Any = None, **prompt: Any
) -> Any:
    tokenizer = tiny_tokenizer(None)
    tokenizer.model_max_length = 256
    chosen = parse_settings({"method": {"name": "prompt", "prompt": {"template": template, **prompt}}})
    head = get_problem(problem).head(("PER",) if problem == "tagging" else ())
    method = get_method(chosen.method)
    method.check(problem, head)
    around = Surroundings(problem, head, tokenizer, records, seed=3)
    return method.prepare(network or tiny_network(tokenizer), around)


def features(problem: str, table: dict[str, list[str]], tokenizer: Any) -> dict[str, list[Any]]:
    records = pd.DataFrame(table, dtype="str")
    return get_problem(problem).encode(records, tokenizer, TokenizationSettings(max_length=128), ("PER",))


def rows(found: dict[str, list[Any]]) -> list[dict[str, Any]]:
    names = [name for name in found if name not in ("record", "n_tokens")]
    count = len(found["input_ids"])
    return [{name: np.asarray(found[name][row]) for name in names} for row in range(count)]


def test_each_word_has_the_probabilities_of_the_labels_words_after_its_prompt() -> None:
    model = asked("tagging", NAMES)
    tokenizer, network = model.asker.layout.tokenizer, model.network
    found = features("tagging", {"text": ["the sky of blue"]}, tokenizer)
    batch = get_problem("tagging").collate(rows(found), 0)
    with torch.inference_mode():
        logits = model(**batch).logits[0]
    assert model.tags == ("O", "B-PER", "I-PER")

    def said(prompt: str, word: str) -> float:
        ids, tail = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, word))
        with torch.no_grad():
            scores = network(input_ids=torch.tensor([[*ids, *tail]])).logits[0].double().log_softmax(-1)
        return float(sum(scores[len(ids) - 1 + at, token] for at, token in enumerate(tail)))

    before = "O"
    for start, word in zip((0, 4, 8, 11), ("the", "sky", "of", "blue"), strict=True):
        prompt = f"the sky of blue\nIn it {word} is a"
        name = np.logaddexp(said(prompt, " person"), said(prompt, " name")) - np.log(2)
        expected = torch.tensor([said(prompt, " thing"), name]).log_softmax(-1)
        at = found["word_starts"][0].index(start)
        label = ("O", "PER")[int(expected.argmax())]
        mine = 2 if before == label == "PER" else 1  # I after a neighbour of the same label, else B
        before = label
        assert [float(logits[at, 0]), float(logits[at, mine])] == pytest.approx(expected.tolist(), abs=2e-3)
        assert float(logits[at].exp().sum()) == pytest.approx(1.0, abs=1e-3)


def test_words_are_examples_too_one_of_each_label_first() -> None:
    tokenizer = tiny_tokenizer(None)
    table = {
        "text": ["ann says no", "blue is bob", "the sky"],
        "entities": ['[[0, 3, "PER"]]', '[[8, 11, "PER"]]', "[]"],
    }
    model = asked("tagging", NAMES, rows(features("tagging", table, tokenizer)), shots=2)
    shown = {
        example.label: tokenizer.decode(example.slots["word"]) for example in model.asker.memory.examples
    }
    assert shown[1] in ("ann", "bob")
    assert shown[0] in ("says", "blue", "the")
    with pytest.raises(SettingsError, match="has only 3 records"):
        asked("tagging", NAMES, rows(features("tagging", table, tokenizer)), shots=4)


def saying(tokenizer: Any, prompt_end: str, text: str) -> Any:
    """A network whose weights are set by hand: after `prompt_end` it writes `text`, whatever was before."""
    network = tiny_network(tokenizer)
    ids = tokenizer(prompt_end + text, add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == len(ids), "a token that comes twice has two successors"
    with torch.no_grad():
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        network.model.norm.weight.fill_(1.0)
        network.model.embed_tokens.weight.zero_()
        network.lm_head.weight.zero_()
        for place, (token, following) in enumerate(pairwise(ids)):
            network.model.embed_tokens.weight[token, place] = 1.0
            network.lm_head.weight[following, place] = 5.0
    return network


def test_what_the_network_writes_is_found_in_the_passage() -> None:
    tokenizer = tiny_tokenizer(None)
    network = saying(tokenizer, ":", " blue\n")
    model = asked("answering", ASKED, network=network)
    problem = get_problem("answering")
    table = {"question": ["what colour?"] * 2, "context": ["the sky? blue, they say", "grass"]}
    found = features("answering", table, tokenizer)
    records = pd.DataFrame(table, dtype="str")
    with torch.inference_mode():
        logits = model(**problem.collate(rows(found), 0)).logits
    outputs = [logits[row, : len(found["input_ids"][row])].numpy() for row in range(len(found["input_ids"]))]
    said = problem.predictions(outputs, records, found, ("no answer",))
    assert said["answer"].iloc[0].strip() == "blue"
    assert said["confidence"].iloc[0] > 0.99
    # the second passage has no such word, so the answer is not in it
    assert said["no_answer"].iloc[1] > 0.99


def test_examples_of_questions_show_their_answers() -> None:
    tokenizer = tiny_tokenizer(None)
    table = {
        "question": ["what colour?"],
        "context": ["the sky? blue, they say"],
        "answers": ['[[9, "blue"]]'],
    }
    model = asked("answering", ASKED, rows(features("answering", table, tokenizer)), shots=1)
    (example,) = model.asker.memory.examples
    assert example.said == "blue"
    assert tokenizer.decode(example.slots["question"]) == "what colour?"


def test_questions_without_hints_are_refused() -> None:
    tokenizer = tiny_tokenizer(None)
    plain = [{"input_ids": np.array([5, 6]), "labels": np.array([0, 0])}]
    with pytest.raises(SettingsError, match=r"`problem\.hints` must be on"):
        asked("answering", ASKED, plain, shots=1)
    model = asked("answering", ASKED, network=tiny_network(tokenizer))
    from catena.errors import ModelError

    with pytest.raises(ModelError, match=r"`problem\.hints`, which must be on"):
        model(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.tensor([[1, 1]]))


def test_the_head_of_another_problem_is_refused() -> None:
    chosen = parse_settings({"method": {"name": "prompt", "prompt": {"template": NAMES}}})
    with pytest.raises(SettingsError, match="has no word for 'ORG'"):
        get_method(chosen.method).check(
            "tagging", HeadSpec("token-classification", ("O", "B-PER", "I-PER", "B-ORG", "I-ORG"))
        )

"""Prompts as they are put together, and networks that are asked in them: tiny, real and untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catena.errors import SettingsError
from catena.methods import Surroundings, get_method
from catena.methods.prompt_answering import locate
from catena.methods.prompt_examples import Example, Nearest, draw
from catena.methods.prompt_words import pieces, words
from catena.problems import HeadSpec
from catena.problems.features import pad_inputs
from catena.settings import parse_settings
from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_project import write_backbone

COLOURS: dict[str, Any] = {
    "pattern": "The thing: {text}\nColour: {label}",
    "verbalizer": {"b": "blue", "g": ["green", "of grass"]},
    "separator": "\n--\n",
}
HEAD = HeadSpec("sequence-classification", ("b", "g"))
TEXTS = ["the sky", "grass", "sea and sky", "a leaf of grass", "blue, they say", "a no"]


def records(tokenizer: Any, texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    ids = tokenizer(texts)["input_ids"]
    return [{"input_ids": np.array(one), "labels": at % 2} for at, one in enumerate(ids)]


def asked(
    template: dict[str, Any] = COLOURS, network: Any = None, tokenizer: Any = None, **prompt: Any
) -> Any:
    tokenizer = tokenizer or tiny_tokenizer()
    chosen = parse_settings({"method": {"name": "prompt", "prompt": {"template": template, **prompt}}})
    method = get_method(chosen.method)
    method.check("classification", HEAD)
    around = Surroundings("classification", HEAD, tokenizer, records(tokenizer), seed=3)
    return method.prepare(network or tiny_network(tokenizer), around)


def logits(model: Any, texts: list[str]) -> torch.Tensor:
    tokenizer = model.asker.layout.tokenizer
    with torch.inference_mode():
        found: torch.Tensor = model(
            **pad_inputs([{"input_ids": one} for one in tokenizer(texts)["input_ids"]], 0)
        ).logits
    return found


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def prompt_text(model: Any, text: str) -> str:
    tokenizer = model.asker.layout.tokenizer
    ids = plain_ids(tokenizer, text)
    own = model.asker.shown([{"text": ids}])[0]
    made = model.asker.layout.prompt({"text": ids}, model.asker.examples(own))
    return str(tokenizer.decode(made.ids))


def test_a_prompt_reads_as_if_it_were_one_text_and_is_tokenized_like_it() -> None:
    model = asked()
    tokenizer = model.asker.layout.tokenizer
    text = "The thing: a leaf of grass\nColour:"
    assert prompt_text(model, "a leaf of grass") == text
    made = model.asker.layout.prompt({"text": plain_ids(tokenizer, "a leaf of grass")})
    assert made.ids == plain_ids(tokenizer, text)
    # the space before the label belongs to its word
    assert [tokenizer.decode(word) for word in model.asker.verbalized.words] == [
        " blue",
        " green",
        " of grass",
    ]
    assert tokenizer.decode(made.ids[: made.shared]) == "The thing:"


def test_examples_stand_before_the_question_each_with_its_label() -> None:
    model = asked({**COLOURS, "task": "Say the colour."}, shots=2)
    shown = model.asker.memory.examples
    assert sorted(example.label for example in shown) == [0, 1]
    parts = prompt_text(model, "the gulf").split("\n--\n")
    assert parts[0] == "Say the colour."
    for example, part in zip(shown, parts[1:3], strict=True):
        text = model.asker.layout.tokenizer.decode(example.slots["text"])
        assert part == f"The thing: {text}\nColour: {['blue', 'green'][example.label]}"
    assert parts[3] == "The thing: the gulf\nColour:"


def test_a_record_is_never_its_own_example() -> None:
    model = asked(shots=6)
    own, other = (plain_ids(model.asker.layout.tokenizer, text) for text in (TEXTS[0], "another"))
    shown = model.asker.shown([{"text": own}, {"text": other}])
    assert [len(examples) for examples in shown] == [5, 6]
    assert own not in [example.slots["text"] for example in shown[0]]


def test_a_chat_template_holds_examples_as_earlier_turns() -> None:
    model = asked({**COLOURS, "task": "Say it."}, shots=1, chat=True)
    example = model.asker.memory.examples[0]
    text = model.asker.layout.tokenizer.decode(example.slots["text"])
    word = ["blue", "green"][example.label]
    assert prompt_text(model, "the gulf") == (
        "<|im_start|>system\nSay it.<|im_end|>\n"
        f"<|im_start|>user\nThe thing: {text}\nColour:<|im_end|>\n<|im_start|>assistant\n{word}<|im_end|>\n"
        "<|im_start|>user\nThe thing: the gulf\nColour:<|im_end|>\n<|im_start|>assistant\n"
    )
    with pytest.raises(SettingsError, match="no chat template"):
        asked(chat=True, tokenizer=tiny_tokenizer(None))


def test_logits_are_the_log_probabilities_of_the_labels_words() -> None:
    model = asked()
    tokenizer, network = model.asker.layout.tokenizer, model.network
    found = logits(model, ["the sky", "a leaf of grass"])
    for row, text in enumerate(["the sky", "a leaf of grass"]):
        prompt = plain_ids(tokenizer, f"The thing: {text}\nColour:")

        def said(word: str, prompt: list[int] = prompt) -> float:
            ids = plain_ids(tokenizer, word)
            with torch.no_grad():
                scores = network(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(-1)
            return float(sum(scores[len(prompt) - 1 + at, token] for at, token in enumerate(ids)))

        green = np.log((np.exp(said(" green")) + np.exp(said(" of grass"))) / 2)
        assert found[row].tolist() == pytest.approx([said(" blue"), green], abs=1e-3)


@pytest.mark.parametrize("choice", ["balanced", "similar"])
def test_after_contextual_calibration_a_record_without_content_has_no_preference(choice: str) -> None:
    plain = asked(shots=2, choice=choice)
    model = asked(shots=2, choice=choice, calibration="contextual", content_free=["N/A"])
    assert abs(float(torch.diff(logits(plain, ["N/A"])[0]))) > 0.1
    assert float(torch.diff(logits(model, ["N/A"])[0])) == pytest.approx(0.0, abs=1e-4)
    assert abs(float(torch.diff(logits(model, ["the sky"])[0]))) > 1e-3


def test_pmi_takes_off_what_the_words_have_after_the_patterns_end() -> None:
    plain, model = asked(), asked(normalization="pmi")
    tokenizer = model.asker.layout.tokenizer
    after = plain_ids(tokenizer, "Colour:")
    expected = []
    with torch.no_grad():
        for word in model.asker.verbalized.words:
            scores = model.network(input_ids=torch.tensor([[*after, *word]])).logits[0].log_softmax(-1)
            expected.append(float(sum(scores[len(after) - 1 + at, token] for at, token in enumerate(word))))
    assert model.asker.memory.domain == pytest.approx(expected, abs=1e-3)
    blue = logits(plain, ["the sky"])[0, 0] - logits(model, ["the sky"])[0, 0]
    assert float(blue) == pytest.approx(expected[0], abs=1e-3)


def test_what_does_not_fit_is_left_out_examples_first_and_counted() -> None:
    model = asked(shots=4, max_length=40)
    text = "the sky of grass"
    assert prompt_text(model, text).endswith(f"The thing: {text}\nColour:")
    overflow = model.asker.layout.overflow
    assert overflow.examples_dropped > 0
    assert overflow.texts_shortened == 0
    logits(model, ["sky " * 60])
    assert overflow.texts_shortened == 1
    with pytest.raises(SettingsError, match="template alone takes more tokens"):
        asked(max_length=8)


def test_words_that_the_tokenizer_does_not_know_or_tell_apart_are_refused(tmp_path: Path) -> None:
    network, tokenizer = masked(tmp_path)
    cloze = {"pattern": "{text} is {mask} .", "verbalizer": {"b": "bank", "g": "wheat"}}
    assert logits(asked(cloze, network, tokenizer), ["cargo"]).shape == (1, 2)
    for spellings, message in (
        ({"b": "ßß", "g": "wheat"}, "word 'ßß' for 'b' holds nothing, or something"),
        ({"b": "\u200b\u200d", "g": "wheat"}, "holds nothing, or something"),
        ({"b": "Wheat", "g": "wheat"}, "the same to the network"),
    ):
        with pytest.raises(SettingsError, match=message):
            asked({**cloze, "verbalizer": spellings}, network, tokenizer)
    with pytest.raises(SettingsError, match=r"choose others, or `method\.prompt\.masks: several`"):
        several = {**cloze, "verbalizer": {"b": "xa", "g": "xb"}}
        asked(several, network, tokenizer, masks="first")
    assert logits(asked(several, network, tokenizer), ["cargo"]).shape == (1, 2)
    with pytest.raises(SettingsError, match=r"no slot \{mask\} for it to fill in"):
        asked({**cloze, "pattern": "{text} is {label}"}, network, tokenizer)
    with pytest.raises(SettingsError, match="is a causal language model"):
        asked({**cloze, "verbalizer": {"b": "blue", "g": "green"}}, tokenizer=with_mask())


def with_mask() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<|im_start|>"})
    return tokenizer


def masked(folder: Path) -> tuple[Any, Any]:
    """A tiny BERT with a head for masks, untrained, and its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

    write_backbone(folder)
    torch.manual_seed(0)
    network = BertForMaskedLM(AutoConfig.from_pretrained(folder)).eval()
    return network, AutoTokenizer.from_pretrained(folder)


def test_a_mask_in_the_text_is_not_taken_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    network, tokenizer = masked(tmp_path)
    cloze = {"pattern": "{text} is {mask} .", "verbalizer": {"b": "bank", "g": "wheat"}}
    model = asked(cloze, network, tokenizer)
    ids = tokenizer("cargo [MASK] dock is [MASK] .", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        at = (ids[0] == tokenizer.mask_token_id).nonzero()[-1, 0]
        scores = network(input_ids=ids).logits[0, at].log_softmax(-1)
    bank, wheat = tokenizer.convert_tokens_to_ids(["bank", "wheat"])
    expected = scores[[bank, wheat]]
    torch.testing.assert_close(logits(model, ["cargo [MASK] dock"])[0], expected, atol=1e-4, rtol=1e-4)


def test_balanced_examples_go_round_the_labels_and_random_ones_are_drawn_by_the_seed() -> None:
    labels = [0] * 50 + [1] * 3 + [2] * 10
    chosen = draw(labels, 12, True, np.random.default_rng(1))
    assert len(set(chosen)) == 12
    assert (
        sorted(labels[row] for row in chosen) == [0] * 5 + [1] * 3 + [2] * 4
        or sorted(labels[row] for row in chosen) == [0] * 4 + [1] * 3 + [2] * 5
    )
    assert draw(labels, 5, False, np.random.default_rng(1)) == draw(
        labels, 5, False, np.random.default_rng(1)
    )
    assert draw(labels, 5, False, np.random.default_rng(1)) != draw(
        labels, 5, False, np.random.default_rng(2)
    )


@pytest.mark.parametrize("measure", ["bm25", "tfidf"])
def test_similar_examples_share_rare_tokens_and_the_nearest_stands_last(measure: str) -> None:
    pool = [Example({"text": ids}, 0) for ids in ([1, 2, 9], [1, 2, 3], [1, 7, 8], [1, 7, 5], [1, 2, 4])]
    near = Nearest(pool, measure, 20)
    found = near.find([[1, 7, 8, 6], [1, 7, 8]], 2)
    assert [example.slots["text"] for example in found[0]] == [[1, 7, 5], [1, 7, 8]]
    assert found[1][-1].slots["text"] == [1, 7, 5]  # not the record itself


def test_bm25_is_the_sum_of_robertsons_weights() -> None:
    """Two texts of 2 and 4 tokens, k1 = 1.5, b = 0.75: token 3 is in one of two, so that its rarity is
    ln(1 + 1.5 / 1.5) = ln 2; its weight in the second is
    ln 2 · 2 · 2.5 / (2 + 1.5 · (0.25 + 0.75 · 4 / 3)) = ln 2 · 5 / 3.875."""
    near = Nearest([Example({"text": ids}, 0) for ids in ([1, 2], [3, 3, 1, 4])], "bm25", 6)
    assert near.table[1, 3] == pytest.approx(np.log(2) * 5 / 3.875)


def test_an_answer_is_found_where_its_words_stand_closest_together() -> None:
    tokens = ["The", " Nor", "mans", " came", " from", " Den", "mark", ",", " Ice", "land", " and", " Norway"]
    passage = [(token, place, place) for place, token in enumerate(tokens)]
    assert locate("Denmark, Iceland", passage) == (5, 9, 1.0)
    first, last, f1 = locate("Norway it was", passage)
    assert (first, last) == (11, 11)
    assert f1 == pytest.approx(0.5)  # one of three words said, one of one found
    assert locate("Paris", passage)[2] == 0.0
    assert locate("", passage)[2] == 0.0


def test_an_answer_is_found_in_a_script_without_spaces() -> None:
    tokenizer = tiny_tokenizer()
    ids = plain_ids(tokenizer, "北京是中国的首都。")  # no character of which is a token of its own
    passage = pieces(tokenizer, ids)
    assert [text for text, _, _ in passage] == list("北京是中国的首都。")
    assert [first for _, first, _ in passage[1:]] == [last + 1 for _, _, last in passage[:-1]]
    first, last, f1 = locate("首都", passage)
    assert f1 == 1.0
    assert tokenizer.decode(ids[first : last + 1]) == "首都"


def test_a_character_that_is_cut_off_ends_no_piece_early() -> None:
    tokenizer = tiny_tokenizer()
    ids = plain_ids(tokenizer, "a北")[:-1]
    found = pieces(tokenizer, ids)
    assert [(first, last) for _, first, last in found] == [(at, at) for at in range(len(ids))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('in Paris, ("Rome") today.', ["in", "Paris", ",", '("', "Rome", '")', "today", "."]),
        ("the U.S. and Smith-Jones", ["the", "U.S", ".", "and", "Smith-Jones"]),
        ("他在北京。", ["他", "在", "北", "京", "。"]),
        ("--", ["--"]),
    ],
)
def test_words_end_before_punctuation(text: str, expected: list[str]) -> None:
    model = asked()
    tokenizer = model.asker.layout.tokenizer
    ids = plain_ids(tokenizer, text)
    found = words(model.asker, ids)
    assert [at for word in found for at in word] == list(range(len(ids)))
    assert [tokenizer.decode([ids[at] for at in word]).strip() for word in found] == expected

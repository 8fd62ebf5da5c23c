"""Chain-of-Density: scores, prior, objectives and shares, against what can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.errors import ModelError, SettingsError
from catena.methods import Surroundings, get_method
from catena.methods.density import best_temperature
from catena.methods.density_shares import log_odds_path
from catena.problems import HeadSpec
from catena.settings import MethodSettings
from tests.tiny_bigrams import bigram_network, bigram_tokenizer
from tests.tiny_language_model import tiny_network, tiny_tokenizer

NAMES = ("good", "bad")
TEXTS = ["what is the colour of the sky? blue", "green", "of grass? two words: no", "一天"]


def method(**density: Any) -> Any:
    return get_method(MethodSettings.model_validate({"name": "density", "density": density}))


def surroundings(
    tokenizer: Any, texts: list[str], labels: list[Any], names: Any = NAMES, sets: bool = False
) -> Any:
    kind = "multi-label-classification" if sets else "sequence-classification"
    ids = tokenizer(texts)["input_ids"]
    rows = [{"input_ids": one, "labels": label} for one, label in zip(ids, labels, strict=True)]
    return Surroundings("classification", HeadSpec(kind, tuple(names)), tokenizer, rows)


def batch(tokenizer: Any, texts: list[str]) -> dict[str, Any]:
    tokenizer.padding_side = "right"
    found = tokenizer(texts, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def bigrams(labels: list[Any], sets: bool = False, **density: Any) -> tuple[Any, Any, Any]:
    """The bigram model behind the words `{label}`; three texts to learn from."""
    tokenizer = bigram_tokenizer()
    chosen = method(**{"template": "{label}", "absent": "bad {label}", "calibration": "none", **density})
    texts = ["a b", "b", "a"]
    model = chosen.prepare(bigram_network(), surroundings(tokenizer, texts, labels, sets=sets))
    return chosen, model.eval(), tokenizer


# -- by hand ------------------------------------------------------------------------------------------

LOG_GOOD = math.log(0.8 * 0.4 * 0.2)  # good → a → b → end
LOG_BAD = math.log(0.3 * 0.4 * 0.2)


def test_a_score_is_the_log_likelihood_of_text_and_end_under_the_label_plus_the_log_prior() -> None:
    _, model, tokenizer = bigrams([0, 0, 1])
    logits = model(**batch(tokenizer, ["a b"])).logits
    # one record is added to each label: (2 + 1) / (3 + 2)
    assert logits.tolist()[0] == pytest.approx([LOG_GOOD + math.log(0.6), LOG_BAD + math.log(0.4)], abs=1e-4)
    posterior = logits.detach().softmax(1)[0, 0]
    assert float(posterior) == pytest.approx(0.8 * 0.6 / (0.8 * 0.6 + 0.3 * 0.4), abs=1e-4)


def test_without_the_end_only_the_words_count() -> None:
    _, model, tokenizer = bigrams([0, 1, 1], prior="uniform", score_end=False)
    logits = model(**batch(tokenizer, ["a b", "b"])).logits + math.log(2)
    assert logits.exp().tolist() == [
        pytest.approx([0.8 * 0.4, 0.3 * 0.4], abs=1e-4),
        pytest.approx([0.2, 0.7], abs=1e-4),
    ]


def test_the_prior_can_be_given_and_length_normalised_scores_are_means() -> None:
    _, model, tokenizer = bigrams([0, 0, 1], prior={"bad": 0.9, "good": 0.1}, length_normalized=True)
    logits = model(**batch(tokenizer, ["a b"])).logits[0]
    assert logits.tolist() == pytest.approx(
        [LOG_GOOD / 3 + math.log(0.1), LOG_BAD / 3 + math.log(0.9)], abs=1e-4
    )


def test_each_objective_is_what_it_is_said_to_be() -> None:
    import torch
    from torch.nn import functional

    labels = torch.tensor([1])
    mean_tokens = (3 + 2 + 2) / 3  # a b end, b end, a end
    told_apart = math.log(0.8 * 0.5 + 0.3 * 0.5) - math.log(0.3 * 0.5)  # -log P(bad | a b)
    expected = {
        ("generative", "token", 0.5): -LOG_BAD / mean_tokens,
        ("generative", "text", 0.5): -LOG_BAD,
        ("discriminative", "token", 0.5): told_apart,
        ("hybrid", "token", 0.25): 0.25 * -LOG_BAD / mean_tokens + 0.75 * told_apart,
        ("hybrid", "text", 0.75): 0.75 * -LOG_BAD + 0.25 * told_apart,
    }
    for (objective, normalization, weight), loss in expected.items():
        chosen, model, tokenizer = bigrams(
            [0, 1, 1],
            prior="uniform",
            objective=objective,
            normalization=normalization,
            generative_weight=weight,
        )
        outputs = model.train()(**batch(tokenizer, ["a b"]), labels=labels)
        assert (outputs.logits is None) == (objective == "generative"), (
            "others than the true label are computed"
        )
        found = chosen.loss(outputs, labels, lambda logits: functional.cross_entropy(logits, labels))
        assert float(found) == pytest.approx(loss, abs=1e-4), (objective, normalization)


def test_of_sets_each_label_is_decided_by_itself() -> None:
    import torch

    # the next word goes by the last one before it, which is the label, or `bad` where it is absent
    _, model, tokenizer = bigrams([[1, 0], [1, 1], [1, 0]], sets=True, absent="{label} {label} bad")
    logits = model(**batch(tokenizer, ["a b"])).logits[0].tolist()
    present = [(3 + 1) / (3 + 2), (1 + 1) / (3 + 2)]
    expected = [
        math.log(0.8 / 0.3) + math.log(present[0] / (1 - present[0])),  # …good against …bad
        math.log(0.3 / 0.3) + math.log(present[1] / (1 - present[1])),  # …bad against …bad
    ]
    assert logits == pytest.approx(expected, abs=1e-4)
    cost = model.train()(**batch(tokenizer, ["a b"]), labels=torch.tensor([[1, 0]])).cost
    assert float(cost) * model.unit == pytest.approx(-(LOG_GOOD + LOG_BAD) / 2, abs=1e-4)


def test_log_p_of_x_sums_over_the_labels() -> None:
    _, model, tokenizer = bigrams([0, 0, 1])
    density = model(**batch(tokenizer, ["a b"])).extras[0, 0]
    assert float(density) == pytest.approx(
        math.log(0.6 * math.exp(LOG_GOOD) + 0.4 * math.exp(LOG_BAD)) / 3, abs=1e-4
    )


# -- against the plain network ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("soft", [0, 2])
def test_one_pass_for_all_labels_says_what_the_plain_network_says_label_by_label(
    kind: str, attention: str, soft: int
) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer, kind, attention)
    names = ("so", "a very green one of them", "no")  # of different lengths
    chosen = method(soft_tokens=soft, score_end=soft == 0)
    model = chosen.prepare(network, surroundings(tokenizer, TEXTS, [0, 1, 2, 0], names)).eval()
    given = batch(tokenizer, TEXTS)
    with torch.no_grad():
        scores = model.token_scores(model.texts(**given), torch.arange(3).expand(4, 3))
        for row, text in enumerate(TEXTS):
            ids = tokenizer(text)["input_ids"]  # ends with the tokenizer's own end
            assert ids[-1] == model.wording.end
            for label, name in enumerate(names):
                before = network.get_input_embeddings()(
                    torch.tensor(tokenizer(f"{name}:\n")["input_ids"][:-1])
                )
                if soft:
                    before = torch.cat([before, model.soft_tokens[label]])
                words = network.get_input_embeddings()(torch.tensor(ids))
                said = network(inputs_embeds=torch.cat([before, words])[None]).logits[0].log_softmax(-1)
                plain = [float(said[len(before) - 1 + place, token]) for place, token in enumerate(ids)]
                if soft:
                    plain[-1] = 0.0  # the end is not scored
                np.testing.assert_allclose(scores[row, label, : len(ids)], plain, atol=2e-4)
                assert not scores[row, label, len(ids) :].any()


def test_chunks_of_labels_change_neither_scores_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    names = tuple(f"label {number}" for number in range(7))
    chosen = method(soft_tokens=1)
    model = chosen.prepare(tiny_network(tokenizer), surroundings(tokenizer, TEXTS, [0, 1, 6, 0], names))
    given, labels = batch(tokenizer, TEXTS), torch.tensor([0, 1, 6, 0])
    found = []
    for limit in (10_000, 1):
        monkeypatch.setattr("catena.methods.density_network._TOKENS_IN_TRAINING", limit)
        outputs = model(**given, labels=labels)
        loss = chosen.loss(outputs, labels, lambda logits: torch.nn.functional.cross_entropy(logits, labels))
        model.zero_grad()
        loss.backward()
        assert model.soft_tokens.grad.abs().sum() > 0
        found.append(
            (
                outputs.logits.detach(),
                model.soft_tokens.grad.clone(),
                model.network.lm_head.weight.grad.clone(),
            )
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_network_whose_output_is_more_than_a_layer_is_asked_as_a_whole() -> None:
    import torch

    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer)
    plain = network.forward

    def scaled(*given: Any, **more: Any) -> Any:
        outputs = plain(*given, **more)
        outputs.logits = outputs.logits * 0.5
        return outputs

    network.forward = scaled
    model = method().prepare(network, surroundings(tokenizer, TEXTS, [0, 1, 0, 1])).eval()
    with torch.no_grad():
        score = model.token_scores(model.texts(**batch(tokenizer, ["no"])), torch.tensor([[0]]))
        ids = torch.tensor([tokenizer("good:\n")["input_ids"][:-1] + tokenizer("no")["input_ids"]])
        count = len(tokenizer("no")["input_ids"])
        said = network(input_ids=ids).logits[0].log_softmax(-1)[-count - 1 : -1]
    expected = said.gather(1, ids[0, -count:, None]).sum()
    assert float(score.sum()) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize(
    ("adapt", "moving"),
    [
        ("full", {"network", "soft_tokens"}),
        ("soft_tokens_only", {"soft_tokens"}),
        ("top_layers", {"network", "soft_tokens"}),
    ],
)
def test_what_is_adapted_below_is_chosen_by_name(adapt: str, moving: set[str]) -> None:
    tokenizer = tiny_tokenizer()
    settings = {"name": "density", "layers": 1, "density": {"adapt": adapt, "soft_tokens": 3}}
    chosen = get_method(MethodSettings.model_validate(settings))
    model = chosen.prepare(tiny_network(tokenizer), surroundings(tokenizer, TEXTS, [0, 1, 0, 1]))
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.partition(".")[0] for name in names} == moving
    if adapt == "top_layers":
        assert {name for name in names if ".layers." in name} == {n for n in names if ".layers.1." in n}
    assert chosen.learning_rates(model) == {"soft_tokens": 10.0}


def test_soft_tokens_begin_as_the_description_over_and_over() -> None:
    tokenizer = tiny_tokenizer()
    chosen = method(template="", soft_tokens=4, descriptions={"good": "blue", "bad": "no green"})
    model = chosen.prepare(tiny_network(tokenizer), surroundings(tokenizer, TEXTS, [0, 1, 0, 1]))
    words = tokenizer("blue", add_special_tokens=False)["input_ids"]
    weights = model.network.get_input_embeddings().weight
    expected = weights[[words[place % len(words)] for place in range(4)]]
    assert (model.soft_tokens[0] == expected).all()


# -- temperature ---------------------------------------------------------------------------------------


def test_the_temperature_that_made_scores_too_sure_is_found_again() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([random.choice(3, p=one) for one in chances])
    assert best_temperature(7.0 * logits, labels, sets=False) == pytest.approx(7.0, rel=0.1)
    binary = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
    assert best_temperature(0.2 * logits, binary, sets=True) == pytest.approx(0.2, rel=0.1)


def test_few_records_that_are_all_right_do_not_make_a_model_certain() -> None:
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    temperature = best_temperature(logits, np.array([0, 1]), sets=False)
    assert 0.05 < temperature < 1.0


# -- shares ---------------------------------------------------------------------------------------------

scores = st.integers(2, 4).flatmap(
    lambda labels: st.integers(0, 6).flatmap(
        lambda tokens: st.lists(
            st.lists(st.floats(-20, 0), min_size=tokens, max_size=tokens), min_size=labels, max_size=labels
        )
    )
)


@given(scores, st.floats(0.05, 2.0), st.floats(0.05, 2.0))
def test_shares_and_prior_add_up_to_the_log_odds(table: Any, of_tokens: float, of_prior: float) -> None:
    values = np.array(table, dtype=np.float64).reshape(len(table), -1)
    prior = np.log(np.full(len(values), 1 / len(values)))
    path = log_odds_path(values, prior, of_tokens, of_prior, sets=False)
    joint = of_tokens * values.sum(1) + of_prior * prior
    for label in range(len(values)):
        others = np.delete(joint, label)
        odds = joint[label] - np.log(np.exp(others - others.max()).sum()) - others.max()
        assert path[label, 0] + np.diff(path[label]).sum() == pytest.approx(odds, abs=1e-8)


def test_of_two_labels_a_share_is_the_log_likelihood_ratio() -> None:
    values = np.log([[0.8, 0.4], [0.3, 0.5]])
    path = log_odds_path(values, np.log([0.6, 0.4]), 1.0, 1.0, sets=False)
    np.testing.assert_allclose(path[0], np.cumsum(np.log([0.6 / 0.4, 0.8 / 0.3, 0.4 / 0.5])))
    np.testing.assert_allclose(path[1], -path[0])


def test_of_three_labels_a_share_is_against_the_mixture_of_the_others_as_the_text_has_left_it() -> None:
    first, second = np.array([0.5, 0.2, 0.1]), np.array([0.4, 0.1, 0.3])
    prior = np.array([0.5, 0.3, 0.2])
    path = log_odds_path(np.log([first, second]).T, np.log(prior), 1.0, 1.0, sets=False)
    weights = prior[1:] / prior[1:].sum()
    assert path[0, 1] - path[0, 0] == pytest.approx(math.log(0.5 / (weights @ first[1:])))
    weights = weights * first[1:] / (weights @ first[1:])  # what the first token leaves of either
    assert path[0, 2] - path[0, 1] == pytest.approx(math.log(0.4 / (weights @ second[1:])))


# -- what does not fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("density", "sentence"),
    [
        ({"descriptions": {"good": "x"}}, "`method.density.descriptions` says nothing of 'bad'"),
        (
            {"descriptions": {"good": "x", "bad": "y", "ugly": "z"}},
            "names 'ugly', which is no label of the data",
        ),
        ({"prior": {"good": 0.5, "bad": 0.4}}, "`method.density.prior` adds up to 0.9 instead of 1"),
        ({"prior": {"good": 0.5, "worse": 0.5}}, "`method.density.prior` names 'worse'"),
        (
            {"adapt": "everything"},
            "`method.density.adapt` is 'everything'; choose one of soft_tokens_only, full",
        ),
        ({"adapt": "density"}, "`method.density.adapt` is 'density'"),
    ],
)
def test_what_does_not_fit_the_labels_is_said_before_training(density: dict[str, Any], sentence: str) -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(SettingsError) as error:
        method(**density).prepare(tiny_network(tokenizer), surroundings(tokenizer, TEXTS, [0, 1, 0, 1]))
    assert sentence in str(error.value)


def test_labels_that_the_tokenizer_reads_alike_are_refused() -> None:
    tokenizer = bigram_tokenizer()  # all words it does not know are one
    with pytest.raises(SettingsError, match="'yes' and 'maybe' have the same words before a text"):
        method(template="{label}").prepare(
            bigram_network(), surroundings(tokenizer, ["a", "b"], [0, 1], ("yes", "maybe"))
        )


@pytest.mark.parametrize(
    ("kind", "names", "sentence"),
    [
        ("token-classification", ("a", "b"), "`method.name` density does not fit the problem some"),
        ("causal-language-model", (), "does not fit the problem some"),
        ("sequence-classification", ("relevance",), "tells labels apart, and the problem some has no two"),
    ],
)
def test_problems_without_labels_of_a_whole_text_are_refused(kind: str, names: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        method().check("some", HeadSpec(kind, names))


def test_a_text_that_does_not_fit_the_network_is_one_sentence() -> None:
    _, model, tokenizer = bigrams([0, 0, 1])
    with pytest.raises(ModelError, match="41 tokens, and the language model reads 32"):
        model(**batch(tokenizer, ["a " * 39]))

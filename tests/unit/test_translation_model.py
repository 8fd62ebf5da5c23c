"""Networks that write: token losses, texts by search, two vocabularies, and the way to translations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from catena.backbones import Blueprint, get_backbone
from catena.backbones.two_vocabularies import TwoVocabularies
from catena.decoding.writing import write_texts
from catena.errors import ModelError, SettingsError
from catena.methods import Surroundings, get_method
from catena.problems import HeadSpec, Problem, Written, get_problem
from catena.problems.token_loss import IGNORED, measure_tokens, token_loss, token_metrics
from catena.settings import BackboneSettings, DecodingSettings, MethodSettings, TokenizationSettings
from catena.training.devices import choose_device
from catena.training.inputs import network_inputs
from catena.training.tokenizer import learn_tokenizer

TEXTS = ["the red dog runs", "a dog sleeps in the sun", "two men sit", "the sun", "men run in the red sun"]
GERMAN = ["der rote Hund läuft", "ein Hund schläft in der Sonne", "zwei Männer sitzen", "die Sonne", "x"]
CPU = choose_device("cpu", "float32")
CHOSEN = TokenizationSettings(tokenizer="bpe", vocabulary_size=400, min_frequency=1, max_length=16)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer([*TEXTS, *GERMAN] * 2, CHOSEN, begins=False)


def network(tokenizer: PreTrainedTokenizerBase, kind: str) -> PreTrainedModel:
    """A tiny transformer with random weights, which writes all sorts of things."""
    head = get_problem("translation").head(()) if kind == "translation" else _Causal()
    sizes = BackboneSettings.model_validate(
        {"type": "transformer", "layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 32}
    )
    set_seed(3)
    model = get_backbone("transformer").build(
        Path("none"), head, dropout=0.0, attention="eager", blueprint=Blueprint.of(sizes, tokenizer)
    )
    with torch.no_grad():  # sharper choices, so that rounding decides nothing
        for weight in model.parameters():
            weight.mul_(2.0)
    return model.eval()


class _Causal:
    kind = "causal-language-model"
    label_names: tuple[str, ...] = ()


def ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts))["input_ids"]
    return found


# -- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [1, 9])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_the_tokens_that_count(counted: int, smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7)
    labels = torch.full((2, 5), IGNORED)
    labels.view(-1)[:counted] = torch.arange(counted) % 7
    chances = logits.log_softmax(-1).reshape(10, 7)
    by_hand = [
        (1 - smoothing) * -chances[at, at % 7] + smoothing * -chances[at].mean() for at in range(counted)
    ]
    assert token_loss(logits, labels, smoothing).item() == pytest.approx(sum(by_hand).item() / counted)  # type: ignore[union-attr]


def test_of_no_tokens_the_loss_is_0_and_so_is_its_gradient() -> None:
    logits = torch.randn(1, 3, 7, requires_grad=True)
    loss = token_loss(logits, torch.full((1, 3), IGNORED))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_rows_are_measured_by_their_own_tokens() -> None:
    logits = torch.log(
        torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [1.0, 1.0, 1.0]]])
    )
    labels = torch.tensor([[0, 0], [2, IGNORED]])
    measured = measure_tokens(logits, labels)
    assert measured[0].tolist() == pytest.approx([-math.log(0.5) - math.log(0.1), 2, 1])
    assert measured[1].tolist() == pytest.approx([-math.log(0.6), 1, 1])
    metrics = token_metrics(measured.numpy())
    assert metrics["token_accuracy"] == pytest.approx(2 / 3)
    assert metrics["perplexity"] == pytest.approx((0.5 * 0.1 * 0.6) ** (-1 / 3))


def test_a_batch_weighs_by_the_tokens_of_its_targets() -> None:
    problem = get_problem("translation")
    assert problem.weight(torch.tensor([[4, 5, 3], [6, 3, IGNORED]])) == 5


# -- writing --------------------------------------------------------------------------------------


def greedily(model: PreTrainedModel, row: list[int], most: int) -> tuple[list[int], float]:
    """The likeliest token each time, one at a time and without a cache; and their log-likelihood."""
    written: list[int] = []
    total = 0.0
    start = model.generation_config.decoder_start_token_id
    while len(written) < most:
        if model.config.is_encoder_decoder:
            inputs = {
                "input_ids": torch.tensor([row]),
                "decoder_input_ids": torch.tensor([[start, *written]]),
            }
        else:
            inputs = {"input_ids": torch.tensor([[*row, *written]])}
        with torch.inference_mode():
            chances = model(**inputs).logits[0, -1].log_softmax(-1)
        best = int(chances.argmax())
        total += float(chances[best])
        written.append(best)
        if best == model.generation_config.eos_token_id:
            break
    return written, total


@pytest.mark.parametrize("kind", ["translation", "causal"])
def test_greedy_texts_are_those_of_taking_the_likeliest_token_in_turn(
    tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    model = network(tokenizer, kind)
    rows = ids(tokenizer, TEXTS)
    found = write_texts(model, tokenizer, rows, DecodingSettings(max_new_tokens=9), CPU)
    for row, text, likelihood, count in zip(
        rows, found.texts, found.log_likelihoods, found.tokens, strict=True
    ):
        written, total = greedily(model, row, 9)
        assert text == tokenizer.decode(written, skip_special_tokens=True).strip()
        assert count == len(written)
        assert likelihood == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("kind", ["translation", "causal"])
def test_a_beam_never_ends_with_a_less_likely_text_than_greedy_where_length_does_not_count(
    tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    model = network(tokenizer, kind)
    rows = ids(tokenizer, TEXTS)
    greedy = write_texts(model, tokenizer, rows, DecodingSettings(max_new_tokens=5), CPU)
    wide = DecodingSettings(strategy="beam", beams=16, length_penalty=0.0, max_new_tokens=5)
    beam = write_texts(model, tokenizer, rows, wide, CPU)
    assert (beam.log_likelihoods >= greedy.log_likelihoods - 1e-3).all()
    assert (beam.log_likelihoods > greedy.log_likelihoods + 1e-3).any()


def test_samples_are_the_same_with_the_same_seed_and_others_with_another(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = network(tokenizer, "causal")
    rows = ids(tokenizer, TEXTS)

    def drawn(seed: int) -> list[str]:
        chosen = DecodingSettings(strategy="sampling", max_new_tokens=8, seed=seed, temperature=2.0)
        return write_texts(model, tokenizer, rows, chosen, CPU).texts

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert drawn(1) == drawn(1) != drawn(2)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's draws change


def test_texts_are_no_longer_than_asked_whether_in_tokens_or_by_the_input(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = network(tokenizer, "translation")
    rows = ids(tokenizer, TEXTS)
    for asked, most in (
        (DecodingSettings(max_new_tokens=3), 3),
        (DecodingSettings(max_length_ratio=0.1), 12),
    ):
        assert write_texts(model, tokenizer, rows, asked, CPU).tokens.max() <= most


def test_how_long_a_text_may_get_does_not_depend_on_what_else_is_in_the_batch(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = [*ids(tokenizer, TEXTS), ids(tokenizer, ["the red dog runs " * 12])[0]]
    for strategy in ("greedy", "beam"):
        chosen = DecodingSettings.model_validate({"strategy": strategy, "max_length_ratio": 1.0, "beams": 3})
        model = network(tokenizer, "translation")
        together = write_texts(model, tokenizer, rows, chosen, CPU)
        for row, text, count in zip(rows, together.texts, together.tokens, strict=True):
            alone = write_texts(model, tokenizer, [row], chosen, CPU)
            assert (alone.texts, alone.tokens.tolist()) == ([text], [count])
            assert count <= len(row) + 10


def test_what_the_makers_of_a_network_set_for_writing_has_no_say(tokenizer: PreTrainedTokenizerBase) -> None:
    model = network(tokenizer, "translation")
    rows = ids(tokenizer, TEXTS)
    chosen = DecodingSettings(max_new_tokens=9)
    before = write_texts(model, tokenizer, rows, chosen, CPU)
    theirs = model.generation_config
    theirs.update(min_length=9, num_beams=3, num_return_sequences=2, no_repeat_ngram_size=1, max_length=3)
    after = write_texts(model, tokenizer, rows, chosen, CPU)
    assert after.texts == before.texts
    assert model.generation_config is theirs  # and is stored with the network as it was
    assert theirs.num_return_sequences == 2


# -- networks of transformers ---------------------------------------------------------------------


def pretrained(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A tiny network of transformers with random weights, as a folder."""
    set_seed(1)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_bart(tokenizer: PreTrainedTokenizerBase) -> transformers.BartConfig:
    return transformers.BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=3, bos_token_id=2, decoder_start_token_id=3,
        forced_eos_token_id=None,
    )  # fmt: skip


def build(folder: Path, problem: str, labels: Sequence[str] = ()) -> PreTrainedModel:
    head = get_problem(problem).head(labels)
    return get_backbone("pretrained").build(folder, head, dropout=0.0, attention="eager")


@pytest.mark.parametrize("family", ["bart", "t5", "m2m_100"])
def test_pretrained_encoder_decoders_learn_and_write(
    tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame, family: str, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if family == "bart":
        config: Any = tiny_bart(tokenizer)
    elif family == "t5":
        config = transformers.T5Config(
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            eos_token_id=3,
            decoder_start_token_id=0,
            **sizes,
        )
    else:  # has no shift of its own
        config = transformers.M2M100Config(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, eos_token_id=3,
            decoder_start_token_id=3, **sizes,
        )  # fmt: skip
    problem, model = get_problem("translation"), build(pretrained(tmp_path, config, tokenizer), "translation")
    features = problem.encode(pairs, tokenizer, CHOSEN, ())
    rows = [{name: values[row] for name, values in features.items()} for row in range(len(pairs))]
    batch = problem.collate(rows, int(tokenizer.pad_token_id))
    given = network_inputs(model, batch, writes=True)["decoder_input_ids"]
    assert given[:, 0].tolist() == [config.decoder_start_token_id] * len(pairs)
    assert given[0, 1 : len(features["labels"][0])].tolist() == features["labels"][0][:-1]
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(120):
        loss = problem.loss(model(**network_inputs(model, batch, writes=True)).logits, batch["labels"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    written = write_texts(model, tokenizer, features["input_ids"], DecodingSettings(max_new_tokens=14), CPU)
    assert written.texts == GERMAN


def test_an_encoder_decoder_still_judges_texts(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    problem = get_problem("classification")
    model = build(pretrained(tmp_path, tiny_bart(tokenizer), tokenizer), "classification", ["a", "b"])
    batch = problem.collate(
        [{"input_ids": row, "labels": 0} for row in ids(tokenizer, ["the sun", "two men sit"])], 0
    )
    assert "decoder_input_ids" not in network_inputs(model, batch)
    assert model(**network_inputs(model, batch)).logits.shape == (2, 2)


def test_an_encoder_is_told_apart_from_what_can_write(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    folder = pretrained(tmp_path, config, tokenizer)
    with pytest.raises(
        ModelError, match=r"\(bert\) cannot write as this problem needs it; choose one with an"
    ):
        build(folder, "translation")
    with pytest.raises(ModelError, match="choose a causal language model"):
        build(folder, "generation")


def test_the_top_layers_of_an_encoder_decoder_are_the_decoders(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    folder = pretrained(tmp_path, tiny_bart(tokenizer), tokenizer)

    def adapt(layers: int) -> PreTrainedModel:
        method = get_method(MethodSettings(name="top_layers", layers=layers))
        around = Surroundings("translation", HeadSpec("sequence-to-sequence", ()))
        return method.prepare(build(folder, "translation"), around)

    model = adapt(1)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moving
    assert all(".decoder.layers.1." in name for name in moving)
    with pytest.raises(SettingsError, match="nothing would be trained"):
        adapt(0)


# -- translation ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "translation": GERMAN})


def test_features_end_with_the_end_and_batches_go_by_the_longer_side(
    tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame
) -> None:
    features = get_problem("translation").encode(pairs, tokenizer, CHOSEN, ())
    for role, key in (("text", "input_ids"), ("translation", "labels")):
        for text, row in zip(pairs[role], features[key], strict=True):
            assert row[-1] == tokenizer.eos_token_id
            assert len(row) <= 16
            if len(row) < 16:
                assert tokenizer.decode(row, skip_special_tokens=True) == text
    lengths = zip(features["input_ids"], features["labels"], strict=True)
    assert features["length"] == [max(map(len, one)) for one in lengths]


def test_a_target_that_is_too_long_is_cut_at_its_end_and_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    chosen = CHOSEN.model_copy(update={"truncation_side": "left", "max_length": 8})
    long = "the red dog runs " * 4
    table = pd.DataFrame({"text": [long, "the sun"], "translation": [long.strip(), long.strip()]})
    features = get_problem("translation").encode(table, tokenizer, chosen, ())
    whole = tokenizer(long.strip())["input_ids"]
    assert features["labels"] == [[*whole[:7], whole[-1]]] * 2
    assert features["input_ids"][0] == tokenizer(long)["input_ids"][-8:]
    assert features["n_tokens"][1] == len(whole)  # though its source is short
    assert features["length"] == [8, 8]


def test_a_special_token_in_a_text_is_only_text(tokenizer: PreTrainedTokenizerBase) -> None:
    table = pd.DataFrame({"text": ["a [SEP] b"], "translation": ["c [SEP] [PAD] d"]})
    features = get_problem("translation").encode(table, tokenizer, CHOSEN, ())
    for key in ("input_ids", "labels"):
        assert features[key][0].count(tokenizer.eos_token_id) == 1
        assert tokenizer.pad_token_id not in features[key][0]
    none = get_problem("translation").encode(table.head(0), tokenizer, CHOSEN, ())
    assert none["input_ids"] == none["labels"] == []


def test_there_are_positions_for_the_longest_text(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.model_max_length = 3001
    try:
        model = network(tokenizer, "translation")
    finally:
        tokenizer.model_max_length = CHOSEN.max_length
    ids = torch.ones(1, 3008, dtype=torch.long)
    with torch.inference_mode():
        assert model(input_ids=ids, decoder_input_ids=ids[:, :2]).logits.shape[1] == 2


def test_the_decoder_sees_what_stands_before_each_token_it_is_to_write(
    tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame
) -> None:
    problem, model = get_problem("translation"), network(tokenizer, "translation")
    features = problem.encode(pairs, tokenizer, CHOSEN, ())
    rows = [{name: values[row] for name, values in features.items()} for row in range(len(pairs))]
    batch = problem.collate(rows, int(tokenizer.pad_token_id))
    given = network_inputs(model, batch, writes=True)["decoder_input_ids"]
    start = model.config.decoder_start_token_id
    for row, labels in enumerate(features["labels"]):
        assert given[row, : len(labels)].tolist() == [start, *labels[:-1]]


def test_embeddings_and_output_are_one_matrix_with_a_joint_vocabulary(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = network(tokenizer, "translation")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.get_decoder().embed_tokens.weight is model.get_encoder().embed_tokens.weight


def test_predictions_say_how_sure_they_are_and_how_likely_the_reference_was(pairs: pd.DataFrame) -> None:
    outputs = Written(
        ["a", "b"], np.array([-2.0, 0.0]), np.array([2, 0]), np.array([[3.0, 4, 1], [1.0, 2, 2]])
    )
    table = get_problem("translation").predictions(outputs, pairs.head(2), {}, ())
    assert table["confidence"].tolist() == pytest.approx([math.exp(-1), 1.0])
    assert table["target_loss"].tolist() == [3.0, 1.0]
    assert table["target_tokens"].tolist() == [4, 2]
    without = get_problem("translation").predictions(
        Written(["a"], np.zeros(1), np.ones(1)), pairs.head(1), {}, ()
    )
    assert list(without) == ["prediction", "confidence"]


# -- two vocabularies -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> TwoVocabularies:
    source, target = (learn_tokenizer(texts * 2, CHOSEN, begins=False) for texts in (TEXTS, GERMAN))
    return TwoVocabularies.around(source, target.backend_tokenizer)


def test_each_language_has_its_own_numbers_and_survives_being_stored(
    two: TwoVocabularies, tmp_path: Path
) -> None:
    two.save_pretrained(tmp_path)
    again = get_backbone("transformer").tokenizer(tmp_path)
    for one in (two, again):
        source = one([TEXTS[0]])["input_ids"][0]
        target = one(text_target=[GERMAN[0]], truncation=True, max_length=16)["input_ids"][0]
        assert one([TEXTS[0]])["input_ids"][0] == source
        assert one.decode(target, skip_special_tokens=True) == GERMAN[0]
        assert one.batch_decode([target], skip_special_tokens=True) == [GERMAN[0]]
    assert two(text_target=GERMAN)["input_ids"] == again(text_target=GERMAN)["input_ids"]
    blueprint = Blueprint.of(BackboneSettings(), again)
    assert (blueprint.vocabulary, blueprint.target_vocabulary) == (len(two), two.target_size)


def test_the_network_writes_in_the_second_vocabulary(two: TwoVocabularies, pairs: pd.DataFrame) -> None:
    problem: Problem = get_problem("translation")
    model = network(two, "translation")
    assert model.get_input_embeddings().weight.shape[0] == len(two)
    assert model.get_output_embeddings().weight.shape[0] == two.target_size
    features = problem.encode(pairs, two, CHOSEN, ())
    rows: list[dict[str, Any]] = [
        {name: values[row] for name, values in features.items()} for row in range(2)
    ]
    batch = problem.collate(rows, int(two.pad_token_id))
    logits = model(**network_inputs(model, batch, writes=True)).logits
    assert logits.shape[-1] == two.target_size
    assert math.isfinite(problem.loss(logits, batch["labels"]).item())
    written = write_texts(model, two, features["input_ids"], DecodingSettings(max_new_tokens=6), CPU)
    assert len(written.texts) == len(pairs)


def test_a_damaged_second_vocabulary_is_named(two: TwoVocabularies, tmp_path: Path) -> None:
    two.save_pretrained(tmp_path)
    file = tmp_path / "target_tokenizer.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(ModelError, match=r"target_tokenizer\.json cannot be read"):
        get_backbone("transformer").tokenizer(tmp_path)

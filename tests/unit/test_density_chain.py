"""Chain-of-Density from tokens to predictions: resumed, stored, served, explained, and written with."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from catena.cli import app
from catena.data.preparation import prepare
from catena.errors import DataError, ModelError, SettingsError
from catena.files import sha256_file
from catena.generated import generate_records
from catena.model_folder import read_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.problems.pieces import words_of
from catena.settings import DecodingSettings, DistillationSettings, ProblemSettings, parse_settings
from catena.token_shares import explain_by_shares, join_tokens, token_spans
from catena.training.teaching import learn_from
from catena.training.tokenizer import learn_tokenizer
from catena.training.tokens import write_tokens
from tests.tiny_density import PARAMS, SEASONS, TOKENIZATION, texts, train, write_seasons
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seasons(tmp_path_factory.mktemp("tokens"))


def test_of_sets_each_label_is_predicted_explained_and_written_by_itself(
    tokens: Path, tmp_path: Path
) -> None:
    sets = tmp_path / "tokens"
    shutil.copytree(tokens, sets)
    settings = parse_settings({"tokenization": TOKENIZATION, "backbone": PARAMS["backbone"]}).tokenization
    tokenizer = learn_tokenizer(texts(96, 1)[0], settings)
    for part, seed in (("train", 1), ("validation", 2)):
        some, labels = texts(40, seed)
        mixed = [f"{one} {other}" for one, other in itertools.pairwise(some)]
        member = [[1 - label, label] for label in labels] + [[1, 1]] * len(mixed)
        features = {"input_ids": tokenizer([*some, *mixed])["input_ids"], "labels": member}
        write_tokens(sets / f"{part}.arrow", [features])
    training = {**PARAMS["training"], "max_steps": 12, "metric": "log_loss"}
    method = {"name": "density", "density": {"absent": "no {label}:\n"}}
    model = train(sets, tmp_path, problem={"name": "multilabel"}, training=training, method=method)
    predictor = Predictor.load(model, device="cpu", precision="float32")
    table = predictor.predict(["sun sand snow"])
    claims = explain_by_shares(predictor, {"text": "sun sand snow"}, about="cold").claims
    total = sum(effect or 0.0 for effect in claims[0].effects) + sum(value for _, value in claims[0].beside)
    chance = table["p:cold"].iloc[0]
    assert total == pytest.approx(np.log(chance / (1 - chance)), abs=1e-3)
    assert np.isfinite(table["log_density"]).all() and table["density_percentile"].between(0, 100).all()


@pytest.fixture(scope="module")
def folder(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tokens, tmp_path_factory.mktemp("calm"))


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", precision="float32")


def test_interrupted_and_resumed_the_model_is_that_of_an_undisturbed_training(
    tokens: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tokens, tmp_path, stop_at=7)
    assert list((tmp_path / "checkpoints").glob("step-*")), "there is nothing to resume from"
    train(tokens, tmp_path)
    for name in ("model.safetensors", "density.safetensors", "density.json"):
        assert sha256_file(tmp_path / "model" / name) == sha256_file(folder / name), name


def test_a_network_from_scratch_learns_to_tell_the_labels_apart(predictor: Predictor) -> None:
    some, labels = texts(60, 3)
    table = predictor.predict(some)
    right = table["prediction"] == np.array(predictor.label_names)[labels]
    assert right.mean() > 0.9
    assert table.columns.tolist()[:4] == ["prediction", "confidence", "p:warm", "p:cold"]


def test_foreign_texts_are_less_likely_than_nearly_all_validation_texts(predictor: Predictor) -> None:
    table = predictor.predict([*texts(30, 4)[0], "Бюджет утверждён", "QXZJ{}#~", "αβγδε"])
    own, foreign = table.iloc[:30], table.iloc[30:]
    assert foreign["log_density"].max() < own["log_density"].min()
    assert (foreign["density_percentile"] <= 1.0).all()
    assert 20 < own["density_percentile"].mean() < 80


def test_predictions_do_not_depend_on_what_else_is_in_the_batch(predictor: Predictor) -> None:
    some = texts(9, 5)[0]
    together = predictor.predict(some)
    alone = pd.concat([predictor.predict([text]) for text in some], ignore_index=True)
    names = ["p:warm", "log_density"]
    np.testing.assert_allclose(together[names], alone[names], atol=1e-4)


def test_the_registry_loads_it_with_all_its_columns(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    import mlflow

    from catena.registry.packaging import save_model

    save_model(folder, tmp_path / "packed")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "packed"))
    some = pd.DataFrame({"text": texts(5, 6)[0]})
    found = loaded.predict(some)
    named = [column.name for column in loaded.metadata.get_output_schema()]
    assert named == ["prediction", "confidence", "p:warm", "p:cold", "log_density", "density_percentile"]
    # it may compute in bfloat16, which the tests' own predictor does not
    expected = predictor.predict(some)
    np.testing.assert_allclose(found[named[1:-1]], expected[named[1:-1]], atol=0.02)
    np.testing.assert_allclose(found[named[-1]], expected[named[-1]], atol=3.0)


def test_a_damaged_description_of_labels_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    from catena.methods import Surroundings

    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    (broken / "density.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"density\.json is cut off or altered"):
        Predictor.load(broken)
    whole = Predictor.load(folder)
    around = Surroundings("classification", whole.problem.head(("a", "b")), whole.tokenizer)
    with pytest.raises(ModelError, match="labels' densities cannot be read"):
        whole.method.load(broken, lambda folder, head: whole.model.network, around)


# -- explanations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_token", [False, True])
def test_the_shares_of_all_words_and_what_is_beside_them_are_the_log_odds(
    predictor: Predictor, by_token: bool
) -> None:
    text = "snow 冷冷 beach, coat"
    explanation = explain_by_shares(predictor, {"text": text}, by_token=by_token)
    (claim,) = explanation.claims
    chances = predictor.predict([text]).iloc[0]
    other = "warm" if claim.name == "cold" else "cold"
    total = sum(effect or 0.0 for effect in claim.effects) + sum(value for _, value in claim.beside)
    assert total == pytest.approx(np.log(chances[f"p:{claim.name}"] / chances[f"p:{other}"]), rel=1e-4)
    assert [name for name, _ in claim.beside] == ["how frequent the label is", "that the text ends here"]
    words = [piece.text for piece in explanation.pieces]
    if not by_token:
        assert words == ["snow", "冷", "冷", "beach,", "coat"]
        effects = dict(zip(words, claim.effects, strict=True))
        sign = 1.0 if claim.name == "cold" else -1.0
        assert sign * (effects["snow"] or 0.0) > 0 > sign * (effects["beach,"] or 0.0)
    assert "".join("".join(words).split()) == "".join(text.split())


def test_what_is_cut_off_has_no_share(predictor: Predictor) -> None:
    explanation = explain_by_shares(predictor, {"text": "snow " * 40 + "beach"})
    assert explanation.truncated
    assert explanation.pieces[-1].end < 40 * 5


def test_the_command_explains_by_shares_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    call = ["explain", "--model", str(folder), "snow and sun"]
    done = CliRunner().invoke(app, [*call, "--json", "--html", str(page)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["by"] == "shares" and set(found["claims"][0]["beside"]) >= {"how frequent the label is"}
    assert "share of each is known exactly" in page.read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, call)
    assert "its share (log-odds)" in shown.stdout and "the words " in shown.stdout
    left_out = CliRunner().invoke(app, [*call, "--json", "--by", "occlusion"])
    assert json.loads(left_out.stdout)["by"] == "occlusion"
    wrong = CliRunner().invoke(app, [*call, "--by", "magic"])
    assert wrong.exit_code == 2 and "`--by` magic is not one of shares, tokens, occlusion" in wrong.stderr


def test_a_model_that_knows_no_shares_says_so(tmp_path: Path) -> None:
    plain = Predictor.load(build_tiny_model(tmp_path / "model"), device="cpu")
    with pytest.raises(SettingsError, match="explain it with `--by occlusion`"):
        explain_by_shares(plain, {"text": "wheat"})
    with pytest.raises(ModelError, match="adapted by the method full, which does not learn how texts"):
        generate_records(plain, [], 3, DecodingSettings())


@given(st.text("ab 你,\n", max_size=30), st.data())
def test_joined_tokens_share_no_character_and_no_word_and_each_has_a_place(text: str, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    offsets = list(zip([0, *cuts], [*cuts, len(text)], strict=True))
    spans = token_spans(text, offsets)
    for words in ((), words_of(text)):
        pieces, places = join_tokens(text, spans, words)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(pieces))
        assert len(places) == len(spans)
        for span, place in zip(spans, places, strict=True):
            if span is not None:
                assert pieces[place][0] <= span[0] and span[1] <= pieces[place][1]
        for start, end in words:
            assert (
                len(
                    {
                        place
                        for span, place in zip(spans, places, strict=True)
                        if span and span[0] < end and start < span[1]
                    }
                )
                <= 1
            )


def test_bytes_of_one_character_come_together() -> None:
    assert join_tokens("丰收", [(0, 1), (0, 1), (0, 1), (1, 2), None], ())[0] == [(0, 1), (1, 2)]


# -- new texts -----------------------------------------------------------------------------------------------


def test_written_texts_are_of_their_label_and_the_same_for_the_same_seed(predictor: Predictor) -> None:
    drawing = DecodingSettings(strategy="sampling", max_new_tokens=24, top_p=0.9, seed=1)
    written = generate_records(predictor, [], 12, drawing)
    assert written["generated"].all() and not written["text"].duplicated().any()
    cold = set(SEASONS["cold"])
    share = written["text"].map(lambda text: sum(word in cold for word in text.split()) / len(text.split()))
    by_label = share.groupby(written["label"]).mean()
    assert by_label["cold"] > by_label["warm"] + 0.5
    pd.testing.assert_frame_equal(written, generate_records(predictor, [], 12, drawing))
    sure = generate_records(predictor, ["cold"], 5, drawing, least_confidence=0.8)
    assert set(sure["label"]) == {"cold"} and (sure["confidence"] >= 0.8).all()


def test_the_command_writes_records_and_names_labels_that_it_does_not_know(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.csv"
    call = ["generate", "--model", str(folder), "--output", str(target), "-n", "3", "--max-tokens", "24"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(target).columns.tolist()[:4] == ["text", "label", "generated", "confidence"]
    wrong = CliRunner().invoke(app, [*call, "--class", "tepid"])
    assert (
        wrong.exit_code == 2 and "does not know the class 'tepid'; its labels are warm, cold" in wrong.stderr
    )


def prepared(folder: Path, generated: str) -> Any:
    """A data set of 80 numbered texts and a file of generated ones, prepared."""
    folder.mkdir(exist_ok=True)
    rows = [
        f"text number {number} about {'snow' if number % 2 else 'sun'},{number % 2}" for number in range(80)
    ]
    (folder / "train.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    (folder / "new.csv").write_text(generated, encoding="utf-8")
    settings = parse_settings(
        {
            "data": {"name": "own", "labels": {"0": "warm", "1": "cold"}},
            "preparation": {
                "near_duplicates": "off",
                "validation_fraction": 0.3,
                "augmentation": {"generated": "new.csv"},
            },
        }
    )
    return prepare(settings, get_problem("classification"), folder)


def test_generated_records_join_the_training_part_alone(tmp_path: Path) -> None:
    plain = [f"a new winter text {number},cold,True" for number in range(30)]
    extra = [
        "text number 3 about snow,cold,True",
        "a new winter text 1,cold,True",
        "some,tepid,True",
        ",warm,True",
    ]
    result = prepared(tmp_path / "own", "\n".join(["text,label,generated", *plain, *extra]))
    train = result.parts["train"]
    written = train[train["source"] == "new.csv"]
    assert written["text"].tolist() == [f"a new winter text {number}" for number in range(30)]
    assert written["augmented"].all() and written["id"].is_unique and (written["label"] == "cold").all()
    assert all(
        not part["text"].str.contains("winter").any()
        for name, part in result.parts.items()
        if name != "train"
    )
    assert result.report["generated"] == {
        "file": "new.csv",
        "records": 30,
        "left_out": {
            "empty text": 1,
            "text that the data has": 1,
            "repeat": 1,
            "class that the data has not": 1,
        },
    }
    assert "30 records of the training part were written by a model" in result.report["warnings"]


@pytest.mark.parametrize(
    ("generated", "sentence"),
    [
        ("text,label\na,cold\n", "generated"),
        ("text,label,generated\na,cold,True\nb,cold,False\n", "row 2: the column `generated` is not true"),
        ("text,label,generated\n", "new.csv"),
    ],
)
def test_a_file_that_is_not_of_generated_records_is_refused(
    tmp_path: Path, generated: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        prepared(tmp_path / "own", generated)


def test_a_density_teaches_a_student(folder: Path, tmp_path: Path) -> None:
    some, _ = texts(12, 8)
    ids = [f"{number:016x}" for number in range(len(some))]
    pd.DataFrame({"id": ids, "text": some}).to_parquet(tmp_path / "train.parquet")
    write_tokens(tmp_path / "train.arrow", [{"id": ids, "input_ids": [[1]] * len(ids)}])
    card = read_card(folder)
    teaching = learn_from(
        folder, "density", card, get_problem(ProblemSettings()), ("cold", "warm"), tmp_path / "train.arrow",
        tmp_path / "train.parquet", tmp_path / "cache", DistillationSettings(),
    )  # fmt: skip
    said = Predictor.load(folder).predict(some)[["p:cold", "p:warm"]]
    np.testing.assert_allclose(torch.from_numpy(teaching.logits).softmax(-1), said, atol=1e-5)

"""The predictor reads a model folder and nothing else, and refuses one that is not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from catena.errors import DataError, ModelError
from catena.predictor import Predictor
from tests.tiny_model import LABELS, build_tiny_model

TEXTS = ["wheat harvest tonnes", "the dollar rate " * 20, "a", "tanker in the gulf"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "candidate")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", precision="float32")


def test_predictions_are_those_of_transformers_own_pipeline(folder: Path, predictor: Predictor) -> None:
    from transformers import pipeline

    theirs = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")(
        TEXTS, truncation=True, max_length=predictor.tokenization.max_length
    )
    ours = predictor.predict(TEXTS)
    for row, answer in zip(ours.to_dict("records"), theirs, strict=True):
        expected = {item["label"]: item["score"] for item in answer}
        assert row["prediction"] == max(expected, key=expected.__getitem__)
        np.testing.assert_allclose(
            [row[f"p:{name}"] for name in LABELS], [expected[n] for n in LABELS], atol=1e-5
        )


def test_probabilities_sum_to_one_and_confidence_is_the_greatest(predictor: Predictor) -> None:
    table = predictor.predict(TEXTS)
    probabilities = table[[f"p:{name}" for name in LABELS]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1))


def test_order_index_and_batching_do_not_change_an_answer(predictor: Predictor) -> None:
    records = pd.DataFrame({"text": TEXTS * 3}, index=range(100, 112))
    whole = predictor.predict(records)
    assert whole.index.tolist() == list(range(100, 112))
    batches = predictor.predict_batches(records.iloc[start : start + 5] for start in range(0, 12, 5))
    parts = pd.concat(list(batches))
    assert parts["prediction"].tolist() == whole["prediction"].tolist()
    np.testing.assert_allclose(parts["confidence"], whole["confidence"], atol=1e-5)


def test_truncation_is_told(predictor: Predictor) -> None:
    table = predictor.predict(TEXTS)
    assert table["truncated"].tolist() == [n > predictor.tokenization.max_length for n in table["n_tokens"]]
    assert table["truncated"].any()


def test_no_records_give_an_empty_table(predictor: Predictor) -> None:
    table = predictor.predict([])
    assert len(table) == 0
    assert {"prediction", "confidence", *(f"p:{name}" for name in LABELS)} <= set(table.columns)


def test_embeddings_have_one_row_a_text(predictor: Predictor) -> None:
    assert predictor.embed(TEXTS).shape == (4, 24)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (pd.DataFrame({"body": ["x"]}), "no column `text`; they have body"),
        (["fine", None], "Record 2: `text` must be text, not NoneType"),
        ([3.5], "Record 1: `text` must be text, not float"),
        ("one text", "A list of texts was expected"),
    ],
)
def test_records_of_the_wrong_kind_get_a_sentence(predictor: Predictor, records, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        predictor.predict(records)


def damaged(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_a_cut_off_model_file_is_named_with_its_size(folder: Path, tmp_path: Path) -> None:
    broken = damaged(folder, tmp_path / "m")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut off or altered: 1,000 bytes instead of"):
        Predictor.load(broken)


def test_one_altered_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    broken = damaged(folder, tmp_path / "m")
    weights = broken / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        Predictor.load(broken)


def test_a_missing_file_and_a_foreign_folder_are_named(folder: Path, tmp_path: Path) -> None:
    broken = damaged(folder, tmp_path / "m")
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        Predictor.load(broken)
    with pytest.raises(ModelError, match="There is no model folder"):
        Predictor.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="not a finished Catena model"):
        Predictor.load(tmp_path)


def test_a_card_that_points_outside_its_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = damaged(folder, tmp_path / "m")
    card = json.loads((broken / "catena.json").read_text())
    card["files"]["../../outside"] = {"sha256": "0", "bytes": 1}
    (broken / "catena.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="outside the model folder"):
        Predictor.load(broken)

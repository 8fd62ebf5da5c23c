"""A model of conversations: chat in turns and in pieces, MLflow's interface, files of prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from catena.bulk import predict_file
from catena.chat import Chat
from catena.errors import DataError, ModelError, SettingsError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.generation import GenerationEvaluation
from catena.explanation import explain
from catena.model_folder import write_card
from catena.predictor import Predictor
from catena.registry.loader import PackagedModel
from catena.registry.packaging import signature
from catena.settings import DataSettings
from tests.tiny_language_model import write_language_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chat") / "model"
    write_language_backbone(made)
    return made


def predictor(
    folder: Path, target: Path, cleaning: dict[str, object] | None = None, **problem: object
) -> Predictor:
    shutil.copytree(folder, target)
    write_card(
        target,
        {
            "problem": {"name": "generation", "decoding": {"max_new_tokens": 8}, **problem},
            "label_names": [], "backbone": {"type": "pretrained"}, "method": {"name": "full"},
            "tokenization": {"max_length": 96}, "cleaning": cleaning or {}, "columns": {},
            "fingerprint": "0" * 64,
        },
    )  # fmt: skip
    return Predictor.load(target, device="cpu", precision="float32")


def test_an_answer_comes_in_pieces_and_is_what_prediction_writes(folder: Path, tmp_path: Path) -> None:
    model = predictor(folder, tmp_path / "model")
    chat = Chat(model)
    answer = "".join(chat.say("what is blue?"))
    assert answer.strip() == model.predict(["what is blue?"])["prediction"][0]
    turns = list(chat.turns)
    if answer.strip():
        assert [turn["role"] for turn in turns] == ["user", "assistant"]
    chat.forget()
    assert chat.turns == []


def test_what_is_said_is_cleaned_as_the_training_data_were(folder: Path, tmp_path: Path) -> None:
    chat = Chat(predictor(folder, tmp_path / "model", cleaning={"lowercase": True}), system="Be SHORT")
    chat.turns.append({"role": "user", "content": "Cafe\u0301?  \r\nWHY"})
    text = chat._predictor.tokenizer.decode(chat.tokens())
    assert text == (
        "<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\ncaf\u00e9?\nwhy<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_what_no_tokenizer_can_read_is_refused_and_the_conversation_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    chat = Chat(predictor(folder, tmp_path / "model"), system=" ")
    with pytest.raises(DataError, match="half of a surrogate pair"):
        list(chat.say("hi \ud83d"))
    assert chat.turns == []
    "".join(chat.say("hi"))
    assert chat.turns[:1] in ([], [{"role": "user", "content": "hi"}])


def test_a_chat_goes_on_when_its_history_no_longer_fits(folder: Path, tmp_path: Path) -> None:
    chat = Chat(predictor(folder, tmp_path / "model"), system="be short")
    for number in range(6):
        "".join(chat.say(f"question number {number}"))
    assert chat.turns[0] == {"role": "system", "content": "be short"}


def test_words_are_left_out_of_a_question_and_not_of_the_json_around_it(folder: Path, tmp_path: Path) -> None:
    model = predictor(folder, tmp_path / "model")
    question = {"role": "user", "content": "what is blue?"}
    one = explain(model, {"prompt": json.dumps([question])})
    assert one.inputs == {"prompt": "what is blue?"}
    assert [piece.text for piece in one.pieces] == ["what", "is", "blue?"]
    assert one.claims == explain(model, {"prompt": "what is blue?"}).claims
    several = [question, {"role": "assistant", "content": "the sky"}, question]
    with pytest.raises(SettingsError, match="Words can be left out of running text only"):
        explain(model, {"prompt": json.dumps(several)})


def test_the_backbone_foresees_answers_in_nats_per_byte_as_prediction_measures_them(
    folder: Path, tmp_path: Path
) -> None:
    model = predictor(folder, tmp_path / "model")
    test = pd.DataFrame({"prompt": ["what is blue?", "and grass?"], "response": ["the sky", "green, it is"]})
    data = BaselineData(test, test, folder, 96, 0, columns=("prompt", "response"))
    judged = model.problem.evaluation()
    assert isinstance(judged, GenerationEvaluation)
    _, confidences = judged.backbone(data)
    found = model.predict(test, clean=False, score_targets=True)
    assert confidences is not None
    assert found["target_bytes"].tolist() == [7, 12]
    assert (-confidences * [7, 12]).tolist() == pytest.approx(found["target_loss"].tolist(), rel=0.05)


def test_nothing_said_is_nothing_to_answer(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is nothing to answer"):
        list(Chat(predictor(folder, tmp_path / "model")).say("  "))


def test_only_models_of_conversations_converse(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="solves generation of the form text, so it does not converse"):
        Chat(predictor(folder, tmp_path / "model", form="text"))


def test_mlflow_is_asked_with_texts_or_messages_in_one_column(folder: Path, tmp_path: Path) -> None:
    model = predictor(folder, tmp_path / "model")
    assert signature(model.card).inputs.input_names() == ["prompt"]
    messages = json.dumps([{"role": "user", "content": "what is blue?"}])
    said = PackagedModel(model).predict(pd.DataFrame({"prompt": ["what is blue?", messages]}))
    assert list(said.columns) == ["prediction", "confidence"]
    assert said["prediction"][0] == said["prediction"][1]


def test_what_is_no_conversation_in_a_file_is_skipped_with_its_row(folder: Path, tmp_path: Path) -> None:
    model = predictor(folder, tmp_path / "model")
    rows = [[{"role": "user", "content": "q"}], [{"role": "wizard", "content": "q"}]]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps({"talk": row}) + "\n" for row in rows), encoding="utf-8")
    columns = {"messages": "talk", **model.problem.asked_columns({"messages": "talk"})}
    settings = DataSettings.model_validate({"columns": columns})
    result = predict_file(model, file, tmp_path / "out.jsonl", settings)
    assert (result.predicted, result.skipped) == (1, 1)
    assert result.first_reason == "row 2: message of an unknown role 'wizard'"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_of_predictions_has_no_rows_for_what_was_refused(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    model = predictor(folder, tmp_path / "model")
    roles = ["wizard", "user", "ghost", "user"]
    file = tmp_path / "asked.jsonl"
    rows = [{"talk": [{"role": role, "content": "q"}], "n": at} for at, role in enumerate(roles)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = DataSettings.model_validate({"columns": {"prompt": "talk"}})
    result = predict_file(model, file, tmp_path / f"out.{ending}", settings, keep=["n"])
    assert (result.predicted, result.skipped) == (2, 2)
    read = {"jsonl": lambda path: pd.read_json(path, lines=True), "csv": pd.read_csv}
    written = read.get(ending, pd.read_parquet)(tmp_path / f"out.{ending}")
    assert written["row"].tolist() == [2, 4]
    assert written["n"].astype(int).tolist() == [1, 3]
    assert [json.loads(one)[0]["role"] for one in written["talk"]] == ["user", "user"]
    assert written["prediction"].notna().all()

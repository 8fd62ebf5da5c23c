"""Conversations and texts in all their forms become prompts and responses, or are rejected with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catena.data.cleaning import Cleaner
from catena.data.preparation import prepare
from catena.errors import DataError
from catena.problems import get_problem
from catena.problems.conversations import asked, read_messages
from catena.problems.generation import beginning
from catena.settings import ProblemSettings, parse_settings


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def compose(rows: list[dict[str, Any]], form: str = "conversation") -> tuple[pd.DataFrame, list[str]]:
    problem = get_problem(ProblemSettings.model_validate({"name": "generation", "form": form}))
    records, reasons = problem.compose(pd.DataFrame(rows))
    return records, reasons.tolist()


def test_a_conversation_is_divided_before_its_last_answer() -> None:
    messages = [user("a"), assistant("b"), user("c"), assistant("d"), user("unanswered")]
    records, reasons = compose([{"messages": json.dumps(messages)}])
    assert reasons == [""]
    assert json.loads(records["prompt"][0]) == messages[:3]
    assert records["response"][0] == "d"


def test_sharegpt_names_of_roles_and_keys_are_read() -> None:
    given = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert read_messages(json.dumps(given)) == [{"role": "system", "content": "s"}, user("q"), assistant("a")]


def test_an_input_of_alpaca_follows_the_instruction_after_a_blank_line() -> None:
    rows = [
        {"prompt": "Translate.", "context": "chat", "response": "cat"},
        {"prompt": "Say hi.", "context": "", "response": "hi"},
    ]
    records, _ = compose(rows)
    assert [json.loads(prompt) for prompt in records["prompt"]] == [
        [user("Translate.\n\nchat")],
        [user("Say hi.")],
    ]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("not json", "conversation is not a JSON list of messages"),
        ("[]", "conversation is not a JSON list of messages"),
        ('["hello"]', "conversation is not a JSON list of messages"),
        ('[{"role":"user"}]', "message without a role or a text"),
        ('[{"role":"wizard","content":"x"}]', "message of an unknown role 'wizard'"),
        ('[{"role":"user","content":" \\n"}]', "empty message"),
        (
            '[{"role":"user","content":"q"},{"role":"assistant","content":"half \\ud83d"}]',
            "half of a surrogate pair, which is no character",
        ),
        (json.dumps([user("q")]), "no assistant turn to learn from"),
        (json.dumps([assistant("a")]), "user and assistant do not take turns, the user first"),
        (
            json.dumps([user("q"), user("q"), assistant("a")]),
            "user and assistant do not take turns, the user first",
        ),
        (
            json.dumps([user("q"), {"role": "system", "content": "s"}, assistant("a")]),
            "system message after the beginning",
        ),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_rejected_with_its_reason(messages: str, reason: str) -> None:
    assert compose([{"messages": messages}])[1] == [reason]


def test_an_exchange_without_a_side_is_rejected() -> None:
    assert compose([{"prompt": "q", "response": None}, {"prompt": " ", "response": "a"}])[1] == [
        "empty response",
        "empty prompt",
    ]


def test_a_prompt_is_a_text_or_a_list_of_messages_whose_last_answer_is_asked_for() -> None:
    assert asked("hello") == [user("hello")]
    assert asked("[1, 2]") == [user("[1, 2]")]
    assert asked(json.dumps([user("q"), assistant("a")])) == [user("q")]
    with pytest.raises(ValueError, match="unknown role"):
        asked('[{"role":"wizard","content":"x"}]')


def test_predicting_names_the_record_whose_prompt_is_no_conversation() -> None:
    problem = get_problem("generation")
    table = pd.DataFrame({"prompt": ["fine", '[{"role":"user","content":""}]']})
    with pytest.raises(DataError, match=r"Record 2: `prompt` cannot be answered: empty message\."):
        problem.clean(table, Cleaner())


def test_half_a_surrogate_pair_in_a_prompt_is_refused_with_its_record_and_a_whole_one_is_read() -> None:
    problem = get_problem("generation")
    half, whole = (f'[{{"role":"user","content":"hi {code}"}}]' for code in (r"\ud83d", r"\ud83d\ude00"))
    reason = "half of a surrogate pair, which is no character"
    assert problem.refusals(pd.DataFrame({"prompt": [whole, half]})).tolist() == ["", reason]
    with pytest.raises(DataError, match=f"Record 2: `prompt` cannot be answered: {reason}"):
        problem.clean(pd.DataFrame({"prompt": [whole, half]}), Cleaner())
    assert json.loads(problem.clean(pd.DataFrame({"prompt": [whole]}), Cleaner())["prompt"][0]) == [
        user("hi 😀")
    ]


def test_a_prompt_has_words_where_it_is_one_question_and_no_list_of_messages() -> None:
    problem = get_problem("generation")
    one = json.dumps([user("what is blue?")])
    assert problem.as_words({"prompt": one}) == {"prompt": "what is blue?"}
    assert problem.as_words({"prompt": "what is blue?"}) == {"prompt": "what is blue?"}
    told = [{"role": "system", "content": "be short"}, user("q")]
    for several in (told, [user("q"), assistant("a"), user("r")], [user(one)], [{"role": "wizard"}]):
        assert problem.as_words({"prompt": json.dumps(several)}) is None
    running = get_problem(ProblemSettings.model_validate({"name": "generation", "form": "text"}))
    assert running.as_words({"prompt": one}) == {"prompt": one}


def test_cleaning_keeps_lines_and_indentation_and_drops_white_space_at_ends() -> None:
    problem = get_problem("generation")
    prompt = json.dumps([user("if x:\r\n    y  \r\n")])
    table = pd.DataFrame({"prompt": [prompt], "response": ["  one\n\n  two  \n"]})
    cleaned = problem.clean(table, Cleaner())
    assert json.loads(cleaned["prompt"][0]) == [user("if x:\n    y")]
    assert cleaned["response"][0] == "one\n\n  two"


def test_a_text_is_given_up_to_the_end_of_a_word() -> None:
    text = "to be or not to be that is"
    assert [text[: beginning(text, most)] for most in (7, 8, 9)] == ["to be", "to be or", "to be or"]
    assert beginning("abcdefgh", 100) == 4  # no word ends: the middle
    assert beginning("天地玄黄宇宙洪荒", 3) == 3


def test_blocks_of_text_are_given_and_continued_without_a_character_lost() -> None:
    text = "  First Citizen:\nBefore we proceed any further, hear me speak.\n\n"
    records, reasons = compose([{"text": text}, {"text": "x"}], form="text")
    assert records["prompt"][0] + records["response"][0] == text
    assert reasons == ["", "text too short to be given in part"]


def _project(folder: Path, lines: list[dict[str, Any]], **data: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    values = {
        "data": {"name": "talk", "train": "train.jsonl", "columns": {"messages": "messages"}, **data},
        "problem": {"name": "generation"},
        "preparation": {"max_rejected_fraction": 0.5},
    }
    return parse_settings(values, "test")


def test_preparing_conversations_keeps_white_space_and_writes_down_bad_rows(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"messages": [user(f"question {number} about {number * 7}?"), assistant(f"line {number}\n  two")]}
        for number in range(60)
    ]
    lines[4] = {"messages": [user("q")]}
    lines[9] = {"messages": "text"}
    settings = _project(tmp_path, lines)
    prepared = prepare(settings, get_problem(settings.problem), tmp_path)
    every = pd.concat(prepared.parts.values())
    assert len(every) == 58
    assert every["response"].str.contains("\n  two", regex=False).all()
    assert prepared.rejected[["row", "kind"]].values.tolist() == [
        [5, "no assistant turn to learn from"],
        [10, "conversation is not a JSON list of messages"],
    ]


def test_what_the_system_is_told_makes_no_near_duplicates(tmp_path: Path) -> None:
    told = {
        "role": "system",
        "content": "You are a patient tutor who explains everything in small steps. " * 5,
    }
    subjects = [
        "the tides",
        "prime numbers",
        "bread",
        "Bach",
        "glass",
        "wolves",
        "rust",
        "tea",
        "chess",
        "silk",
    ]
    lines = [
        {"messages": [told, user(f"Tell me about {one} and {other}"), assistant(f"{one} before {other}.")]}
        for one in subjects
        for other in subjects
        if one != other
    ]
    settings = _project(tmp_path, lines)
    prepared = prepare(settings, get_problem(settings.problem), tmp_path)
    assert sum(map(len, prepared.parts.values())) > 60


def test_parts_in_order_are_stretches_of_the_file(tmp_path: Path) -> None:
    tmp_path.joinpath("play.txt").write_text(
        "".join(f"line {number} of the play is said by somebody.\n" for number in range(400)),
        encoding="utf-8",
    )
    values = {
        "data": {
            "name": "play", "format": "text", "train": "play.txt", "block_characters": 200,
            "columns": {"text": "text"},
        },
        "problem": {"name": "generation", "form": "text", "prompt_characters": 40},
        "preparation": {
            "split": "order", "test_fraction": 0.1, "validation_fraction": 0.1, "near_duplicates": "off",
        },
    }  # fmt: skip
    settings = parse_settings(values, "test")
    parts = prepare(settings, get_problem(settings.problem), tmp_path).parts
    whole = "".join(
        (parts[name]["prompt"] + parts[name]["response"]).str.cat()
        for name in ("train", "validation", "test")
    )
    assert whole == tmp_path.joinpath("play.txt").read_text(encoding="utf-8")
    shares = [len(parts[name]) / sum(map(len, parts.values())) for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.81, 0.09, 0.1], abs=0.02)

"""Questions about passages: SQuAD's JSON, JSON Lines and Parquet, answers good and bad, `catena init`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catena.data.formats import Batch, file_format, read_records
from catena.data.inspect import inspect_file, write_params
from catena.data.preparation import Prepared, prepare
from catena.errors import DataError
from catena.problems import get_problem
from catena.problems.answering import Answering
from catena.problems.answers import from_canonical, read_answers
from catena.settings import DataSettings, Settings, load_settings, parse_settings
from tests.real_data import real_data

COLUMNS = {"question": "question", "context": "context", "answers": "answers"}
CITIES = ["Oslo", "Bern", "Lima", "Kiel", "Riga", "Rome", "Cork", "Graz", "Nice", "Faro"]


def passage(number: int) -> str:
    """A passage that is like no other: its words are made from its number."""
    words = " ".join(f"w{number * 31 + at}x" for at in range(12))
    return f"Report {number} of {CITIES[number % 10]}: {words} were counted by team {number * 7 + 3}."


def question(number: int, text: str, start: int, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "question": f"Who counted {number}?", **more} | {
        "answers": [{"text": text, "answer_start": start}]
    }


def squad(path: Path, paragraphs: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "T", "paragraphs": paragraphs}]}))
    return path


def read(path: Path, **more: Any) -> Batch:
    settings = DataSettings.model_validate({"name": "x", "columns": COLUMNS, "keep": ["title"], **more})
    (batch,) = read_records(path, settings, tuple(COLUMNS), keep=settings.keep, contents=Answering.contents)
    return batch


def settings_for(folder: Path, name: str) -> Settings:
    return parse_settings(
        {
            "data": {"name": folder.name, "train": name, "columns": COLUMNS},
            "preparation": {"test_fraction": 0.3, "validation_fraction": 0.3, "max_rejected_fraction": 0.9},
            "problem": {"name": "answering"},
        }
    )


def prepared(path: Path) -> Prepared:
    settings = settings_for(path.parent, path.name)
    return prepare(settings, get_problem(settings.problem), path.parent)


def test_a_squad_file_is_recognised_and_read_question_by_question(tmp_path: Path) -> None:
    impossible = question(3, "x", 0, is_impossible=True) | {"answers": []}
    impossible["plausible_answers"] = [{"text": "of", "answer_start": 9}]
    path = squad(
        tmp_path / "q.json",
        [
            {"context": "Anna lives in Oslo.", "qas": [question(1, "Anna", 0), question(2, "Oslo", 14)]},
            {"context": "Nobody knows of it.", "qas": [impossible, {"id": "4", "answers": []}]},
        ],
    )
    assert file_format(path) == "squad"
    batch = read(path)
    assert batch.records["row"].tolist() == [1, 2, 3]
    assert batch.records["title"].tolist() == ["T"] * 3
    assert batch.records["context"].tolist() == ["Anna lives in Oslo."] * 2 + ["Nobody knows of it."]
    assert batch.records["answers"].tolist()[2] == "[]"  # neither missing nor the plausible one
    assert batch.broken[["row", "reason"]].to_numpy().tolist() == [[4, "missing question"]]


def test_a_gzipped_squad_file_is_read_too(tmp_path: Path) -> None:
    plain = squad(tmp_path / "q.json", [{"context": "Anna.", "qas": [question(1, "Anna", 0)]}])
    (tmp_path / "z.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert file_format(tmp_path / "z.json.gz") == "squad"
    assert read(tmp_path / "z.json.gz").records["answers"].tolist() == read(plain).records["answers"].tolist()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"version": "1.1", "data": [{"title": "a", "paragraphs": [', "no complete JSON"),
        ('{"data": {"title": "paragraphs"}}', "no list `data`"),
        ('{"version": "1.1", "data": []}', "an empty list `data`: there is no question in it"),
        ("[1, 2]", "no list `data`"),
    ],
)
def test_a_file_that_is_cut_off_or_in_another_form_gets_a_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "q.json", format="squad")


def test_articles_paragraphs_and_questions_of_another_form_are_rejected_one_by_one(tmp_path: Path) -> None:
    data = [
        7,
        {
            "title": "b",
            "paragraphs": [3, {"context": "Anna.", "qas": ["?", {"question": "Who?", "answers": 7}]}],
        },
        {"title": "c", "paragraphs": [{"context": "Bert.", "qas": [question(1, "Bert", 0)]}]},
    ]
    (tmp_path / "q.json").write_text(json.dumps({"data": data}))
    batch = read(tmp_path / "q.json", format="squad")
    assert batch.records["row"].tolist() == [5]
    assert batch.broken["reason"].tolist() == [
        "an article without a list `paragraphs`",
        "a paragraph without a list `qas`",
        "a question that is no object",
        "a question whose `answers` are no list",
    ]


def test_answers_come_in_the_forms_of_squad_of_datasets_and_as_plain_text() -> None:
    context = "Anna met Bert. Bert left."
    for raw in (
        '[{"text": "Bert", "answer_start": 9}]',
        '{"text": ["Bert"], "answer_start": [9]}',
        '{"text": "Bert", "answer_start": 9}',
        '[[9, "Bert"]]',
    ):
        assert read_answers(raw, context) == [(9, 13)]
    assert read_answers('["Anna"]', context) == read_answers("Anna", context) == [(0, 4)]
    # without a place, it counts wherever it is
    assert read_answers("Bert", context) == [(9, 13), (15, 19)]
    assert read_answers("[]", context) == []
    assert read_answers('{"text": [], "answer_start": []}', context) == []


def test_places_counted_in_bytes_or_utf16_units_are_understood() -> None:
    context = "Zoë and 😀 saw Zoë in Köln."
    second = context.index("Zoë", 3)
    for counted in (second, len(context[:second].encode()), len(context[:second].encode("utf-16-le")) // 2):
        raw = json.dumps([{"text": "Zoë", "answer_start": counted}])
        assert read_answers(raw, context) == [(second, second + 3)], counted


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('[{"text": "Carla", "answer_start": 0}]', "answer not in its passage"),
        ('[{"text": "a", "answer_start": 400}]', "answer not where"),
        ('[{"text": " ", "answer_start": 0}]', "empty answer"),
        ('[{"text": "Anna", "answer_start": 0.5}]', "not a whole number"),
        ('{"text": ["Anna", "Bert"], "answer_start": [0]}', "as many answers as places"),
        ('[{"answer": "Anna"}]', "not in a form"),
        ("[[1, 2, 3]]", "not in a form"),
    ],
)
def test_answers_that_are_none_say_why(raw: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_answers(raw, "Anna met a man and a dog and a cat.")


def test_bad_answers_are_rejected_with_their_row_and_the_rest_is_kept(tmp_path: Path) -> None:
    paragraphs = []
    for number in range(40):
        text = passage(number)
        answer = f"team {number * 7 + 3}"
        paragraphs.append({"context": text, "qas": [question(number, answer, text.index(answer))]})
    paragraphs[4]["qas"][0]["answers"][0]["text"] = "somebody else"
    paragraphs[7]["qas"][0]["answers"] = []
    result = prepared(squad(tmp_path / "q.json", paragraphs))
    bad = result.rejected.set_index("row")["reason"].to_dict()
    assert bad == {5: "answer not in its passage", 8: "missing answers"}
    kept = pd.concat(result.parts.values())
    assert len(kept) == 38
    for context, target in zip(kept["context"], kept["answers"], strict=True):
        ((start, text),) = from_canonical(target)
        assert context[start : start + len(text)] == text


def test_all_questions_about_a_passage_are_in_one_part(tmp_path: Path) -> None:
    paragraphs = []
    for number in range(30):
        text = passage(number)
        asked = [
            question(number * 10 + at, f"w{number * 31 + at}x", text.index(f"w{number * 31 + at}x"))
            for at in range(5)
        ]
        paragraphs.append({"context": text, "qas": asked})
    result = prepared(squad(tmp_path / "q.json", paragraphs))
    sides = [set(part["context"]) for part in result.parts.values()]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == 30
    assert sum(map(len, result.parts.values())) == 150  # alike as they are, none was taken for a duplicate


def test_cleaning_moves_answers_along(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        text = f"  {passage(number)}\n\nIt cost &pound;{number}  and the cafe\u0301  closed. "
        answer = f"&pound;{number}  and the cafe\u0301"
        rows.append(
            {
                "question": f"What happened {number}?",
                "context": text,
                "answers": {"text": [answer], "answer_start": [text.index(answer)]},
            }
        )
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = settings_for(tmp_path, path.name)
    settings = settings.model_copy(
        update={"preparation": settings.preparation.model_copy(update={"unescape_html": True})}
    )
    result = prepare(settings, get_problem(settings.problem), tmp_path)
    kept = pd.concat(result.parts.values())
    assert len(kept) == 30
    for context, target in zip(kept["context"], kept["answers"], strict=True):
        ((start, text),) = from_canonical(target)
        assert text.startswith("£") and text.endswith(" and the café")
        assert context[start : start + len(text)] == text


def test_parquet_files_in_the_form_of_the_datasets_library_are_read(tmp_path: Path) -> None:
    answers = [{"text": ["Anna"], "answer_start": [0]}, {"text": [], "answer_start": []}]
    pd.DataFrame(
        {"question": ["Who?", "Why?"], "context": ["Anna left."] * 2, "answers": answers}
    ).to_parquet(tmp_path / "q.parquet")
    settings = DataSettings.model_validate({"name": "x", "columns": COLUMNS})
    (batch,) = read_records(tmp_path / "q.parquet", settings, tuple(COLUMNS), contents=Answering.contents)
    spans = [read_answers(raw, "Anna left.") for raw in batch.records["answers"]]
    assert spans == [[(0, 4)], []]


def test_init_recognises_squad_and_json_lines_and_writes_settings_for_them(tmp_path: Path) -> None:
    paragraphs = [{"context": passage(n), "qas": [question(n, "Report", 0)]} for n in range(12)]
    paragraphs[3]["qas"][0]["answers"][0]["text"] = "elsewhere"
    found = inspect_file(squad(tmp_path / "faq.json", paragraphs))
    assert (found.problem, found.format, found.records) == ("answering", "squad", 12)
    assert any("answer not in its passage" in note for note in found.notes)
    lines = tmp_path / "faq.jsonl"
    rows = ({"question": f"{n}?", "passage": passage(n), "answer": "Report"} for n in range(12))
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    found = inspect_file(lines)
    assert found.data.columns == {"question": "question", "context": "passage", "answers": "answer"}
    project = tmp_path / "project"
    project.mkdir()
    params = write_params(found, project)
    assert "name: answering" in params.read_text() and (project / "data/raw/faq/faq.jsonl").is_file()


def table(path: Path, names: tuple[str, str, str] = ("question", "context", "answers")) -> Path:
    """Twelve questions in a file with separators or in Parquet; answers as texts and as SQuAD has them."""
    rows = [(f"What, {n}?", passage(n), "Report") for n in range(11)]
    rows.append(("What now?", passage(11), json.dumps([{"text": "Report", "answer_start": 0}])))
    data = pd.DataFrame(rows, columns=list(names))
    if path.suffix == ".parquet":
        data.to_parquet(path)
    else:
        data.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["faq.csv", "faq.tsv", "faq.parquet"])
@pytest.mark.parametrize("names", [("question", "context", "answers"), ("Question", "Passage", "Answer")])
def test_init_recognises_tables_and_the_settings_it_writes_read_them(
    tmp_path: Path, name: str, names: tuple[str, str, str]
) -> None:
    found = inspect_file(table(tmp_path / name, names))
    assert (found.problem, found.records, found.notes[1:]) == ("answering", 12, ())
    assert found.data.columns == dict(zip(COLUMNS, names, strict=True))
    (batch,) = read_records(tmp_path / name, found.data, tuple(COLUMNS))
    spans = [
        read_answers(*row) for row in zip(batch.records["answers"], batch.records["context"], strict=True)
    ]
    assert spans == [[(0, len("Report"))]] * 12
    project = tmp_path / "project"
    project.mkdir()
    params = write_params(found, project)
    assert load_settings(params).problem.name == "answering"


def test_init_takes_columns_of_any_name_where_they_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "faq.csv", ("ask", "body", "reply"))
    columns = {"question": "ask", "context": "body", "answers": "reply"}
    found = inspect_file(path, columns=columns)
    assert (found.problem, found.data.columns) == ("answering", columns)
    path = table(tmp_path / "half.csv", ("ask", "context", "reply"))
    found = inspect_file(path, text="ask", label="reply")
    assert (found.problem, found.data.columns["answers"]) == ("answering", "reply")


def test_labels_beside_a_question_and_its_context_are_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "routes.csv"
    rows = [(f"What, {n}?", passage(n), "sales" if n % 2 else "help desk") for n in range(12)]
    pd.DataFrame(rows, columns=["question", "context", "desk"]).to_csv(path, index=False)
    assert inspect_file(path, text="question", label="desk").problem == "classification"


@pytest.mark.parametrize(
    ("name", "columns", "sentence"),
    [
        ("faq.csv", {"question": "questoin"}, "has no column 'questoin' for --column question=.*'question'"),
        ("faq.tsv", {"answers": "anwers"}, "has no column 'anwers' for --column answers=.*'answers'"),
        ("faq.parquet", {"context": "contxt", "question": "question"}, "has no column 'contxt' for --column"),
        ("faq.csv", {"questions": "question"}, "the problem answering has no questions"),
        ("faq.csv", {"question": "answers"}, "cannot be question and answers at once"),
    ],
)
def test_mistyped_columns_get_a_sentence(
    tmp_path: Path, name: str, columns: dict[str, str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        inspect_file(table(tmp_path / name), columns=columns)


def test_a_column_that_is_missing_gets_a_sentence(tmp_path: Path) -> None:
    path = table(tmp_path / "faq.csv", ("question", "body", "answers"))
    with pytest.raises(DataError, match="called like the context of SQuAD; name it with `--column context="):
        inspect_file(path, problem="answering")
    with pytest.raises(DataError, match="has no column 'ask' for --column question=, only 'question'"):
        inspect_file(
            squad(tmp_path / "faq.json", [{"context": passage(1), "qas": [question(1, "Report", 0)]}]),
            columns={"question": "ask"},
        )


def test_xquad_is_read_whole() -> None:
    batch = read(real_data("xquad/xquad.en.json"), format="auto")
    assert len(batch.records) == 1190 and batch.broken.empty
    assert batch.records["context"].nunique() == 240
    for raw, context in zip(batch.records["answers"], batch.records["context"], strict=True):
        ((start, end),) = read_answers(raw, context)
        assert json.loads(raw)[0] == {"text": context[start:end], "answer_start": start}

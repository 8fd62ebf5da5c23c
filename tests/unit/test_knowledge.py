"""Knowledge bases: passages of documents, finding them, answering with sources or not at all."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from catena.cli import app
from catena.errors import DataError, ModelError, SettingsError
from catena.evaluation.ranked_lists import bm25
from catena.knowledge.asking import FOUND, READ, Reply, ask
from catena.knowledge.checking import is_right, levels, lowest_threshold, read_questions
from catena.knowledge.index import KnowledgeBase
from catena.knowledge.passages import Passage, read_passages
from catena.knowledge.words import WordIndex
from tests.tiny_documents import HTML, MARKDOWN
from tests.tiny_model import build_tiny_model
from tests.tiny_project import write_backbone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    documents = tmp_path / "documents"
    (documents / "more").mkdir(parents=True)
    (documents / "handbook.md").write_text(MARKDOWN)
    (documents / "more" / "prices.html").write_text(HTML)
    (documents / "faq.csv").write_text(
        "question,answer\nHow do I reset my password?,Use the link below the login.\n"
        "Where is my invoice?,It is in the archive.\nEmpty?,\n"
    )
    (documents / "picture.png").write_bytes(b"\x89PNG")
    (documents / ".hidden.md").write_text("secret")
    (documents / "empty.txt").write_text("")
    return documents


def catena(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_folder_gives_passages_and_pairs_and_names_what_it_leaves_out(folder: Path) -> None:
    found, others = read_passages(folder, 150)
    assert others == ["picture.png"]
    assert {one.source for one in found} == {"handbook.md", "more/prices.html", "faq.csv"}
    (pair,) = [one for one in found if one.question.startswith("How")]
    assert (pair.text, pair.row) == ("Use the link below the login.", 1)
    assert len([one for one in found if one.source == "faq.csv"]) == 2  # the row without an answer is none


def test_long_sections_are_divided_at_sentences_that_overlap_by_one(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {n} has these seven words." for n in range(20))
    (tmp_path / "a.txt").write_text(text)
    found, _ = read_passages(tmp_path, 30)
    for one, following in pairwise(found):
        assert len(one.text.split()) <= 30
        last = one.text.split(". ")[-1].rstrip(".")
        assert following.text.startswith(last)
    for n in range(20):
        assert any(f"number {n} has these seven words." in one.text for one in found)


def test_what_closes_after_the_end_of_a_sentence_stays_with_it(tmp_path: Path) -> None:
    text = 'He said "Stop." Then he left (see Fig. 1.) And “so.” 他说：“好。”然后走了。'
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found, _ = read_passages(tmp_path, 200)
    assert found[0].text == text


def test_a_sentence_without_end_and_a_script_without_spaces_are_divided_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join(map(str, range(100))))
    (tmp_path / "b.txt").write_text("".join(f"天气很好{n}。我们去北京。" for n in range(60)))
    found, _ = read_passages(tmp_path, 30)
    assert sum(one.source == "a.txt" for one in found) == 4
    chinese = [one.text for one in found if one.source == "b.txt"]
    assert len(chinese) > 1 and all(" " not in text and len(text) < 60 for text in chinese)


def test_long_texts_without_ends_of_sentences_are_divided_in_time_that_grows_with_them(
    tmp_path: Path,
) -> None:
    words = [f"word{n}" for n in range(80_000)]
    (tmp_path / "a.txt").write_text(" ".join(words))
    started = time.perf_counter()
    found, _ = read_passages(tmp_path, 40)
    seconds = time.perf_counter() - started
    assert [word for one in found for word in one.text.split()] == words
    assert len(found) == 2_000
    assert seconds < 15  # a second or two; with all words found anew for each passage it takes minutes


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the key is under the mat")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.txt").write_text("nothing of interest")
    (inside / "b.txt").symlink_to(tmp_path / "secret.txt")
    found, _ = read_passages(inside, 150)
    assert [one.text for one in found] == ["nothing of interest"]


def test_what_cannot_be_read_gets_a_sentence(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        read_passages(tmp_path / "nowhere", 150)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="nothing to answer from"):
        read_passages(tmp_path / "void", 150)
    (folder / "faq.csv").write_text("ask,say\na,b\n")
    with pytest.raises(DataError, match="has no column 'question'"):
        read_passages(folder, 150)
    with pytest.raises(DataError, match="no words"):
        KnowledgeBase.build([Passage("?!", "a.txt", 1)], None)


def test_bm25_is_that_of_the_ranking_baseline() -> None:
    import pandas as pd

    from catena.evaluation.baselines import BaselineData

    texts = ["the red fox", "a red red house of the fox", "blue water", "fox"]
    asked = ["red fox", "water of life"]
    pairs = pd.DataFrame([{"query": one, "item": text, "relevance": "1"} for one in asked for text in texts])
    data = BaselineData(train=pairs, test=pairs, backbone=Path(), max_length=8, seed=0)
    expected = bm25(data)[0].astype(float).reshape(2, 4)
    assert WordIndex.build(texts).scores(asked) == pytest.approx(expected, abs=1e-5)


def test_coverage_is_the_share_of_the_words_by_rarity() -> None:
    index = WordIndex.build(["red fox", "red house", "red water"])
    rare, common = np.log(1 + 2.5 / 1.5), np.log(1 + 0.5 / 3.5)
    assert index.coverage("red fox", 0) == pytest.approx(1)
    assert index.coverage("red fox", 1) == pytest.approx(common / (common + rare), abs=1e-6)
    assert index.coverage("?", 0) == 0.0


def test_questions_together_find_what_each_finds_alone_in_tables_of_bounded_size() -> None:
    texts = [f"passage {n} of {n % 7} and {n % 11}" for n in range(2_000)]
    base = KnowledgeBase.build([Passage(text, "a.txt", n) for n, text in enumerate(texts)], None)
    questions = [f"what of {n} and {n % 13}" for n in range(1_500)]
    base.search(questions[:1], 1)  # what is kept for later is not measured
    tracemalloc.start()
    try:
        found = base.search(questions, 1)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 30e6  # one table of all pairs alone would take 24 MB, and several are needed
    for at in (0, 700, 1_499):
        assert found[at] == base.search([questions[at]], 1)[0]


def test_what_questions_need_of_the_index_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base = KnowledgeBase.build([Passage(f"passage {n}", "a.txt", n) for n in range(50)], None)
    made: list[int] = []
    bincount = np.bincount
    monkeypatch.setattr(np, "bincount", lambda *given, **named: made.append(1) or bincount(*given, **named))
    hits = base.search([f"passage {n}" for n in range(20)], 10)
    assert sum(map(len, hits)) == 200 and hits[3][0].passage.row == 3
    assert len(made) <= 2


def test_a_knowledge_base_is_the_same_after_it_was_stored(tmp_path: Path, folder: Path) -> None:
    write_backbone(tmp_path / "encoder")
    passages, _ = read_passages(folder, 150)
    built = KnowledgeBase.build(passages, tmp_path / "encoder").with_thresholds({FOUND: 0.4})
    built.save(tmp_path / "base")
    loaded = KnowledgeBase.load(tmp_path / "base")
    assert loaded.passages == built.passages and loaded.thresholds == {FOUND: 0.4}
    questions = ["Where is the invoice?", "When do parcels leave?"]
    found = [base.search(questions, 3, tmp_path / "encoder") for base in (built, loaded)]
    assert found[0] == found[1]
    assert all(len(hits) == 3 and 0 <= hits[0].match <= 1 for hits in found[0])


@pytest.mark.parametrize(
    "place", ["documents", "documents/more", "documents/base", ".", "photos", "notes.md"]
)
def test_no_folder_of_the_users_is_replaced_by_a_knowledge_base(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a picture")
    (tmp_path / "notes.md").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, _, sentence = catena("knowledge", "build", "--input", folder, "--output", place, "--words-only")
    assert status == 2 and "folder" in sentence
    with pytest.raises(SettingsError, match="would be deleted"):
        KnowledgeBase.build(read_passages(folder, 150)[0], None).save(Path("photos"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_older_knowledge_base_is_replaced(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    for count in (7, 6):
        status, _, _ = catena("knowledge", "build", "--input", folder, "--output", "base", "--words-only")
        assert status == 0 and len(KnowledgeBase.load(tmp_path / "base").passages) == count
        (folder / "faq.csv").write_text("question,answer\nWhere is my invoice?,It is in the archive.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "documents"]


def test_other_weights_than_those_it_was_made_with_are_refused(tmp_path: Path, folder: Path) -> None:
    write_backbone(tmp_path / "encoder")
    passages, _ = read_passages(folder, 150)
    base = KnowledgeBase.build(passages, tmp_path / "encoder")
    with pytest.raises(ModelError, match="needs the encoder"):
        base.search(["a question"], 1, None)
    weights = tmp_path / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="other weights"):
        base.search(["a question"], 1, tmp_path / "encoder")


@pytest.mark.parametrize("harm", ["missing", "cut off", "other card", "foreign indices"])
def test_a_damaged_knowledge_base_is_refused_in_a_sentence(tmp_path: Path, folder: Path, harm: str) -> None:
    from dataclasses import replace

    base = KnowledgeBase.build(read_passages(folder, 150)[0], None)
    if harm == "foreign indices":
        base = replace(base, words=replace(base.words, indices=base.words.indices + 10_000))
    base.save(tmp_path / "base")
    arrays, card = tmp_path / "base" / "arrays.safetensors", tmp_path / "base" / "knowledge.json"
    if harm == "missing":
        arrays.unlink()
    elif harm == "cut off":
        arrays.write_bytes(arrays.read_bytes()[:-8])
    elif harm == "other card":
        card.write_text("[]")
    with pytest.raises(ModelError, match="no complete knowledge base"):
        KnowledgeBase.load(tmp_path / "base")


def test_questions_are_answered_from_pairs_and_documents_or_not_at_all(folder: Path) -> None:
    base = KnowledgeBase.build(read_passages(folder, 150)[0], None)
    known, document, unknown = ask(
        base, ["How can I reset a password?", "When do parcels leave?", "Who wrote Hamlet in London?"]
    )
    assert known.known and known.answer == "Use the link below the login."
    assert document.known and document.sources[0].passage.heading == "Handbook › Shipping"
    assert not unknown.known and unknown.confidence < 0.35 and unknown.sources


def test_only_models_that_answer_questions_read(tmp_path: Path, folder: Path) -> None:
    from catena.predictor import Predictor

    base = KnowledgeBase.build(read_passages(folder, 150)[0], None)
    with pytest.raises(ModelError, match="solves classification"):
        ask(base, ["Where?"], reader=Predictor.load(build_tiny_model(tmp_path / "model")))


def reply(answer: str, confidence: float, kind: str = READ) -> Reply:
    return Reply("?", answer, confidence, kind, True, ())


def test_a_reply_is_right_where_it_says_much_the_same_or_holds_the_answer() -> None:
    assert is_right(reply("the red fox", 1.0), "red fox")
    assert not is_right(reply("the red fox in winter snow", 1.0), "fox")
    assert is_right(reply("It was a red fox, they say.", 1.0, FOUND), "The Red Fox")
    assert not is_right(reply("It was", 1.0, FOUND), "")


@pytest.mark.parametrize(
    ("passage", "answer", "right"),
    [
        ("It opened in 2010.", "10", False),
        ("It opened in 2010.", "2010", True),
        ("From 1990\u20132010 it was open.", "2010", True),
        ("From 1990-2010 it was open.", "1990-2010", True),
        ("It cost 10,000 crowns, or 3.14 a head.", "10", False),
        ("It cost 10,000 crowns, or 3.14 a head.", "14", False),
        ("It cost 10,000 crowns, or 3.14 a head.", "10000 crowns", True),
        ("Tesla's Category A", "Tesla", True),
        ("in the U.S. since then", "US", True),
        ("bus stop", "us", False),
        ("the cat and the dog", "cat dog", False),
        ("virtual_card_not_working", "card_not_working", False),
        ("card_not_working", "card_not_working", True),
        ("anything at all", "?!", False),
        ("anything at all", "the", False),
        ("?!", "the", False),
        ("我们去北京。", "北京", True),
        ("我们去北京。", "南京", False),
    ],
)
def test_a_passage_holds_an_answer_only_as_whole_words(passage: str, answer: str, right: bool) -> None:
    assert is_right(reply(passage, 1.0, FOUND), answer) is right


def test_a_read_reply_is_not_right_by_being_as_empty_as_the_answer() -> None:
    assert not is_right(reply("The", 1.0), "?!")
    assert is_right(reply("A", 1.0), "a") and not is_right(reply("A", 1.0), "The")
    assert is_right(reply("10", 1.0), "10") and not is_right(reply("2010", 1.0), "10")


def test_levels_count_what_is_answered_right_and_refused_by_hand() -> None:
    replies = [reply("a", 0.9), reply("b", 0.5), reply("x", 0.5), reply("y", 0.3), reply("z", 0.6)]
    answers = ["a", "b", "c", "", ""]
    half = next(level for level in levels(replies, answers) if level.threshold == 0.5)
    assert (half.answered, half.right, half.refused) == (1.0, pytest.approx(2 / 3), 0.5)
    most = next(level for level in levels(replies, answers) if level.threshold == 0.9)
    assert (most.answered, most.right, most.refused) == (pytest.approx(1 / 3), 1.0, 1.0)


def test_the_lowest_threshold_keeps_the_wanted_share_right() -> None:
    # from the surest on: 30 right, then right and wrong in turn
    replies = [reply("a", 1 - at / 100) for at in range(60)]
    answers = ["a" if at < 30 or at % 2 else "b" for at in range(60)]
    least = lowest_threshold(replies, answers, 0.9)
    given = [answer == "a" for one, answer in zip(replies, answers, strict=True) if one.confidence >= least]
    assert sum(given) / len(given) >= 0.9 and len(given) > 30
    assert lowest_threshold(replies[:10], answers[:10], 0.5) is None  # too few to say


def test_the_commands_build_ask_and_check(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, _ = catena("knowledge", "build", "--input", folder, "--output", "base", "--words-only")
    assert status == 0 and "passages of 3 files" in printed and "picture.png" in printed
    status, printed, _ = catena("ask", "Where is my invoice?", "--knowledge", "base")
    assert status == 0 and "It is in the archive." in printed and "faq.csv, 2" in printed
    status, printed, _ = catena("ask", "Who wrote Hamlet?", "--knowledge", "base")
    assert status == 0 and printed.startswith("I do not know")
    status, printed, _ = catena(
        "ask", "Where is my invoice?", "Who wrote Hamlet?", "--knowledge", "base", "--json", "-k", "2"
    )
    first, second = map(json.loads, printed.splitlines())
    assert first["answer"] == "It is in the archive." and len(first["sources"]) == 2
    assert second["answer"] is None
    status, printed, _ = catena(
        "ask", "Where is my invoice?", "--knowledge", "base", "--min-confidence", "1", "--json"
    )
    assert json.loads(printed)["answer"] in (None, "It is in the archive.")


def test_checking_stores_the_threshold_it_finds(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catena("knowledge", "build", "--input", folder, "--output", "base", "--words-only")
    rows = ["question,answer"]
    rows += ["Where is my invoice?,It is in the archive."] * 20 + ["Who wrote Hamlet?,"] * 10
    (tmp_path / "known.csv").write_text("\n".join(rows))
    assert len(read_questions(tmp_path / "known.csv")[0]) == 30
    status, printed, _ = catena(
        "knowledge", "check", "--knowledge", "base", "--input", "known.csv", "--precision", "0.95"
    )
    assert status == 0 and "From now on" in printed
    (least,) = KnowledgeBase.load(tmp_path / "base").thresholds.values()
    (answer,) = ask(KnowledgeBase.load(tmp_path / "base"), ["Who wrote Hamlet?"])
    assert answer.confidence < least and not answer.known
    (tmp_path / "known.csv").write_text("question,answer\n" + "Who wrote Hamlet?,\n" * 30)
    status, _, sentence = catena(
        "knowledge", "check", "--knowledge", "base", "--input", "known.csv", "--precision", "0.95"
    )
    assert status == 2 and "nothing was stored" in sentence


def test_bad_use_of_the_commands_gets_a_sentence_and_status_2(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, sentence = catena("knowledge", "build", "--input", folder, "--output", "base")
    assert status == 2 and "--words-only" in sentence
    status, _, sentence = catena("ask", "Who?", "--knowledge", "nowhere")
    assert status == 2 and "catena knowledge build" in sentence
    catena("knowledge", "build", "--input", folder, "--output", "base", "--words-only")
    status, _, sentence = catena("ask", " ", "--knowledge", "base")
    assert status == 2 and "empty question" in sentence

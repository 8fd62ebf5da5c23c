"""Which records are chosen to be labelled next, and how they are written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from catena.cli import app
from catena.data.near_duplicates import Search, Side, find_near_duplicates
from catena.errors import DataError, SettingsError
from catena.labelling.candidates import Candidate, Pool, without_near
from catena.labelling.diversity import by_gradients, k_centres
from catena.labelling.known import Known
from catena.labelling.selection import Chosen, check_strategy, label_next
from catena.model_folder import read_card, write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import DataSettings, ProblemSettings
from tests.tiny_model import build_tiny_chain, build_tiny_model, build_tiny_ranker

WORDS = tuple(
    "wheat maize barley bank dollar yen vessel port cargo the of said in company after year week".split(" ")  # noqa: SIM905
)


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, 12)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "candidate")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", precision="float32")


def table(path: Path, records: list[str]) -> Path:
    pd.DataFrame({"id": range(len(records)), "body": records}).to_csv(path, index=False)
    return path


def choose(
    predictor: Predictor, source: Path, target: Path, known: list[str] | None = None, **options: Any
) -> tuple[Chosen, pd.DataFrame]:
    settings = DataSettings.model_validate({"columns": {"text": "body", "label": "topic"}})
    there = Known.gather(predictor, None, [], settings)
    if known:
        table(source.with_name("known.csv"), known)
        there = Known.gather(predictor, None, [source.with_name("known.csv")], settings)
    chosen = label_next(predictor, source, target, settings, there, **options)
    return chosen, pd.read_csv(target, keep_default_na=False)


# -- how unsure a prediction is ---------------------------------------------------------------


def test_doubts_about_one_class_are_those_worked_out_by_hand() -> None:
    said = pd.DataFrame({"confidence": [0.5, 1.0], "p:a": [0.5, 0.0], "p:b": [0.25, 1.0], "p:c": [0.25, 0.0]})
    problem = get_problem(ProblemSettings())
    names = ("a", "b", "c")
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert problem.doubts(said, names, "entropy") == pytest.approx([entropy, 0.0])
    assert problem.doubts(said, names, "margin") == pytest.approx([0.75, 0.0])
    assert problem.doubts(said, names, "least_confidence") == pytest.approx([0.5, 0.0])
    assert problem.residuals(said, names) == pytest.approx(np.array([[-0.5, 0.25, 0.25], [0.0, 0.0, 0.0]]))


def test_doubts_about_sets_follow_their_threshold() -> None:
    said = pd.DataFrame({"confidence": [0.6, 0.9], "p:a": [0.25, 0.9], "p:b": [0.6, 0.05]})
    problem = get_problem(ProblemSettings(name="multilabel", threshold=0.25))
    two = -sum(p * math.log(p) for p in (0.25, 0.75, 0.6, 0.4))
    entropy, margin = (problem.doubts(said, ("a", "b"), how) for how in ("entropy", "margin"))
    assert entropy is not None and margin is not None
    assert entropy[0] == pytest.approx(two)
    # On the threshold, and of the other the surer decision is 0.2 of at most 0.25 below it.
    assert margin == pytest.approx([1.0, 1 - 0.2 / 0.25])
    assert problem.residuals(said, ("a", "b")) == pytest.approx(np.array([[-0.75, -0.4], [-0.1, 0.05]]))


def test_numbers_have_no_doubts() -> None:
    problem = get_problem(ProblemSettings(name="regression"))
    assert problem.doubts(pd.DataFrame({"prediction": ["1"], "value": [1.0]}), (), "margin") is None


# -- records that differ ------------------------------------------------------------------------


def test_each_centre_is_the_farthest_from_all_before_it() -> None:
    line = np.array([[0.0], [1.0], [2.0], [6.0], [10.0]])
    # The mean is 3.8, which 2 is nearest to; then 10 (8 away), then 6 (4 away), then 0.
    assert k_centres(line, 4) == ([2, 4, 3, 0], [0.0, 8.0, 4.0, 2.0])
    order, distances = k_centres(line, 2, known=np.array([[10.0], [9.0]]))
    assert order == [0, 3]
    assert distances == pytest.approx([9.0, 3.0])
    assert len(k_centres(line, 99)[0]) == 5


def test_gradients_are_drawn_as_their_outer_products_would_be() -> None:
    generator = np.random.default_rng(3)
    residuals, vectors = generator.normal(size=(40, 3)), generator.normal(size=(40, 5))
    residuals[7] = 0.0  # a record the model is certain about
    order, norms = by_gradients(residuals, vectors, 10, seed=1)
    products = np.einsum("na,nb->nab", residuals, vectors).reshape(40, -1)
    lengths = np.linalg.norm(products, axis=1)
    assert norms == pytest.approx(lengths[order])
    assert order[0] == int(lengths.argmax())
    # k-means++ over the products themselves, with the same random numbers
    draws = np.random.Generator(np.random.PCG64(1))
    expected = [int(lengths.argmax())]
    while len(expected) < 10:
        squares = ((products[:, None] - products[expected]) ** 2).sum(-1).min(1)
        squares[expected] = 0.0
        expected.append(
            int(np.searchsorted(np.cumsum(squares), draws.random() * squares.sum(), side="right"))
        )
    assert order == expected
    assert sorted(by_gradients(np.zeros((4, 2)), np.ones((4, 2)), 9, seed=0)[0]) == [0, 1, 2, 3]


def candidate(row: int, text: str, score: float = 0.0) -> Candidate:
    return Candidate(row, {}, {"text": text}, text, score, "")


def test_the_pool_keeps_the_highest_and_each_text_once() -> None:
    pool = Pool(3)
    for row, (text, rank) in enumerate(
        [("a", 0.1), ("b", 0.9), ("b", 0.9), ("c", 0.5), ("d", 0.5), ("e", 0.2)]
    ):
        pool.offer(rank, text.encode(), candidate(row, text))
    assert [one.compared for one in pool.best()] == ["b", "c", "d"]
    pool.offer(0.5, b"z", candidate(9, "z"))  # no better than the last, and later
    assert [one.row for one in pool.best()] == [1, 3, 4]


def test_near_duplicates_of_what_is_known_or_chosen_are_passed_over() -> None:
    search = Search(0.85, Side, find_near_duplicates)
    base = [one + f" number {n * 7919}" for n, one in enumerate(texts(6))]
    listed = [base[0], base[1] + ".", base[0] + "!", base[2], base[2].upper(), base[3], base[4]]
    chosen = without_near([candidate(n, one) for n, one in enumerate(listed)], [base[1]], search, 3)
    assert [one.row for one in chosen] == [0, 3, 5]


# -- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["entropy", "margin", "least_confidence", "diversity", "mixed"])
def test_the_chosen_records_come_with_an_empty_label_and_equal_input_gives_equal_output(
    predictor: Predictor, tmp_path: Path, strategy: str
) -> None:
    records = texts(60)
    source = table(tmp_path / "in.csv", [*records, "", records[0]])
    chosen, written = choose(
        predictor, source, tmp_path / "out.csv", records[:20], count=10, strategy=strategy, keep=["id"]
    )
    assert chosen == Chosen(read=62, known=21, skipped=1, pooled=chosen.pooled, chosen=10)
    assert list(written.columns) == ["body", "topic", "id", "row", "score", "reason"]
    assert set(written["topic"]) == {""}
    assert written["row"].between(21, 60).all()
    assert written["body"].tolist() == [records[row - 1] for row in written["row"]]
    again, _ = choose(
        predictor, source, tmp_path / "again.csv", records[:20], count=10, strategy=strategy, keep=["id"]
    )
    assert again == chosen
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    if strategy in ("entropy", "margin", "least_confidence"):
        said = predictor.predict(records[20:])
        doubts = predictor.problem.doubts(said, predictor.label_names, strategy)
        assert doubts is not None
        assert written["score"].tolist() == pytest.approx(sorted(doubts, reverse=True)[:10], abs=1e-5)


def test_large_files_are_drawn_from_by_content_and_not_by_order(predictor: Predictor, tmp_path: Path) -> None:
    records = texts(80)
    options: dict[str, Any] = {"count": 5, "strategy": "diversity", "most": 20}
    forth, back = table(tmp_path / "a.csv", records), table(tmp_path / "b.csv", records[::-1])
    _, one = choose(predictor, forth, tmp_path / "a-out.csv", **options)
    _, other = choose(predictor, back, tmp_path / "b-out.csv", **options)
    assert one["body"].tolist() == other["body"].tolist()


def test_a_file_without_anything_new_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", texts(5))
    with pytest.raises(
        DataError, match=r"in.csv has no record to be labelled: of 5 read, 5 are known already"
    ):
        choose(predictor, source, tmp_path / "out.csv", texts(5), count=3, strategy="margin")
    assert not (tmp_path / "out.csv").exists()


def other_problem(folder: Path, target: Path, **card: Any) -> Predictor:
    content = {name: value for name, value in read_card(folder).items() if name != "files"}
    target.mkdir()
    for path in folder.iterdir():
        if path.name != "catena.json":
            (target / path.name).write_bytes(path.read_bytes())
    write_card(target, content | card)
    return Predictor.load(target, device="cpu", precision="float32")


def test_problems_whose_predictions_say_nothing_of_doubt_refuse_the_strategies(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "one", labels=("0|1",))
    card = {"problem": {"name": "regression"}, "columns": {"text": "body", "target": "stars"}}
    number = other_problem(folder, tmp_path / "number", **card, label_names=["0.0 1.0"])
    with pytest.raises(
        SettingsError, match="regression, whose predictions have no confidence; choose diversity"
    ):
        check_strategy(number, "margin")
    check_strategy(number, "diversity")
    ranker = Predictor.load(build_tiny_ranker(tmp_path / "ranker"), device="cpu", precision="float32")
    with pytest.raises(SettingsError, match="is not there for the problem ranking; it is for classification"):
        check_strategy(ranker, "margin")


def test_from_the_command_line_to_training_data(folder: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    source = table(tmp_path / "in.csv", texts(30))
    known = table(tmp_path / "known.csv", texts(3))
    columns = read_card(folder)["columns"]
    call = ["label-next", "--model", str(folder), "--input", str(source), "--text", "body"]
    done = runner.invoke(app, [*call, "--output", str(tmp_path / "out.jsonl"), "--count", "5"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["body", columns["label"], "row", "score", "reason"]] * 5
    assert "says" in lines[0]["reason"] and "confidence" in lines[0]["reason"]
    done = runner.invoke(app, [*call, "--output", str(tmp_path / "out.csv"), "--count", "99"])
    assert done.exit_code == 0
    assert "99 were asked for" in done.output
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 30
    for wrong, words in (
        (["--output", str(source)], "is the input itself"),
        (["--output", str(tmp_path / "out.xlsx")], "must end in"),
        (["--output", str(tmp_path / "o.csv"), "--known", str(tmp_path / "none.csv")], "none.csv"),
        (["--output", str(tmp_path / "o.csv"), "--encoding", "utf-16", "--known", str(known)], "in.csv"),
    ):
        done = runner.invoke(app, [*call, *wrong])
        assert done.exit_code == 2, done.output
        assert words in done.output


def test_columns_of_the_users_own_are_not_written_over(folder: Path, tmp_path: Path) -> None:
    """A label called score is to be filled in by a person."""
    model = other_problem(folder, tmp_path / "model", columns={"text": "reason", "label": "score"}).folder
    pd.DataFrame({"reason": texts(4), "place": list("abcd")}).to_csv(tmp_path / "in.csv", index=False)
    call = ["label-next", "--model", str(model), "--input", str(tmp_path / "in.csv"), "--keep", "place"]
    done = CliRunner().invoke(app, [*call, "--output", str(tmp_path / "out.jsonl")])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["reason", "score", "place", "row", "chosen_score", "chosen_reason"]
    assert {line["score"] for line in lines} == {""}
    assert {line["reason"] for line in lines} == set(texts(4))
    assert {line["row"]: line["place"] for line in lines} == {1: "a", 2: "b", 3: "c", 4: "d"}


def test_a_tail_of_a_chain_chooses_too(tmp_path: Path) -> None:
    chain = build_tiny_chain(tmp_path / "chain")
    source = table(tmp_path / "in.csv", texts(20))
    call = ["label-next", "--model", str(chain), "--input", str(source), "--text", "body", "--count", "3"]
    call += ["--output", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(app, [*call, "--tail", "moods"])
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "out.csv")["reason"].str.match("says (glad|sad),").all()
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert "holds a chain with the tails topics, moods" in done.output
    done = CliRunner().invoke(
        app, [*call, "--tail", "moods", "--strategy", "mixed", "--count", "30", "--most", "10"]
    )
    assert done.exit_code == 2
    assert "only 10 records are compared (`--most`)" in done.output

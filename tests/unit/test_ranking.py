"""Ranking: lists scored as others score them, towers that learn, parts that keep a query's list together."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from typer.testing import CliRunner

from catena.cli import app
from catena.data.cleaning import Cleaner
from catena.data.preparation import prepare
from catena.errors import DataError, ModelError, SettingsError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.predictions import EvaluationPlan
from catena.evaluation.ranked_lists import bm25, tfidf
from catena.nearest import ItemIndex
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.problems.lists import list_scores
from catena.settings import ProblemSettings, parse_settings
from tests.tiny_project import write_backbone

TOWERS = ProblemSettings(name="ranking", architecture="two_towers")


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.integers(0, 1)), min_size=2, max_size=30, unique_by=lambda p: p[0]
    )
)
def test_scores_of_a_list_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    scores, relevance = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    found = list_scores(np.zeros(len(pairs)), scores, relevance, 1.0)
    if not relevance.any():
        assert np.isnan(found.ndcg[0])
        return
    assert found.ndcg[0] == pytest.approx(ndcg_score([relevance], [scores], k=10))
    assert found.average_precision[0] == pytest.approx(average_precision_score(relevance, scores))
    if relevance.all():
        assert np.isnan(found.auc[0])
    else:
        assert found.auc[0] == pytest.approx(roc_auc_score(relevance, scores))


def test_graded_relevance_recall_and_first_hit_by_hand() -> None:
    # By falling score the gains are 0, 3, 1: DCG = 7/log2(3) + 1/2; the best order gives 7 + 1/log2(3).
    found = list_scores(np.array(["q"] * 3), np.array([1.0, 3.0, 2.0]), np.array([1.0, 0.0, 3.0]), 1.0)
    assert found.ndcg[0] == pytest.approx((7 / np.log2(3) + 0.5) / (7 + 1 / np.log2(3)))
    assert found.mrr[0] == pytest.approx(0.5)
    assert found.recall[0] == 1.0


def test_recall_looks_as_deep_as_its_name_says() -> None:
    # Relevant are the items at ranks 1, 4, 8 and 15 of 30.
    relevance = np.zeros(30)
    relevance[[0, 3, 7, 14]] = 1.0
    found = list_scores(np.zeros(30), -np.arange(30.0), relevance, 1.0)
    depths = (found.recall_at_1, found.recall_at_5, found.recall, found.recall_at_20)
    assert [one[0] for one in depths] == [0.25, 0.5, 0.75, 1.0]
    # A list that is shorter than the depth has all of its items among the first.
    assert list_scores(np.zeros(2), np.arange(2.0), np.array([1.0, 0.0]), 1.0).recall_at_20[0] == 1.0


def test_equal_scores_earn_what_a_random_order_would() -> None:
    keys, scores, relevance = np.zeros(4), np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    found = list_scores(keys, scores, relevance, 1.0)
    assert found.auc[0] == 0.5
    # The one relevant item is at rank 1, 2, 3, 4 equally often.
    assert found.ndcg[0] == pytest.approx(np.mean([1 / np.log2(rank + 1) for rank in (1, 2, 3, 4)]))


@pytest.mark.parametrize(
    ("scores", "relevance"),
    [
        ([1, 1], [1, 0]),
        ([2, 1, 1, 1, 0], [0, 1, 0, 1, 1]),
        ([3, 3, 2, 1, 1, 1], [0, 0, 1, 1, 1, 0]),
        ([1] * 6, [1, 1, 1, 1, 0, 0]),
        ([1, 1, 0], [1, 1, 0]),
    ],
)
def test_ties_are_worth_the_mean_over_all_their_orders(scores: list[int], relevance: list[int]) -> None:
    found = list_scores(np.zeros(len(scores)), np.array(scores, float), np.array(relevance, float), 1.0)
    precisions, ranks = [], []
    for order in itertools.permutations(range(len(scores))):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        right = np.array(relevance)[list(order)]
        at = np.flatnonzero(right) + 1
        precisions.append(np.mean(np.cumsum(right)[at - 1] / at))
        ranks.append(1 / at[0])
    assert found.average_precision[0] == pytest.approx(np.mean(precisions))
    assert found.mrr[0] == pytest.approx(np.mean(ranks))


def records(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in columns.items()})


def test_towers_learn_only_from_other_items_that_are_not_relevant_to_the_query_too() -> None:
    problem = get_problem(TOWERS)
    vectors = torch.nn.functional.normalize(
        torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=1
    )
    logits = torch.cat([vectors, vectors.flip(0)], dim=1)
    # relevance, query, item: the first query likes the third pair's item too; the second is irrelevant.
    labels = torch.tensor([[1.0, 7, 100], [0.0, 8, 101], [1.0, 7, 102]], dtype=torch.float64)
    similarity = (vectors @ vectors.flip(0).T / 0.05).double()
    first = torch.log(torch.exp(similarity[0, 0]) + torch.exp(similarity[0, 1])) - similarity[0, 0]
    third = torch.log(torch.exp(similarity[2, 2]) + torch.exp(similarity[2, 1])) - similarity[2, 2]
    assert float(problem.loss(logits, labels)) == pytest.approx(float((first + third) / 2), rel=1e-5)
    assert float(problem.loss(logits, labels * torch.tensor([0.0, 1, 1]))) == 0.0
    assert problem.weight(labels) == 2
    # smoothed over what is no other right answer: of the first query two columns, of the third two
    chances = [torch.log_softmax(similarity[row, [0, 1] if row == 0 else [1, 2]], 0) for row in (0, 2)]
    right = (chances[0][0] + chances[1][1]) / 2
    even = (chances[0].mean() + chances[1].mean()) / 2
    smoothed = problem.loss(logits, labels, label_smoothing=0.2)
    assert float(smoothed) == pytest.approx(float(-0.8 * right - 0.2 * even), rel=1e-5)


def test_both_texts_of_a_pair_reach_the_towers_apart() -> None:
    problem = get_problem(TOWERS)
    features = [
        {"input_ids": np.array([1, 2, 3, 4, 5]), "query_tokens": 2, "labels": [1.0, 1, 2]},
        {"input_ids": np.array([6, 7, 8]), "query_tokens": 1, "labels": [0.0, 3, 4]},
    ]
    batch = problem.collate(features, pad_token_id=0, pad_to=4)
    assert batch["input_ids"].tolist() == [[[1, 2, 0, 0], [3, 4, 5, 0]], [[6, 0, 0, 0], [7, 8, 0, 0]]]
    assert batch["attention_mask"].sum(-1).tolist() == [[2, 3], [1, 2]]


def write(folder: Path, table: pd.DataFrame) -> Path:
    folder.mkdir()
    table.to_csv(folder / "train.csv", index=False)
    return folder


SETTINGS = {
    "data": {
        "name": "shop",
        "columns": {"query": "query", "item": "item", "relevance": "relevance"},
    },
    "problem": {"name": "ranking"},
    "preparation": {"near_duplicates": "off"},
}


def table(queries: int = 60) -> pd.DataFrame:
    rows = [
        {"query": f"customer {number}", "item": f"thing {item}", "relevance": int(item == number % 5)}
        for number in range(queries)
        for item in range(5)
    ]
    return pd.DataFrame(rows)


def test_a_querys_list_stays_in_one_part(tmp_path: Path) -> None:
    settings = parse_settings(SETTINGS)
    prepared = prepare(settings, get_problem(settings.problem), write(tmp_path / "shop", table()))
    parts = {name: set(part["query"]) for name, part in prepared.parts.items()}
    assert all(parts.values())
    assert not (parts["train"] & parts["test"] or parts["train"] & parts["validation"])
    assert all((part.groupby("query").size() == 5).all() for part in prepared.parts.values())


def test_lists_of_one_kind_only_stop_the_run(tmp_path: Path) -> None:
    settings = parse_settings(SETTINGS)
    liked = table().assign(relevance=1)
    with pytest.raises(DataError, match="no query with both relevant and irrelevant items"):
        prepare(settings, get_problem(settings.problem), write(tmp_path / "shop", liked))


def test_a_list_of_one_kind_is_counted_and_named() -> None:
    lists = pd.DataFrame(
        {
            "query": ["oil", "oil", "wheat", "wheat"],
            "item": ["crude", "bank", "maize", "oats"],
            "relevance": ["1", "0", "1", "1"],
        }
    )
    (warning,) = get_problem(parse_settings(SETTINGS).problem).examine({"train": lists, "test": lists})
    assert warning == (
        "1 of 2 queries in the test part have only relevant or only irrelevant items and "
        "tell no order apart, such as 'wheat'"
    )


def test_a_relevance_that_is_no_number_is_rejected_with_its_row(tmp_path: Path) -> None:
    settings = parse_settings(SETTINGS)
    broken = table().astype({"relevance": object})
    broken.loc[[3, 5, 7, 9], "relevance"] = ["much", "2000", "-1", "nan"]
    prepared = prepare(settings, get_problem(settings.problem), write(tmp_path / "shop", broken))
    kinds = dict(zip(prepared.rejected["row"], prepared.rejected["kind"], strict=True))
    # "nan" is how a table leaves a cell empty
    assert kinds[4] == kinds[6] == kinds[8] == "relevance is no number from 0 to 100"
    assert 10 in kinds
    assert len(kinds) == 4


def test_popularity_tfidf_and_bm25_order_by_what_they_know() -> None:
    train = records(
        query=["red shoes", "red shoes", "blue hat", "green hat"],
        item=["shoes in red", "a hat", "a hat", "a hat"],
        relevance=["1", "0", "1", "1"],
    )
    test = records(query=["red shoes"] * 2, item=["shoes in red", "a hat"], relevance=["1", "0"])
    data = BaselineData(train, test, Path(), 32, 1, columns=("query", "item", "relevance"))
    problem = get_problem(ProblemSettings(name="ranking"))
    popularity = problem.evaluation().baselines["popularity"][1](data)[0]
    assert [float(one) for one in popularity] == [1.0, 2.0]
    for rival in (tfidf, bm25):
        scores = [float(score) for score in rival(data)[0]]
        assert scores[0] > scores[1] == 0.0


def test_bm25_by_hand() -> None:
    test = records(query=["cat"] * 2, item=["cat cat dog", "dog"], relevance=["1", "0"])
    data = BaselineData(test.head(0), test, Path(), 32, 1, columns=("query", "item", "relevance"))
    rarity = np.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    expected = rarity * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2))
    assert [float(one) for one in bm25(data)[0]] == pytest.approx([expected, 0.0], abs=1e-6)


def test_intervals_and_scores_count_lists_not_records() -> None:
    problem = get_problem(ProblemSettings(name="ranking"))
    evaluation = problem.evaluation()
    found = pd.DataFrame(
        {
            "id": list("abcdef"),
            "list": ["x"] * 4 + ["y"] * 2,
            "relevance": ["1", "0", "0", "0", "1", "0"],
            "prediction": ["0.9", "0.1", "0.2", "0.3", "0.1", "0.8"],
        }
    )
    values = evaluation.values(found, EvaluationPlan((), ""))
    assert values["ndcg"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert values["auc"] == pytest.approx(0.5)
    assert list(evaluation.right(found, EvaluationPlan((), ""))[:4]) == [1.0] * 4


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A two-tower model folder around the tests' tiny network, as training leaves one."""
    from catena.backbones import get_backbone
    from catena.files import complete_folder
    from catena.model_folder import write_card

    folder = tmp_path_factory.mktemp("towers")
    write_backbone(folder / "backbone")
    backbone = get_backbone("pretrained")
    torch.manual_seed(1)
    model = backbone.build(
        folder / "backbone", get_problem(TOWERS).head(()), dropout=None, attention="eager", pooling="native"
    )
    card = {
        "problem": TOWERS.model_dump(mode="json"),
        "label_names": [],
        "backbone": {"type": "pretrained"},
        "tokenization": {"max_length": 16},
        "cleaning": Cleaner().as_dict(),
        "fingerprint": "0123456789abcdef",
    }
    with complete_folder(folder / "model") as partial:
        model.save_pretrained(partial)
        backbone.tokenizer(folder / "backbone").save_pretrained(partial)
        write_card(partial, card)
    return Predictor.load(folder / "model")


def test_scores_of_pairs_are_cosines_of_the_texts_embeddings_and_those_of_the_network(
    towers: Predictor,
) -> None:
    pairs = records(
        query=["oil price", "oil price", "wheat"], item=["crude oil", "wheat harvest", "crude oil"]
    )
    scores = towers.predict(pairs)["score"].to_numpy()
    queries, items = towers.embed_texts(pairs["query"].tolist()), towers.embed_texts(pairs["item"].tolist())
    np.testing.assert_allclose(scores, (queries * items).sum(axis=1), atol=1e-5)
    features = towers.problem.encode(pairs, towers.tokenizer, towers.tokenization, ())
    rows = [{name: values[row] for name, values in features.items()} for row in range(len(pairs))]
    batch = towers.problem.collate(rows, int(towers.tokenizer.pad_token_id))
    with torch.inference_mode():
        outputs = towers.model(**batch).logits.numpy()
    np.testing.assert_allclose(
        scores, towers.problem.predictions(outputs, pairs, features, ())["score"], atol=1e-4
    )


def test_an_index_finds_the_nearest_items_and_survives_being_stored(
    towers: Predictor, tmp_path: Path
) -> None:
    items = ["crude oil", "wheat harvest", "bank rate", "crude oil"]
    ItemIndex.build(towers, items).save(tmp_path / "index")
    index = ItemIndex.load(tmp_path / "index")
    assert index.items == ("crude oil", "wheat harvest", "bank rate")
    found = index.nearest(towers, "bank rate", 2)
    assert found[0] == ("bank rate", pytest.approx(1.0, abs=1e-5))
    assert len(found) == 2
    assert [item for item, _ in index.nearest(towers, "bank rate", 50)][:2] == [item for item, _ in found]


def test_the_commands_embed_a_file_of_items_and_name_the_nearest(towers: Predictor, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("title\ncrude oil\nwheat harvest\nbank rate\ncrude oil\n")
    model = ["--model", str(towers.folder)]
    words = ["index", "--input", str(tmp_path / "items.csv"), "--output", str(tmp_path / "index"), *model]
    done = CliRunner().invoke(app, [*words, "--column", "title"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("3 items are in ")
    words = ["nearest", "bank rate", "--index", str(tmp_path / "index"), "-k", "2", *model]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["item"] for one in found] == [
        item for item, _ in ItemIndex.load(tmp_path / "index").nearest(towers, "bank rate", 2)
    ]
    assert found[0]["item"] == "bank rate"


def test_no_folder_of_the_users_is_replaced_by_an_index(towers: Predictor, tmp_path: Path) -> None:
    index = ItemIndex.build(towers, ["crude oil"])
    photo = tmp_path / "photos" / "a.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"a picture")
    with pytest.raises(SettingsError, match=r"holds 'a\.jpg', which would be deleted"):
        index.save(photo.parent)
    assert photo.read_bytes() == b"a picture"
    # the command says so before it looks for a model
    items = tmp_path / "items" / "items.csv"
    items.parent.mkdir()
    items.write_text("item\ncrude oil\n")
    for place in (items.parent, photo.parent):
        done = CliRunner().invoke(app, ["index", "--input", str(items), "--output", str(place)])
        assert done.exit_code == 2 and "folder" in done.stderr
    assert items.is_file() and photo.is_file()


def test_an_index_that_is_cut_off_mixed_up_or_of_another_model_is_refused(
    towers: Predictor, tmp_path: Path
) -> None:
    index = ItemIndex.build(towers, ["crude oil", "wheat harvest"])
    index.save(tmp_path / "index")
    with pytest.raises(ModelError, match="made by another model"):
        replace(index, fingerprint="f" * 16).nearest(towers, "oil", 1)
    pd.DataFrame({"item": ["one"]}).to_parquet(tmp_path / "index" / "items.parquet")
    with pytest.raises(ModelError, match="do not belong together"):
        ItemIndex.load(tmp_path / "index")
    vectors = tmp_path / "index" / "vectors.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:40])
    with pytest.raises(ModelError, match="holds no complete index"):
        ItemIndex.load(tmp_path / "index")
    with pytest.raises(ModelError, match="holds no complete index"):
        ItemIndex.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no items"):
        ItemIndex.build(towers, [])

"""Token ids on disk, and how long texts are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from catena.backbones import get_backbone
from catena.errors import DataError, ModelError
from catena.problems import get_problem
from catena.settings import TokenizationSettings
from catena.training.tokens import TokenTable, write_tokens
from tests.tiny_project import write_backbone

TEXTS = [
    "wheat",
    "the bank said the dollar rate would rise after talks",
    "vessel port cargo " * 30,
    "",
    "zebra!? <tag> 123",
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


def test_rows_come_back_as_they_were_written_across_batches(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ids = [random.integers(0, 1000, random.integers(1, 40)).tolist() for _ in range(250)]
    labels = random.integers(0, 5, 250).tolist()
    parts = [
        {
            "input_ids": ids[i : i + 100],
            "labels": labels[i : i + 100],
            "n_tokens": [1] * len(ids[i : i + 100]),
        }
        for i in range(0, 250, 100)
    ]
    assert write_tokens(tmp_path / "a.arrow", parts) == 250
    table = TokenTable(tmp_path / "a.arrow")
    assert len(table) == 250
    assert [table[row]["input_ids"].tolist() for row in range(250)] == ids
    assert [table[row]["labels"] for row in range(250)] == labels
    assert table.lengths.tolist() == [len(row) for row in ids]


def test_rows_are_shortened_for_training_and_keep_their_last_token(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.arrow", [{"input_ids": [[2, 5, 6, 7, 8, 3], [2, 9, 3]], "labels": [0, 1]}])
    table = TokenTable(tmp_path / "a.arrow", max_length=4)
    assert [table[row]["input_ids"].tolist() for row in range(2)] == [[2, 5, 6, 3], [2, 9, 3]]
    assert table.lengths.tolist() == [4, 3]


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.arrow"
    write_tokens(file, [{"input_ids": [[1, 2, 3]] * 5000, "labels": [0] * 5000}])
    file.write_bytes(file.read_bytes()[:-30_000])
    with pytest.raises(DataError, match=r"a\.arrow is cut off or damaged"):
        TokenTable(file)


def test_a_missing_file_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the tokenize stage"):
        TokenTable(tmp_path / "none.arrow")


@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_agrees_with_the_tokenizers_own(backbone: Path, side: str) -> None:
    tokenizer = get_backbone("pretrained").tokenizer(backbone)
    ours = get_problem("classification").encode(
        pd.DataFrame({"text": TEXTS}),
        tokenizer,
        TokenizationSettings(max_length=10, truncation_side=side),  # type: ignore[arg-type]
        ["a", "b"],
    )
    tokenizer.truncation_side = side
    theirs = tokenizer(TEXTS, truncation=True, max_length=10)["input_ids"]
    assert ours["input_ids"] == theirs
    assert ours["n_tokens"] == [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run `catena fetch`"):
        get_backbone("pretrained").tokenizer(tmp_path / "nothing")

"""A look at a user's file, and the params.yaml that comes of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from catena.data.inspect import inspect_file, write_params
from catena.data.preparation import prepare
from catena.errors import DataError, SettingsError
from catena.layout import Layout
from catena.problems import get_problem
from catena.settings import load_settings
from tests.real_data import real_data


def reviews(count: int = 120) -> pd.DataFrame:
    things = ("kettle", "lamp", "chair", "phone", "carpet")
    return pd.DataFrame(
        {
            "id": [str(100 + n) for n in range(count)],
            "review": [
                f"This {things[n % 5]} number {n} was &quot;fine&quot; for {n * 7 % 31} days"
                for n in range(count)
            ],
            "stars": [str(n * n % 7 % 3 + 1) for n in range(count)],
            "country": [("NL", "DE")[n % 2] for n in range(count)],
        }
    )


def test_a_csv_file_is_understood_and_the_chain_can_start(tmp_path: Path) -> None:
    source = tmp_path / "My reviews.csv"
    reviews().to_csv(source, index=False)
    found = inspect_file(source, text="review", label="stars")
    assert (found.format, found.data.encoding, found.records, found.broken) == ("csv", "utf-8", 120, 0)
    assert found.columns == ("id", "review", "stars", "country")
    assert found.classes == reviews()["stars"].value_counts().to_dict()
    assert found.unescape_html
    assert not found.strip_quotes
    assert 16 <= found.max_length <= 32
    project = tmp_path / "project"
    project.mkdir()
    params = write_params(found, project)
    text = params.read_text(encoding="utf-8")
    assert "# other columns to slice the scores by: id, country" in text
    settings = load_settings(params)
    assert settings.data.name == settings.model_name == "my-reviews"
    assert settings.preparation.unescape_html
    folder = Layout(project).raw("my-reviews")
    assert (folder / source.name).read_bytes() == source.read_bytes()
    prepared = prepare(settings, get_problem("classification"), folder)
    assert prepared.classes == ("1", "2", "3")


@pytest.mark.parametrize("form", ["csv", "semicolon", "tsv", "jsonl", "parquet", "latin-1", "gzipped"])
def test_columns_are_guessed_in_every_form(tmp_path: Path, form: str) -> None:
    frame = reviews().assign(review=lambda table: table["review"] + " café")
    path = tmp_path / {"jsonl": "r.jsonl", "parquet": "r.parquet", "tsv": "r.tsv", "gzipped": "r.csv.gz"}.get(
        form, "r.csv"
    )
    if form == "parquet":
        frame.to_parquet(path)
    elif form == "jsonl":
        lines = [json.dumps(record, ensure_ascii=False) for record in frame.to_dict("records")]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        separator = {"semicolon": ";", "tsv": "\t"}.get(form, ",")
        content = frame.to_csv(index=False, sep=separator).encode("cp1252" if form == "latin-1" else "utf-8")
        path.write_bytes(gzip.compress(content) if form == "gzipped" else content)
    found = inspect_file(path)
    assert (found.text, found.label, found.records) == ("review", "stars", 120)
    assert found.data.delimiter == (";" if form == "semicolon" else None)
    if form == "latin-1":
        assert found.data.encoding == "cp1252"


def test_a_file_without_header_gets_column_names(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    frame = reviews()[["review", "stars"]]
    path.write_text(frame.to_csv(index=False, header=False, sep="\t"), encoding="utf-8")
    found = inspect_file(path)
    assert found.data.column_names == ("text", "label")
    assert found.records == 120


def test_a_saved_data_set_brings_its_test_part(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    frame = reviews()
    saved = DatasetDict({"train": Dataset.from_pandas(frame), "test": Dataset.from_pandas(frame.head(20))})
    saved.save_to_disk(str(tmp_path / "shop"))
    found = inspect_file(tmp_path / "shop", "review", "stars")
    (tmp_path / "project").mkdir()
    params = load_settings(write_params(found, tmp_path / "project"))
    assert (params.data.name, params.data.train, params.data.test) == ("shop", "train", "test")
    prepared = prepare(params, get_problem("classification"), Layout(tmp_path / "project").raw("shop"))
    assert len(prepared.parts["test"]) == 20


def test_sst2_is_recognised(tmp_path: Path) -> None:
    sst2 = real_data("sst2")
    found = inspect_file(sst2 / "train.tsv", test=sst2 / "test.tsv")
    assert found.data.column_names == ("text", "label")
    assert not found.data.quoting
    assert (found.records, found.classes) == (6920, {"1": 3610, "0": 3310})


def test_what_is_there_is_never_overwritten_unasked(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    reviews().to_csv(source, index=False)
    found = inspect_file(source)
    project = tmp_path / "project"
    project.mkdir()
    write_params(found, project)
    (project / "params.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"There already is a params\.yaml"):
        write_params(found, project)
    assert (project / "params.yaml").read_text(encoding="utf-8") == "seed: 1\n"
    other = tmp_path / "other" / "shop.csv"
    other.parent.mkdir()
    reviews(90).to_csv(other, index=False)
    (project / "params.yaml").unlink()
    with pytest.raises(DataError, match=r"data/raw/shop already holds other files"):
        write_params(inspect_file(other), project)
    assert (project / "data/raw/shop/shop.csv").read_bytes() == source.read_bytes()
    assert not (project / "params.yaml").exists()
    (project / "data/raw/shop/labelled-1.csv").write_text("review,stars\nfine,5\n", encoding="utf-8")
    write_params(inspect_file(other), project, force=True)
    assert (project / "data/raw/shop/shop.csv").read_bytes() == other.read_bytes()
    assert (project / "data/raw/shop/labelled-1.csv").read_text(encoding="utf-8").endswith("fine,5\n")


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        (
            ["review", "stars"],
            {"text": "reviw"},
            r"no column 'reviw' for --text, only 'review', 'stars'; did you mean 'review'",
        ),
        (
            ["id", "review"],
            {"text": "review"},
            r"No column of shop.csv looks like a label; name it with --label",
        ),
        (["country", "stars"], {}, r"No column of shop.csv looks like a text; name it with --text"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(
    tmp_path: Path, columns: list[str], options: dict[str, str], expected: str
) -> None:
    source = tmp_path / "shop.csv"
    reviews()[columns].to_csv(source, index=False)
    with pytest.raises(DataError, match=expected):
        inspect_file(source, **options)


def test_a_column_without_any_text_is_named(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    reviews().assign(review=None).to_csv(source, index=False)
    with pytest.raises(DataError, match=r"Column 'review' of shop.csv holds no text in any row"):
        inspect_file(source, "review", "stars")


def test_one_class_is_no_start(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    reviews().assign(stars="5").to_csv(source, index=False)
    with pytest.raises(
        DataError, match=r"Column 'stars' of shop.csv has 1 class\(es\) and at least two are needed"
    ):
        write_params(inspect_file(source, "review", "stars"), tmp_path)


def test_a_folder_that_holds_nothing_known_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n")
    for problem in (None, "translation", "classification"):
        with pytest.raises(DataError, match="notes is a folder without images and was not saved by"):
            inspect_file(folder, problem=problem)

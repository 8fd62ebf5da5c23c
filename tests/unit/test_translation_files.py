"""Parallel files: which lines belong together, and what is said where they do not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from catena.data.inspect import inspect_file
from catena.data.preparation import prepare
from catena.data.write_params import write_params
from catena.errors import DataError, SettingsError
from catena.problems import get_problem
from catena.settings import load_settings, parse_settings

GOOD = [(f"sentence number {row} is here", f"Satz Nummer {row} ist hier") for row in range(60)]


def write(folder: Path, part: str, pairs: list[tuple[str, str]], zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for side, language in enumerate(("en", "de")):
        content = "".join(f"{pair[side]}\n" for pair in pairs).encode()
        file = folder / f"{part}.{language}{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(content) if zipped else content)


def prepared(folder: Path, **more: object):  # type: ignore[no-untyped-def]
    settings = parse_settings(
        {
            "data": {
                "name": "pairs", "format": "parallel", "train": "train",
                "columns": {"text": "en", "translation": "de"},
            },
            "problem": {"name": "translation"},
            "preparation": {"near_duplicates": "off", "max_rejected_fraction": 0.5, **more},
        }
    )  # fmt: skip
    return prepare(settings, get_problem(settings.problem), folder)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_line_of_each_file_is_one_record(tmp_path: Path, zipped: bool) -> None:
    write(tmp_path, "train", GOOD, zipped)
    result = prepared(tmp_path)
    rows = [(one.text, one.translation) for part in result.parts.values() for one in part.itertuples()]
    assert sorted(rows) == sorted(GOOD)
    assert result.report["files"][0]["format"] == "parallel"
    assert result.report["files"][0]["bytes"] == sum(f.stat().st_size for f in tmp_path.iterdir())


def test_a_line_separator_within_a_text_does_not_shift_what_follows(tmp_path: Path) -> None:
    odd = [("one\u2028line with a\x0cform feed", "eine Zeile mit allem darin"), *GOOD]
    write(tmp_path, "train", odd)
    texts = {
        one.text: one.translation for part in prepared(tmp_path).parts.values() for one in part.itertuples()
    }
    assert texts["sentence number 0 is here"] == "Satz Nummer 0 ist hier"


def test_files_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    write(tmp_path, "train", GOOD)
    with (tmp_path / "train.de").open("a", encoding="utf-8") as stream:
        stream.write("Noch einer.\n")
    with pytest.raises(DataError, match=r"different numbers of lines .train\.en 60 and train\.de 61"):
        prepared(tmp_path)


def test_an_empty_side_and_sides_of_very_different_length_are_rejected_with_their_row(tmp_path: Path) -> None:
    long = "word " * 60
    write(tmp_path, "train", [*GOOD, ("only english", ""), ("  ", "nur Deutsch"), (long, "kurz hier")])
    rejected = prepared(tmp_path).rejected
    assert rejected["row"].tolist() == [61, 62, 63]
    assert rejected["kind"].tolist() == [
        "missing translation",
        "missing text",
        "text and translation differ too much in length (`problem.max_length_ratio`)",
    ]


def test_a_text_may_have_two_translations_but_no_pair_comes_twice(tmp_path: Path) -> None:
    first = GOOD[0]
    write(tmp_path, "train", [*GOOD, (first[0], "Hier ist Satz Nummer 0"), first])
    result = prepared(tmp_path)
    assert result.rejected["kind"].tolist() == ["duplicate"]
    assert sum(len(part) for part in result.parts.values()) == 61
    parts = [name for name, part in result.parts.items() for text in part["text"] if text == first[0]]
    assert len(parts) == 2
    assert len(set(parts)) == 1  # never on both sides


def test_a_missing_file_is_named_with_the_way_files_are_called(tmp_path: Path) -> None:
    write(tmp_path, "train", GOOD)
    (tmp_path / "train.de").unlink()
    with pytest.raises(DataError, match=r"neither train\.de nor train\.de\.gz"):
        prepared(tmp_path)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", GOOD)
    write(tmp_path, "train", GOOD, zipped=True)
    with pytest.raises(DataError, match=r"both train\.en and train\.en\.gz"):
        prepared(tmp_path)


def test_a_gzip_file_that_is_cut_off_and_one_in_another_encoding_are_named(tmp_path: Path) -> None:
    write(tmp_path / "cut", "train", GOOD, zipped=True)
    file = tmp_path / "cut" / "train.de.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train\.de\.gz is cut off"):
        prepared(tmp_path / "cut")
    write(tmp_path / "latin", "train", GOOD)
    (tmp_path / "latin" / "train.de").write_bytes("".join(f"Bär {n}\n" for n in range(60)).encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.de, line 1: byte 0xe4 is not utf-8"):
        prepared(tmp_path / "latin")


def test_init_finds_the_other_language_and_its_params_prepare_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine", "train", GOOD)
    write(tmp_path / "mine", "dev", GOOD[:20])
    found = inspect_file(tmp_path / "mine" / "train.en", test=tmp_path / "mine" / "dev.en")
    assert found.problem == "translation"
    assert found.records == 60
    params = write_params(found, tmp_path / "project", name="mine")
    settings = load_settings(params)
    assert settings.data.columns == {"text": "en", "translation": "de"}
    assert settings.data.test == "dev"
    folder = tmp_path / "project/data/raw/mine"
    assert sorted(file.name for file in folder.iterdir()) == ["dev.de", "dev.en", "train.de", "train.en"]
    result = prepare(settings, get_problem(settings.problem), folder)
    assert len(result.parts["test"]) == 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train.de", {"text": "en", "translation": "de"}),
        ("train.de", {"translation": "de"}),
        ("train.de", {"text": "en"}),
        ("train.en", {"text": "en"}),
        ("train.en", {"translation": "de"}),
    ],
)
def test_init_takes_the_sides_as_they_are_said(tmp_path: Path, given: str, said: dict[str, str]) -> None:
    write(tmp_path, "train", GOOD)
    assert inspect_file(tmp_path / given, columns=said).data.columns == {"text": "en", "translation": "de"}
    with pytest.raises(DataError, match="Both sides are de"):
        inspect_file(tmp_path / given, columns={"text": "de", "translation": "de"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"max_length": 16}}, "would cut off what is read in translation"),
        ({"tokenization": {"vocabularies": "separate"}}, "with a learned `tokenization.tokenizer`"),
    ],
)
def test_settings_that_would_do_harm_or_nothing_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings({"problem": {"name": "translation"}, **change})


def test_init_asks_which_of_several_languages_is_meant(tmp_path: Path) -> None:
    write(tmp_path, "train", GOOD)
    (tmp_path / "train.fr").write_text("une phrase\n" * 60)
    with pytest.raises(DataError, match=r"translations into de, fr"):
        inspect_file(tmp_path / "train.en")
    chosen = inspect_file(tmp_path / "train.en", columns={"translation": "de"})
    assert chosen.data.columns == {"text": "en", "translation": "de"}


def test_init_takes_two_columns_of_a_table_where_told_so(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("src\ttgt\n" + "".join(f"{a}\t{b}\n" for a, b in GOOD), encoding="utf-8")
    found = inspect_file(file, problem="translation")
    assert found.data.columns == {"text": "src", "translation": "tgt"}
    with pytest.raises(DataError, match=r"no column 'german'"):
        inspect_file(file, problem="translation", columns={"translation": "german"})

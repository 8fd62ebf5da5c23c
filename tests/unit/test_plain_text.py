"""Plain text is cut into blocks that are the text again, or into the documents between blank lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.data import plain_text
from catena.data.formats import read_records
from catena.errors import DataError
from catena.settings import DataSettings


def read(path: Path, block: int, **more: object) -> pd.DataFrame:
    values = {"name": "t", "format": "text", "block_characters": block, "columns": {"text": "text"}, **more}
    batches = read_records(path, DataSettings.model_validate(values))
    return pd.concat([batch.records for batch in batches], ignore_index=True)


@given(st.text(st.sampled_from("ab é天\n \r\t"), min_size=1, max_size=400), st.integers(1, 60))
def test_blocks_one_after_the_other_are_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int
) -> None:
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    if not unix.strip():
        return
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_bytes(text.encode())
    blocks = read(path, block)["text"].tolist()
    assert all(0 < len(one) <= block for one in blocks)
    at = 0
    for one in blocks:
        found = unix.index(one, at)
        assert not unix[at:found].strip()  # only white space is left out
        at = found + len(one)
    assert not unix[at:].strip()


def test_a_block_ends_between_words_where_it_can(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("one two three four five", encoding="utf-8")
    assert read(path, 10)["text"].tolist() == ["one two", " three", " four five"]
    path.write_text("天地玄黄宇宙洪荒", encoding="utf-8")
    assert read(path, 3)["text"].tolist() == ["天地玄", "黄宇宙", "洪荒"]


def test_blocks_do_not_depend_on_how_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("\r\n".join(f"verse {number}, ends so" for number in range(300)).encode())
    whole = read(path, 64)
    monkeypatch.setattr(plain_text, "_CHUNK", 7)
    pd.testing.assert_frame_equal(read(path, 64), whole)


def test_rows_are_the_lines_where_blocks_begin(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("aaaa\nbbbb\ncccc\ndddd\n", encoding="utf-8")
    blocks = read(path, 10)
    # a block begins with the white space after the one before; its row is that of its first word
    assert blocks["text"].tolist() == [
        "aaaa\nbbbb",
        "\ncccc\ndddd",
    ]
    assert blocks["row"].tolist() == [1, 3]


def test_without_blocks_blank_lines_divide_documents(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("\n\na poem\nof two lines\n \n\nanother\n", encoding="utf-8")
    documents = read(path, 0)
    assert documents["text"].tolist() == ["a poem\nof two lines", "another"]
    assert documents["row"].tolist() == [3, 7]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n\n" + "b" * 9000, 3), ("a\n\n" + "b" * 9000 + "\nc", 3), ("\n" + "b" * 40 + "\n" + "c" * 40, 2)],
)
def test_more_than_a_document_holds_is_refused_whether_its_lines_end_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    read_so_far: list[int] = []

    def pieces(chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            read_so_far.append(len(chunk))
            yield chunk

    monkeypatch.setattr(plain_text, "_LONGEST", 64)
    monkeypatch.setattr(plain_text, "_CHUNK", 16)
    monkeypatch.setattr(plain_text, "_unix_lines", pieces)
    path = tmp_path / "t.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        DataError, match=rf"t\.txt, line {line}: more than 64 characters without a blank line"
    ):
        read(path, 0)
    assert sum(read_so_far) <= 3 + 64 + 2 * 16  # nothing is held to the end of the file


def test_plain_text_has_no_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a text", encoding="utf-8")
    with pytest.raises(DataError, match="is plain text and has no columns but its text"):
        read(path, 10, columns={"text": "text", "label": "label"})


def test_a_wrong_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"first\nCaf" + b"\xe9 noir\n")
    with pytest.raises(DataError, match=r"t\.txt, line 2: byte 0xe9 is not utf-8 text"):
        read(path, 10)

"""What is printed is what is there, whatever brackets it holds."""

from __future__ import annotations

import pytest

from catena.terminal import print_nearest, print_rows


def test_brackets_in_texts_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("of [/data]", {"classes": "2: [urgent] 3, [/INST] 4"})
    print_nearest([("[/INST] a film [red]", 0.5)], as_json=False)
    printed = capsys.readouterr().out
    for text in ("of [/data]", "[urgent] 3, [/INST] 4", "[/INST] a film [red]"):
        assert text in printed

"""The manual's reference of the settings is the one that the settings generate."""

from __future__ import annotations

from catena.settings import known_parameters
from docs.generate_settings import PAGE, reference


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `python -m docs.generate_settings`"


def test_every_parameter_is_on_the_page_with_a_meaning() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(known_parameters())
    assert all(len(row) == 4 and len(row[3]) > 10 for row in rows)


def test_ranges_and_choices_are_spelled_out() -> None:
    page = reference()
    assert "| `confidence` | number > 0.5, < 1 | `0.95` |" in page
    assert "| `truncation_side` | `right`, `left` | `right` |" in page

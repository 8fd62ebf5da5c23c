"""Documents as sections: Markdown, web pages and plain text."""

from __future__ import annotations

import pytest

from catena.knowledge.sections import sections
from tests.tiny_documents import HTML, MARKDOWN


def test_documents_become_sections_under_all_their_headings() -> None:
    found = sections(MARKDOWN, ".md")
    assert [(one.heading, one.line) for one in found] == [
        ("Handbook", 3),
        ("Handbook › Returns", 7),
        ("Handbook › Shipping", 15),
    ]
    assert found[1].text.startswith("Goods may come back within thirty days of delivery.")
    assert "# no heading" in found[1].text
    found = sections(HTML, ".html")
    assert [one.heading for one in found] == ["Prices", "Prices › Discounts"]
    assert found[0].text == "A small box costs four crowns."
    assert found[1].text == "Students pay half.\nGroups pay ¾."


@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html><html><head><title>Shop</title><body><h1>Prices</h1><p>A box costs four crowns.</p>",
        "<!DOCTYPE html><html><head><title>Shop</title><h1>Prices</h1><p>A box costs four crowns.",
        "<title>Shop</title><h1>Prices</h1>A box costs four crowns.",
        "<head><title>Shop<body><h1>Prices</h1><p>A box costs four crowns.",
        "<html><head><title>Shop</title></head><body><h1>Prices</h1>A box costs four crowns.</body></html>",
    ],
)
def test_pages_that_leave_tags_out_as_html_allows_keep_their_text(page: str) -> None:
    (found,) = sections(page, ".html")
    assert (found.heading, found.text) == ("Prices", "A box costs four crowns.")


def test_a_number_that_begins_a_wrapped_line_is_text_and_one_of_a_list_is_none() -> None:
    text = (
        "The company began in\n1998. The founder was Bob, who was born in\n"
        "12. He died in 1999.\n\n1. First\n2. Second,\n   wrapped\n10. Tenth\n\n1998. A year.\n- Bullet\n"
        "  1. Inner\n\n## 1. Aims\n1. One"
    )
    first, last = sections(text, ".md")
    assert first.text.splitlines() == [
        "The company began in",
        "1998. The founder was Bob, who was born in",
        "12. He died in 1999.",
        "",
        "First",
        "Second,",
        "   wrapped",
        "Tenth",
        "",
        "1998. A year.",
        "Bullet",
        "Inner",
    ]
    assert (last.heading, last.text) == ("1. Aims", "One")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Override `__init__` and ``a ` b``.", "Override __init__ and a ` b."),
        ("`[a](b)`, `2**3`, `**kwargs`", "[a](b), 2**3, **kwargs"),
        ("[`__all__`](all.html) is **quite __bold__**", "__all__ is quite bold"),
        ("a snake__case__name, 2**3**4 apart", "a snake__case__name, 234 apart"),
        ("A **bold phrase that", "A bold phrase that"),
        ("goes on.** There", "goes on. There"),
        ("2 ** 3 and a lone ` mark", "2 ** 3 and a lone ` mark"),
        ("> - quoted **item**", "quoted item"),
    ],
)
def test_marks_go_and_what_they_mark_stays(line: str, text: str) -> None:
    assert [one.text for one in sections(line, ".md")] == [text]


def test_underlined_lines_are_headings() -> None:
    text = (
        "Returns\n=======\n\nSend it **back**.\n\nDelivery\n--------\nTwo days.\n\n---\n\nMore.\n"
        "\nOne line\nand another\n---\n- item\n---\n> quoted\n---\n| a | b |\n|---|---|\n"
    )
    found = sections(text, ".md")
    assert [(one.heading, one.line) for one in found] == [("Returns", 4), ("Returns › Delivery", 8)]
    assert found[0].text == "Send it back."
    assert found[1].text.split("\n\n")[0] == "Two days."
    assert "item" in found[1].text and "quoted" in found[1].text and "\n---" not in found[1].text


def test_facts_about_a_document_above_it_are_no_heading() -> None:
    (found,) = sections("---\ntitle: Shop\nauthor: X\n---\n\nWe sell boxes.\n", ".md")
    assert found.heading == ""
    assert found.text.endswith("We sell boxes.")


def test_one_fact_above_a_document_is_no_heading_and_a_line_is_no_fact() -> None:
    (found,) = sections("---\ntitle: Shop\n---\nWe sell boxes.\n", ".md")
    assert (found.heading, found.text, found.line) == ("", "We sell boxes.", 4)
    (found,) = sections("---\nWe sell: boxes? No.\n", ".md")
    assert found.text == "We sell: boxes? No."

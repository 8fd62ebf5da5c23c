"""Documents as sections: running text under its headings, from Markdown, HTML and plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
#: Code (its content stays as it is), links and pictures, what is bold, and where that goes on in other lines.
_INLINE = re.compile(
    r"(?<!`)(?P<ticks>`+)(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|!?\[(?P<link>[^\]]*)\]\([^)]*\)"
    r"|\*\*(?=\S)(?P<stars>.+?)(?<=\S)\*\*"
    r"|(?<!\w)__(?=\S)(?P<bars>.+?)(?<=\S)__(?!\w)"
    r"|(?<!\S)\*\*(?=\w)|(?<=[\w.,;:!?)])\*\*(?!\S)"
)
#: A line that makes a heading of the line above it, and one that divides paragraphs.
_UNDERLINE = re.compile(r" {0,3}(=+|-+)\s*$")
_RULE = re.compile(r" {0,3}([-*_])(\s*\1){2,}\s*$")
_QUOTE = re.compile(r"\s*>\s?")
_BULLET = re.compile(r"\s*[-*+]\s+")
#: A number that may stand before an item of a list; a year at the beginning of a line is none.
_NUMBER = re.compile(r"\s*\d{1,3}\.\s+")
_FENCE = re.compile(r"\s*(```|~~~)")
#: How settings of a page begin, in YAML.
_SETTING = re.compile(r"[A-Za-z_][\w-]*\s*:(\s|$)")
#: Elements of HTML that end a paragraph, and those whose content is no text.
_BLOCKS = frozenset(
    (
        "p", "div", "li", "ul", "ol", "tr", "table", "td", "th", "br", "hr", "section", "article", "main",
        "header", "footer", "blockquote", "pre", "dd", "dt", "dl",
    )
)  # fmt: skip
_SILENT = frozenset(("script", "style", "noscript", "template", "title", "svg"))


@dataclass(frozen=True)
class Section:
    """Text under one heading; `heading` names all that enclose it, `line` is where it begins, from 1."""

    text: str
    line: int
    heading: str = ""


def sections(text: str, ending: str) -> list[Section]:
    """The sections of a document; `ending` of its file's name says how it is written."""
    if ending in (".html", ".htm"):
        lines = _html_lines(text)
    elif ending in (".md", ".markdown"):
        lines = _markdown_lines(text)
    else:
        lines = [(number, 0, line) for number, line in enumerate(text.splitlines(), 1)]
    found: list[Section] = []
    above: list[tuple[int, str]] = []
    gathered: list[str] = []
    begin = 1

    def close() -> None:
        body = "\n".join(gathered).strip()
        if body:
            found.append(Section(body, begin, " › ".join(name for _, name in above)))
        gathered.clear()

    for number, level, line in lines:
        if level:
            close()
            above = [one for one in above if one[0] < level]
            above.append((level, line))
        else:
            if not gathered:
                begin = number
            if line.strip() or gathered:
                gathered.append(line)
    close()
    return found


def _markdown_lines(text: str) -> list[tuple[int, int, str]]:
    """Number, level of heading (0 for text) and plain text of each line. Code is text without headings."""
    lines = []
    fenced = False
    # A number begins an item after an empty line or a heading, and within a list; elsewhere it is text.
    listed, inside = True, False
    # Whether the line above is a paragraph of its own so far, which can still become a heading.
    alone = False
    written = text.splitlines()
    front = _front_matter(written)
    for number, line in enumerate(written[front:], front + 1):
        if _FENCE.match(line):
            fenced = not fenced
            listed, inside, alone = True, False, False
            continue
        if fenced:
            lines.append((number, 0, line))
            continue
        heading = _HEADING.match(line)
        if heading:
            lines.append((number, len(heading[1]), _without_marks(heading[2])))
            listed, inside, alone = True, False, False
            continue
        if alone and (underline := _UNDERLINE.match(line)):
            above, _, title = lines.pop()
            lines.append((above, 1 if underline[1][0] == "=" else 2, title.strip()))
            listed, inside, alone = True, False, False
            continue
        if _RULE.match(line):
            line = ""
        quote = _QUOTE.match(line)
        rest = line[quote.end() :] if quote else line
        mark = _BULLET.match(rest) or (_NUMBER.match(rest) if listed else None)
        lines.append((number, 0, _without_marks(rest[mark.end() :] if mark else rest)))
        alone = listed and not (inside or mark or quote) and bool(rest.strip())
        inside = bool(mark) or (inside and bool(rest.strip()))
        listed = inside or not rest.strip()
    return lines


def _front_matter(lines: Sequence[str]) -> int:
    """How many lines at the beginning are settings of the page in YAML, between two lines of hyphens."""
    if len(lines) < 2 or lines[0].strip() != "---" or not _SETTING.match(lines[1]):
        return 0
    ends = (number for number, line in enumerate(lines[1:], 2) if line.strip() in ("---", "..."))
    return next(ends, 0)


def _without_marks(line: str) -> str:
    """The text of a line that was marked up; what stands in code stays as it is."""

    def plain(found: re.Match[str]) -> str:
        if found["code"] is not None:
            return found["code"].strip()
        return _without_marks(found["link"] or found["stars"] or found["bars"] or "")

    return _INLINE.sub(plain, line)


def _html_lines(text: str) -> list[tuple[int, int, str]]:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_line()
    return reader.lines


class _Reader(HTMLParser):
    """Gathers paragraphs and headings; nothing in a page is run or fetched."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[tuple[int, int, str]] = []
        self._text: list[str] = []
        self._begin = 1
        self._level = 0
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "body":
            self._silent = 0  # whatever was left open before it
        elif re.fullmatch("h[1-6]", tag):
            self.end_line()
            self._level = int(tag[1])
        elif tag in _BLOCKS:
            self.end_line()

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(self._silent - 1, 0)
        elif tag in _BLOCKS or re.fullmatch("h[1-6]", tag):
            self.end_line()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            if not self._text:
                self._begin = self.getpos()[0]
            self._text.append(data)

    def end_line(self) -> None:
        """What was gathered is a paragraph or a heading."""
        line = " ".join("".join(self._text).split())
        if line:
            self.lines.append((self._begin, self._level, line))
        self._text.clear()
        self._level = 0

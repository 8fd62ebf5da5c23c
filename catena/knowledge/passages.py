"""Documents and lists of questions and answers → passages, each with where it comes from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catena.data.formats import read_records
from catena.data.scripts import WORD, joined
from catena.data.text_stream import likely_encoding, open_text, sample_bytes
from catena.errors import DataError
from catena.knowledge.sections import Section, sections
from catena.settings import DataSettings

DOCUMENTS = (".md", ".markdown", ".txt", ".html", ".htm")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
#: The largest document, in bytes.
_LARGEST = 64 << 20
#: Ends of sentences after which no space is written.
_WIDE_END = re.compile(r"[。！？][」』”’）]*$")
#: Quotes and brackets that close after the end belong to the sentence.
_SENTENCE = re.compile(r".+?(?:[.!?][\"'”’»)\]]*(?=\s|$)|[。！？][」』”’）]*|$)", re.DOTALL)


@dataclass(frozen=True)
class Passage:
    """A stretch of a document, or an answer to a frequent question.

    `source` is the file, relative to the folder; `row` the line on which the passage's section begins, or
    the record's number; `heading` the headings above it. `question` is empty for documents.
    """

    text: str
    source: str
    row: int
    heading: str = ""
    question: str = ""

    @property
    def searched(self) -> str:
        """What words are looked for in."""
        return "\n".join(part for part in (self.heading, self.question, self.text) if part)

    @property
    def meant(self) -> str:
        """What the passage is known by when meanings are compared: a frequent question by itself."""
        return self.question or "\n".join(part for part in (self.heading, self.text) if part)


def read_passages(
    source: Path, words: int, question: str = "question", answer: str = "answer"
) -> tuple[list[Passage], list[str]]:
    """The passages of a folder or of one file, and the names of files that are neither kind and left out.

    Documents are divided at headings, then into passages of whole sentences of up to `words` words, which
    share a sentence with the one before. Tables hold a question and its answer in each row. Hidden files
    and links are left out. Raises `DataError` for what cannot be read, and where nothing is found.
    """
    if not source.exists():
        raise DataError(f"There is no {source} to take knowledge from.")
    root = source if source.is_dir() else source.parent
    files = sorted(_files(source)) if source.is_dir() else [source]
    found: list[Passage] = []
    others: list[str] = []
    for file in files:
        name = file.relative_to(root).as_posix()
        ending = Path(file.name.lower().removesuffix(".gz")).suffix
        if ending in TABLES:
            found += _pairs(file, name, question, answer)
        elif file.suffix.lower() in DOCUMENTS:
            found += _document(file, name, words)
        else:
            others.append(name)
    unique = list(dict.fromkeys(found))
    if not unique:
        raise DataError(
            f"{source} holds nothing to answer from; put documents ({', '.join(DOCUMENTS)}) or questions "
            f"with answers ({', '.join(TABLES)}) there."
        )
    return unique, others


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _pairs(file: Path, name: str, question: str, answer: str) -> Iterator[Passage]:
    """The rows of a table; those without a question or an answer are left out."""
    settings = DataSettings.model_validate(
        {
            "columns": {"question": question, "answer": answer},
            "encoding": likely_encoding(sample_bytes(file)) or "utf-8",
        }
    )
    for batch in read_records(file, settings, ("question", "answer")):
        records = batch.records.dropna(subset=["question", "answer"])
        for asked, said, row in zip(records["question"], records["answer"], records["row"], strict=True):
            if asked.strip() and said.strip():
                yield Passage(_plain(said), name, int(row), question=_plain(asked))


def _document(file: Path, name: str, words: int) -> Iterator[Passage]:
    if file.stat().st_size == 0:
        return  # an empty page says nothing, and is no mistake
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{name} is larger than {_LARGEST >> 20} MB; divide it.")
    with open_text(file, likely_encoding(sample_bytes(file)) or "utf-8") as (_, stream):
        text = stream.read().decode("utf-8", "replace")
    for section in sections(text, file.suffix.lower()):
        for passage in _divided(section, words):
            yield Passage(passage, name, section.line, section.heading)


def _divided(section: Section, most: int) -> Iterator[str]:
    """Whole sentences up to `most` words; each passage after the first begins with the last sentence."""
    sentences = [part for one in _SENTENCE.findall(section.text) for part in _cut(_plain(one), most) if part]
    taken: list[str] = []
    size = fresh = 0
    for sentence in sentences:
        length = _words(sentence)
        if fresh and size + length > most:
            yield _together(taken)
            # the last sentence comes again, unless it would leave no room for a new one
            taken = taken[-1:] if _words(taken[-1]) + length <= most else []
            size, fresh = sum(map(_words, taken)), 0
        taken.append(sentence)
        size += length
        fresh += 1
    if fresh:
        yield _together(taken)


def _cut(sentence: str, most: int) -> Iterator[str]:
    """A sentence of more than `most` words in pieces, between words where there are any."""
    # found once, since a document without any end of a sentence is one sentence of all its words
    ends = [found.end() for found in WORD.finditer(sentence)]
    begin = first = 0
    while (size := max(len(ends) - first, (len(sentence) - begin) // 12)) > most:
        enough = len(ends) - first > most
        at = ends[first + most - 1] if enough else begin + (len(sentence) - begin) * most // size
        yield sentence[begin:at].strip()
        begin = at + len(sentence[at : at + 1]) - len(sentence[at : at + 1].lstrip())
        first = bisect_right(ends, begin)
    yield sentence[begin:].strip()


def _words(text: str) -> int:
    """Words (characters where a script has no spaces); of what is no language, twelve characters are one."""
    return max(len(WORD.findall(text)), len(text) // 12)


def _together(sentences: list[str]) -> str:
    text = sentences[0]
    for sentence in sentences[1:]:
        text = text + sentence if _WIDE_END.search(text) else joined(text, sentence)
    return text


def _plain(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())

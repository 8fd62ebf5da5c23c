"""The commands `catena ask` and `catena knowledge build · check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catena.errors import SettingsError

if TYPE_CHECKING:
    from catena.knowledge.asking import Reply
    from catena.knowledge.index import KnowledgeBase
    from catena.predictor import Predictor

knowledge = typer.Typer(no_args_is_help=True, help="Make and check what `catena ask` answers from.")

_Encoder = Annotated[
    Path | None,
    typer.Option(help="Folder of the encoder that compares meanings; by default the project's backbone."),
]
_Model = Annotated[
    str | None,
    typer.Option(
        help="Model of the problem answering that reads answers in documents, as for `catena predict`; by "
        "default the project's champion if it is one, else whole passages are given."
    ),
]
_Base = Annotated[Path, typer.Option("--knowledge", help="Folder that `catena knowledge build` made.")]
_Count = Annotated[int, typer.Option("-k", min=1, max=100, help="How many passages to look into.")]


@knowledge.command()
def build(
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Folder or file: documents (Markdown, HTML, plain text), questions with answers (CSV, TSV, "
            "JSON Lines, Parquet).",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the knowledge base.")],
    encoder: _Encoder = None,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Find passages by their words alone, without an encoder.")
    ] = False,
    passage_words: Annotated[
        int, typer.Option(min=20, max=400, help="Longest passage of a document, in words.")
    ] = 150,
    question: Annotated[str, typer.Option(help="Column with the question.")] = "question",
    answer: Annotated[str, typer.Option(help="Column with its answer.")] = "answer",
) -> None:
    """Make passages of documents and lists of questions, and index them."""
    from catena.files import check_replaceable
    from catena.knowledge.index import FILES, KnowledgeBase
    from catena.knowledge.passages import read_passages

    check_replaceable(output, FILES, (source,))
    folder = None if words_only else _encoder_folder(encoder, needed=True)
    passages, others = read_passages(source, passage_words, question, answer)
    KnowledgeBase.build(passages, folder).save(output)
    files = len({passage.source for passage in passages})
    print(f"{len(passages):,} passages of {files:,} files are in {output}")
    if others:
        shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        print(f"Left out, because neither documents nor tables: {shown}")


@knowledge.command()
def check(
    base: _Base,
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            help="File with columns `question` and `answer`; an empty answer says that there is none.",
        ),
    ],
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Store the least confidence at which this share of the answers is right, for `catena ask`.",
        ),
    ] = None,
    model: _Model = None,
    encoder: _Encoder = None,
    count: _Count = 3,
) -> None:
    """How many of some known questions are answered rightly, by the confidence that is asked for."""
    from catena.knowledge.checking import levels, lowest_threshold, read_questions
    from catena.knowledge.printing import print_levels

    questions, answers = read_questions(source)
    found, replies = _replies(base, questions, model, encoder, count, None)
    print_levels(levels(replies, answers))
    if precision is None:
        return
    least = lowest_threshold(replies, answers, precision)
    if least is None:
        raise SettingsError(
            f"At no confidence are {precision:.0%} of at least 20 answers right; nothing was stored."
        )
    kinds = {reply.kind for reply in replies}
    found.with_thresholds(found.thresholds | dict.fromkeys(kinds, least)).save(base)
    print(f"From now on answers need a confidence of {least:.3f}.")


def ask(
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="What to ask.")],
    base: _Base,
    model: _Model = None,
    encoder: _Encoder = None,
    count: _Count = 3,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--min-confidence",
            min=0.0,
            max=1.0,
            help="Below it the answer is that it is not known; by default the knowledge base's own.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a question.")] = False,
) -> None:
    """Answer questions from a knowledge base, with sources, or say that it does not know."""
    from catena.knowledge.printing import print_replies

    if not all(question.strip() for question in questions):
        raise SettingsError("An empty question cannot be answered.")
    print_replies(_replies(base, questions, model, encoder, count, threshold)[1], as_json)


def _replies(
    folder: Path,
    questions: list[str],
    model: str | None,
    encoder: Path | None,
    count: int,
    threshold: float | None,
) -> tuple[KnowledgeBase, list[Reply]]:
    from catena.knowledge.asking import ask as answered
    from catena.knowledge.index import KnowledgeBase

    base = KnowledgeBase.load(folder)
    network = _encoder_folder(encoder, needed=False) if base.vectors is not None else None
    replies = answered(
        base, questions, encoder=network, reader=_reader(model), count=count, threshold=threshold
    )
    return base, replies


def _encoder_folder(encoder: Path | None, needed: bool) -> Path | None:
    """The folder that is named, or the backbone of the project at hand, if there is one."""
    from catena.data.scratch import has_weights
    from catena.layout import Layout
    from catena.settings import load_settings

    if encoder is not None:
        return encoder
    try:
        layout = Layout.find()
    except SettingsError:
        layout = None
    folder = None if layout is None else layout.backbone(load_settings(layout.params).backbone.name)
    if folder is not None and folder.is_dir() and has_weights(folder):
        return folder
    if needed:
        raise SettingsError(
            "There is no pretrained backbone at hand to compare meanings with; run `catena fetch` in a "
            "project, name a folder with `--encoder`, or find passages by their words alone "
            "with `--words-only`."
        )
    return None


def _reader(model: str | None) -> Predictor | None:
    """The model that is named, or the project's champion where its problem is answering."""
    from catena.errors import CatenaError
    from catena.layout import Layout
    from catena.model_choice import chosen_folder
    from catena.predictor import Predictor
    from catena.settings import load_settings

    if model is not None:
        return Predictor.load(chosen_folder(model))
    try:
        layout = Layout.find()
    except SettingsError:  # passages are given as they are
        return None
    if load_settings(layout.params).problem.name != "answering":
        return None
    try:
        folder = chosen_folder(None)
    except CatenaError as error:
        print(f"Whole passages are given, because no model can read them: {error}", file=sys.stderr)
        return None
    return Predictor.load(folder)

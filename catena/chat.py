"""A conversation with a model in the terminal: turns, a history that fits, answers as they are written."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from catena.errors import DataError, ModelError
from catena.problems.conversations import Message, as_prompt

if TYPE_CHECKING:
    from catena.predictor import Predictor

#: What ends a conversation, and what begins a new one.
_LEAVE, _ANEW = ("/exit", "/quit"), "/new"


class Chat:
    """Remembers the turns. What no longer fits is left out from the front, by whole exchanges.

    Raises `ModelError` for a model that was not trained on conversations.
    """

    def __init__(self, predictor: Predictor, system: str | None = None) -> None:
        problem = predictor.problem
        if problem.name != "generation" or problem.settings.form != "conversation":
            raise ModelError(
                f"This model solves {problem.name}"
                + (f" of the form {problem.settings.form}" if problem.name == "generation" else "")
                + ", so it does not converse; `catena predict` asks it."
            )
        self._predictor = predictor
        self._system: list[Message] = (
            [{"role": "system", "content": system}] if system and system.strip() else []
        )
        self.turns: list[Message] = list(self._system)

    def forget(self) -> None:
        """Begin a new conversation."""
        self.turns = list(self._system)

    def say(self, text: str) -> Iterator[str]:
        """The answer in pieces, as they are written. Raises `DataError` for a text that says nothing."""
        from transformers import TextIteratorStreamer

        if not text.strip():
            raise DataError("There is nothing to answer; say something.")
        self.turns.append({"role": "user", "content": text.strip()})
        streamer = TextIteratorStreamer(
            self._predictor.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=600.0
        )
        failure: list[BaseException] = []
        writer = threading.Thread(target=self._write, args=(streamer, failure), daemon=True)
        writer.start()
        pieces: list[str] = []
        for piece in streamer:
            pieces.append(piece)
            yield piece
        writer.join()
        if failure:
            self.turns.pop()
            raise failure[0]
        answer = "".join(pieces).strip()
        if answer:
            self.turns.append({"role": "assistant", "content": answer})
        else:  # the turns go on taking turns
            self.turns.pop()

    def tokens(self) -> list[int]:
        """What the model is asked: the turns, cleaned as its training data were. Raises `DataError`."""
        predictor = self._predictor
        asked = pd.DataFrame({"prompt": [as_prompt(self.turns)]}, dtype=object)
        cleaned = predictor.problem.clean(asked, predictor.cleaner)
        found = predictor.problem.encode(cleaned, predictor.tokenizer, predictor.tokenization, ())
        return [int(token) for token in found["input_ids"][0]]

    def _write(self, streamer: Any, failure: list[BaseException]) -> None:
        """Write the answer to `streamer`, beams excepted, which have no one text until the end."""
        from catena.decoding.writing import write_texts

        predictor = self._predictor
        try:
            settings = predictor.problem.settings.decoding
            if settings.strategy == "beam":
                settings = settings.model_copy(update={"strategy": "greedy"})
            write_texts(
                predictor.model,
                predictor.tokenizer,
                [self.tokens()],
                settings,
                predictor.device,
                streamer=streamer,
            )
        except Exception as error:  # noqa: BLE001 - raised again where the pieces are read
            failure.append(error)
            streamer.end()


def talk(chat: Chat) -> None:
    """Read turns from standard input and print the answers, until the input ends."""
    if sys.stdin.isatty():
        print(f"{_ANEW} begins a new conversation, {_LEAVE[0]} or the end of input leaves.")
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if text in _LEAVE:
            return
        if text == _ANEW:
            chat.forget()
            continue
        if not text:
            continue
        for piece in chat.say(text):
            print(piece, end="", flush=True)
        print()

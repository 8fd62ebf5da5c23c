"""A tokenizer with a vocabulary for what is read, and another for what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from catena.errors import ModelError

#: File of the second vocabulary, beside `tokenizer.json`.
TARGET_FILE = "target_tokenizer.json"


class TwoVocabularies(PreTrainedTokenizerFast):  # type: ignore[misc]
    """`text_target` is encoded with the second vocabulary, as transformers' tokenizers for translation do.

    Decoding is always of what was written, so it uses the second one too. Special tokens must have the same
    numbers in both.
    """

    def __init__(self, *args: Any, target: Tokenizer, **options: Any) -> None:
        super().__init__(*args, **options)
        self._source: Tokenizer = self.backend_tokenizer
        self._target = target

    @classmethod
    def around(cls, source: PreTrainedTokenizerBase, target: Tokenizer) -> TwoVocabularies:
        """The tokenizer `source` for what is read, with `target` for what is written."""
        return cls(
            target=target,
            tokenizer_object=source.backend_tokenizer,
            model_max_length=source.model_max_length,
            truncation_side=source.truncation_side,
            clean_up_tokenization_spaces=False,
            **source.special_tokens_map,
        )

    @property
    def target_size(self) -> int:
        """Entries of the vocabulary that is written in."""
        return int(self._target.get_vocab_size())

    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> Any:
        saved = super().save_pretrained(save_directory, *args, **options)
        self._target.save(str(Path(save_directory, TARGET_FILE)))
        return saved

    def _switch_to_input_mode(self) -> None:
        self._tokenizer = self._source

    def _switch_to_target_mode(self) -> None:
        self._tokenizer = self._target

    def _decode(self, *args: Any, **options: Any) -> str:
        self._switch_to_target_mode()
        try:
            text: str = super()._decode(*args, **options)
        finally:
            self._switch_to_input_mode()
        return text


def with_target(source: PreTrainedTokenizerBase, folder: Path) -> TwoVocabularies:
    """`source` with the second vocabulary in `folder`. Raises `ModelError` where that cannot be read."""
    file = folder / TARGET_FILE
    try:
        text = file.read_text(encoding="utf-8")
        # the library below raises nothing that could be told from a bug
        if not {"model", "added_tokens"} <= set(json.loads(text)):
            raise ValueError("it holds no tokenizer")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    return TwoVocabularies.around(source, Tokenizer.from_str(text))

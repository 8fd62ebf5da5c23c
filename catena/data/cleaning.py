"""Cleaning of texts: the same steps when preparing records and when predicting."""

from __future__ import annotations

import html
import unicodedata
from dataclasses import asdict, dataclass
from typing import Literal, cast

from catena.settings import PreparationSettings

Normalization = Literal["none", "NFC", "NFKC"]


@dataclass(frozen=True)
class Cleaner:
    """What is done to a text before a model sees it, in this order:

    HTML entities → characters, Unicode normal form, white space collapsed, enclosing double quotes
    removed, lower case. Cleaning a cleaned text changes nothing, except for doubly escaped HTML.
    """

    normalization: Normalization = "NFC"
    unescape_html: bool = False
    collapse_whitespace: bool = True
    strip_quotes: bool = False
    lowercase: bool = False

    @classmethod
    def from_settings(cls, settings: PreparationSettings) -> Cleaner:
        """The cleaner that `params.yaml` describes."""
        return cls(
            normalization=settings.normalization,
            unescape_html=settings.unescape_html,
            collapse_whitespace=settings.collapse_whitespace,
            strip_quotes=settings.strip_quotes,
            lowercase=settings.lowercase,
        )

    def as_dict(self) -> dict[str, str | bool]:
        """The arguments that make an equal cleaner: `Cleaner(**cleaner.as_dict())`."""
        return cast(dict[str, str | bool], asdict(self))

    def clean(self, texts: list[str]) -> list[str]:
        """Cleaned copies of `texts`, in the same order."""
        if self.unescape_html:
            texts = [html.unescape(text) if "&" in text else text for text in texts]
        if self.normalization != "none":
            form = self.normalization
            # ASCII is its own normal form, and most of most texts; the check is a flag in the string.
            texts = [text if text.isascii() else unicodedata.normalize(form, text) for text in texts]
        if self.collapse_whitespace:
            texts = [" ".join(text.split()) for text in texts]
        if self.strip_quotes:
            texts = [_strip_quotes(text) if text[:1] == '"' else text for text in texts]
        if self.lowercase:
            texts = [text.lower() for text in texts]
            if self.normalization != "none":  # lower-casing may leave a character and a combining mark
                texts = [
                    text if text.isascii() else unicodedata.normalize(self.normalization, text)
                    for text in texts
                ]
        return texts


def _strip_quotes(text: str) -> str:
    """`text` without the pairs of double quotes, however many deep, that enclose all of it."""
    while len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        text = text[1:-1].strip()
    return text

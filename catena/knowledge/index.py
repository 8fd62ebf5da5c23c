"""A knowledge base: passages in a folder that can be searched by words and by meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from catena.errors import DataError, ModelError
from catena.files import check_replaceable, complete_folder, sha256_file, write_json
from catena.knowledge.passages import Passage
from catena.knowledge.words import WordIndex

_CARD = "knowledge.json"
_PASSAGES = "passages.parquet"
_VOCABULARY = "vocabulary.parquet"
_ARRAYS = "arrays.safetensors"
#: All that a knowledge base's folder holds, what says that it is one first.
FILES = (_CARD, _PASSAGES, _VOCABULARY, _ARRAYS)
_FORMAT = 1
#: Longest passage or question that an encoder reads, in tokens.
_TOKENS = 256
#: What sharing all of its words with a question is worth beside a cosine of 1 (see docs/answering.md).
_WORDS_SHARE = 0.5
#: Questions are compared with all passages in blocks of about so many pairs (8 MB in each table).
_CELLS = 1 << 20


@dataclass(frozen=True)
class Hit:
    """A passage found for a question.

    `match` (0 to 1) says how well it fits: the share of the question's words that it has, weighted by
    rarity, or the mean of that and the cosine of their meanings.
    """

    passage: Passage
    match: float


@dataclass(frozen=True)
class KnowledgeBase:
    """Passages, an index of their words, and their embeddings `(passages, hidden)` of length 1, if any.

    `encoder` and `encoder_sha256` are of the network that made the embeddings. `thresholds` are the least
    confidences at which an answer is given, where they were measured (`catena.knowledge.checking`).
    """

    passages: tuple[Passage, ...]
    words: WordIndex
    vectors: np.ndarray | None = None
    encoder: str = ""
    encoder_sha256: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def build(cls, passages: Sequence[Passage], encoder: Path | None) -> KnowledgeBase:
        """Index `passages` by words and, with the folder of an `encoder`, by meaning.

        Raises `DataError` where they hold no words, `ModelError` where the encoder cannot be read.
        """
        try:
            words = WordIndex.build([passage.searched for passage in passages])
        except ValueError:
            raise DataError("There are no words in the passages to find them by.") from None
        if encoder is None:
            return cls(tuple(passages), words)
        vectors = _embedded(encoder, [passage.meant for passage in passages])
        return cls(tuple(passages), words, vectors, encoder.name, _weights_sha256(encoder))

    def search(self, questions: Sequence[str], count: int, encoder: Path | None = None) -> list[list[Hit]]:
        """The `count` best passages for each question, the best first.

        A passage's score is its cosine to the question plus half its BM25 as a share of the best one.
        Raises `ModelError` where embeddings were made by another encoder than `encoder`.
        """
        if not questions:
            return []
        vectors = self._embedded(questions, encoder) if self.vectors is not None else None
        found: list[list[Hit]] = []
        block = max(_CELLS // len(self.passages), 1)
        for begin in range(0, len(questions), block):
            part = slice(begin, begin + block)
            found += self._found(questions[part], count, None if vectors is None else vectors[part])
        return found

    def _found(self, questions: Sequence[str], count: int, vectors: np.ndarray | None) -> list[list[Hit]]:
        """The best passages for a few questions, whose embeddings `vectors` are, if there are any."""
        shared = self.words.scores(questions)
        scores = shared / np.maximum(shared.max(axis=1, keepdims=True), 1e-9)
        cosines = None
        if vectors is not None and self.vectors is not None:
            cosines = vectors @ self.vectors.T
            scores = cosines + _WORDS_SHARE * scores
        count = min(count, len(self.passages))
        found = []
        for at, question in enumerate(questions):
            best = np.argpartition(-scores[at], count - 1)[:count]
            hits = []
            for place in best[np.lexsort((best, -scores[at][best]))].tolist():
                match = self.words.coverage(question, place)
                if cosines is not None:
                    match = (match + max(float(cosines[at, place]), 0.0)) / 2
                hits.append(Hit(self.passages[place], min(match, 1.0)))
            found.append(hits)
        return found

    def _embedded(self, questions: Sequence[str], encoder: Path | None) -> np.ndarray:
        if encoder is None or not encoder.is_dir():
            raise ModelError(
                f"This knowledge base needs the encoder {self.encoder} to find passages by meaning; name its "
                "folder with `--encoder`, or run `catena fetch` in the project."
            )
        if _weights_sha256(encoder) != self.encoder_sha256:
            raise ModelError(
                f"The knowledge base was made with other weights of {self.encoder} than those in {encoder}; "
                "make it again with `catena knowledge build`."
            )
        return _embedded(encoder, questions)

    def save(self, folder: Path) -> None:
        """Write everything to `folder`, whole or not at all.

        Raises `SettingsError` where the folder holds anything but an older knowledge base.
        """
        import pandas as pd
        from safetensors.numpy import save_file

        check_replaceable(folder, FILES)
        arrays = {name: getattr(self.words, name) for name in ("data", "indices", "indptr")}
        if self.vectors is not None:
            arrays["vectors"] = self.vectors
        with complete_folder(folder) as partial:
            save_file(
                {name: np.ascontiguousarray(values) for name, values in arrays.items()}, partial / _ARRAYS
            )
            rows = [asdict(passage) for passage in self.passages]
            pd.DataFrame(rows).to_parquet(partial / _PASSAGES, index=False)
            pd.DataFrame({"word": list(self.words.vocabulary)}).to_parquet(partial / _VOCABULARY, index=False)
            write_json(
                partial / _CARD,
                {
                    "format": _FORMAT,
                    "passages": len(self.passages),
                    "options": self.words.options,
                    "encoder": self.encoder,
                    "encoder_sha256": self.encoder_sha256,
                    "thresholds": self.thresholds,
                    "files": {name: sha256_file(partial / name) for name in FILES[1:]},
                },
            )

    def with_thresholds(self, thresholds: dict[str, float]) -> KnowledgeBase:
        """The same with other thresholds."""
        return replace(self, thresholds=thresholds)

    @classmethod
    def load(cls, folder: Path) -> KnowledgeBase:
        """Read a knowledge base. Raises `ModelError` where files are missing, altered or of another form."""
        import pandas as pd
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not folder.is_dir():
            raise ModelError(f"There is no knowledge base {folder}; make it with `catena knowledge build`.")
        try:
            card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            if card["format"] != _FORMAT:
                raise ModelError(f"{folder} is of a form that this version does not read; make it again.")
            for name in FILES[1:]:
                if sha256_file(folder / name) != card["files"][name]:
                    raise ValueError(f"{name} is cut off or altered")
            arrays = load_file(folder / _ARRAYS)
            table = pd.read_parquet(folder / _PASSAGES)[[one.name for one in fields(Passage)]]
            passages = tuple(Passage(*row) for row in table.itertuples(index=False, name=None))
            words = WordIndex(
                tuple(pd.read_parquet(folder / _VOCABULARY)["word"]),
                {str(name): value for name, value in card["options"].items()},
                *(arrays[name] for name in ("data", "indices", "indptr")),
            )
            thresholds = {str(name): float(value) for name, value in card["thresholds"].items()}
            vectors = arrays.get("vectors")
            if not words.is_sound(len(passages)) or (vectors is not None and len(vectors) != len(passages)):
                raise ValueError("its files do not belong together")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise ModelError(
                f"{folder} holds no complete knowledge base ({reason}); make it with `catena knowledge "
                "build`."
            ) from None
        return cls(passages, words, vectors, str(card["encoder"]), str(card["encoder_sha256"]), thresholds)


def _embedded(encoder: Path, texts: Sequence[str]) -> np.ndarray:
    from catena.backbones.pretrained import Pretrained
    from catena.training.embedding import embed_texts

    longest = int(min(Pretrained().tokenizer(encoder).model_max_length, _TOKENS))
    return embed_texts(encoder, texts, longest)


def _weights_sha256(encoder: Path) -> str:
    weights = encoder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(
            f"{encoder} holds no model.safetensors, so it is no encoder; a model trained with "
            "`method.store: adapter` is none either."
        )
    return sha256_file(weights)

"""Generation: a causal language model goes on writing, in a dialogue or in a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from catena.errors import DataError
from catena.problems.conversations import (
    as_prompt,
    asked,
    cleaned,
    divided,
    from_columns,
    looks_like_messages,
    only_question,
    read_messages,
)
from catena.problems.features import pad_inputs
from catena.problems.outputs import HeadSpec, Outputs
from catena.problems.token_loss import IGNORED, measure_tokens, token_loss
from catena.problems.written import WritingProblem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from catena.data.cleaning import Cleaner
    from catena.data.formats import Content
    from catena.evaluation.base import Evaluation
    from catena.problems.chat_tokens import Tokens
    from catena.settings import TokenizationSettings

#: Roles of a file's columns: a conversation in one, or one exchange in several, of which two are needed.
_EXCHANGE = ("prompt", "response", "context", "system")


class Generation(WritingProblem):
    """A record is what is given (`prompt`) and what follows it (`response`).

    `problem.form` says what they are. In a `conversation`, the prompt is a JSON list of the messages before
    the last answer; all answers are learned and nothing else. A `document` or a block of `text` is learned
    as a whole; its beginning is the prompt, so that what is written can be compared with how it goes on.
    White space is kept, since it is part of what is written.
    """

    name = "generation"
    input_roles = ("prompt",)
    target_role = "response"
    contents: ClassVar[Mapping[str, Content]] = {"messages": "json", "prompt": "json"}
    truncates = False
    keeps_white_space = True
    packs = True
    tokenized_roles = ("prompt", "response")
    validation_metric_names: ClassVar[Mapping[str, bool]] = {
        "log_loss": False,
        "perplexity": False,
        "token_accuracy": True,
    }

    @property
    def converses(self) -> bool:
        return self.settings.form == "conversation"

    # -- records ----------------------------------------------------------------------------------

    def raw_roles(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        if not self.converses:
            return ("text",)
        if "messages" in columns:
            return ("messages",)
        return tuple(role for role in _EXCHANGE if role in columns or role in _EXCHANGE[:2])

    def asked_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The prompts of a file are in the column of prompts, of conversations or of texts."""
        names = [columns[role] for role in ("prompt", "messages", "text") if role in columns]
        return {"prompt": names[0]} if names else {}

    def refusals(self, records: pd.DataFrame) -> pd.Series:
        """Prompts that are lists of messages and no conversation."""
        reasons = [_refusal(prompt) if self.converses else "" for prompt in records["prompt"]]
        return pd.Series(reasons, index=records.index, dtype="str")

    def compose(self, records: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Conversations and texts become what is given and what follows."""
        roles = [role for role in ("messages", "text", *_EXCHANGE) if role in records]
        prompts: list[str] = []
        responses: list[str] = []
        reasons: list[str] = []
        for row in records[roles].itertuples(index=False, name=None):
            values = {
                role: value if isinstance(value, str) else None
                for role, value in zip(roles, row, strict=True)
            }
            try:
                prompt, response = self._divide(values)
                reasons.append("")
            except ValueError as error:
                prompt, response = next((value for value in values.values() if value), ""), ""
                reasons.append(str(error))
            prompts.append(prompt)
            responses.append(response)
        index = records.index
        composed = records.drop(columns=roles).assign(
            prompt=pd.Series(prompts, index=index, dtype="str"),
            response=pd.Series(responses, index=index, dtype="str"),
        )
        return composed, pd.Series(reasons, index=index, dtype="str")

    def _divide(self, row: Mapping[str, str | None]) -> tuple[str, str]:
        """Prompt and response of one raw record; raises `ValueError` with the reason where it has none."""
        if not self.converses:
            text = _unix_lines(row.get("text") or "")
            if self.settings.form == "document":
                text = text.strip()
            at = beginning(text, self.settings.prompt_characters)
            if not text[:at].strip() or not text[at:].strip():
                raise ValueError("text too short to be given in part")
            return text[:at], text[at:]
        if "messages" in row:
            messages, response = divided(read_messages(row["messages"] or ""))
        else:
            messages, response = from_columns(row)
        return as_prompt(messages), response

    def clean(self, records: pd.DataFrame, cleaner: Cleaner) -> pd.DataFrame:
        """Clean texts, in which white space stays as it is, but at the ends of messages and of lines.

        A prompt that is one question stays a text.
        """
        gentle = replace(cleaner, collapse_whitespace=False)

        def message(texts: list[str]) -> list[str]:
            return [
                "\n".join(line.rstrip() for line in text.split("\n")).strip()
                for text in gentle.clean([_unix_lines(text) for text in texts])
            ]

        columns: dict[str, list[str]] = {}
        if self.converses:
            prompts = records["prompt"].tolist()
            columns["prompt"] = [
                as_prompt(cleaned(turns, message)) if looks_like_messages(prompt) else message([prompt])[0]
                for prompt, turns in zip(prompts, self._turns(prompts), strict=True)
            ]
        else:
            columns["prompt"] = gentle.clean([_unix_lines(text) for text in records["prompt"]])
        if self.target_role in records:
            texts = [_unix_lines(text) for text in records["response"]]
            columns["response"] = message(texts) if self.converses else gentle.clean(texts)
        return records.assign(
            **{name: pd.Series(values, index=records.index, dtype="str") for name, values in columns.items()}
        )

    @staticmethod
    def _turns(prompts: Sequence[str]) -> list[list[dict[str, str]]]:
        turns = []
        for at, prompt in enumerate(prompts, 1):
            try:
                turns.append(asked(prompt))
            except ValueError as error:
                raise DataError(f"Record {at}: `prompt` cannot be answered: {error}.") from None
        return turns

    def record_texts(self, records: pd.DataFrame) -> pd.Series:
        """A conversation is known by its prompt, which may have many answers, a text by all of it."""
        return records["prompt"] if self.converses else records["prompt"] + records["response"]

    def compared_texts(self, records: pd.DataFrame) -> pd.Series:
        """Near duplicates are alike in the last turn and its answer, or all of a text.

        What systems are told, and how a long dialogue began, may be the same in many records.
        """
        if not self.converses:
            return self.record_texts(records)
        last = [turns[-1]["content"] for turns in self._turns(records["prompt"].tolist())]
        return pd.Series(last, index=records.index, dtype="str") + "\n" + records["response"]

    # -- features ---------------------------------------------------------------------------------

    def encode(
        self,
        records: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        settings: TokenizationSettings,
        label_names: Sequence[str],
    ) -> dict[str, list[Any]]:
        """`input_ids` are given; `labels` follow. `learned` marks tokens given that are learned as well.

        `length` is that of both, and `bytes` the UTF-8 size of what is learned.
        """
        prompts = records["prompt"].tolist()
        known = self.target_role in records
        responses = records["response"].tolist() if known else [None] * len(prompts)
        found = self._tokens(prompts, responses, tokenizer, settings.max_length)
        features: dict[str, list[Any]] = {
            "input_ids": [one.given for one in found],
            "n_tokens": [one.total for one in found],
        }
        if known:
            features |= {
                "labels": [one.wanted for one in found],
                "learned": [one.learned for one in found],
                "length": [len(one.given) + len(one.wanted) for one in found],
                "bytes": [one.written_bytes for one in found],
            }
        return features

    def _tokens(
        self,
        prompts: Sequence[str],
        responses: Sequence[str | None],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> list[Tokens]:
        from catena.problems.chat_tokens import ChatTokens, text_tokens

        pairs = zip(prompts, responses, strict=True)
        if not self.converses:
            ends = self.settings.form == "document"
            return [text_tokens(tokenizer, prompt, rest, ends, max_length) for prompt, rest in pairs]
        chat = ChatTokens(tokenizer, max_length)
        turns = self._turns(prompts)
        return [chat.encode(before, answer) for before, answer in zip(turns, responses, strict=True)]

    # -- network ----------------------------------------------------------------------------------

    def head(self, label_names: Sequence[str]) -> HeadSpec:
        return HeadSpec("causal-language-model", ())

    def collate(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, pad_to: int = 8
    ) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` `(batch, length)` of what is given and what follows, one after the other.

        Each label is the token in its own place, and less than 0 where nothing is learned.
        """
        rows, labels = zip(*map(_row, features), strict=True)
        batch = pad_inputs([{"input_ids": row} for row in rows], pad_token_id, pad_to)
        batch["labels"] = pad_inputs([{"input_ids": row} for row in labels], IGNORED, pad_to)["input_ids"]
        return batch

    def pack(
        self, features: Sequence[Mapping[str, Any]], pad_token_id: int, width: int
    ) -> dict[str, torch.Tensor]:
        """Several records in each row `(rows, width)`, one after the other as long as they fit.

        `position_ids` begin anew with each of them. A network of transformers that is given these and no
        attention mask lets no token see another record's.
        """
        import torch

        rows: list[list[tuple[np.ndarray, np.ndarray]]] = []
        room = 0
        for feature in features:
            record = _row(feature)
            if len(record[0]) > room:
                rows.append([])
                room = width
            rows[-1].append(record)
            room -= len(record[0])
        shape = (len(rows), width)
        batch = {
            "input_ids": np.full(shape, pad_token_id, dtype=np.int64),
            "position_ids": np.zeros(shape, dtype=np.int64),
            "labels": np.full(shape, IGNORED, dtype=np.int64),
        }
        for row, records in enumerate(rows):
            at = 0
            for ids, labels in records:
                end = at + len(ids)
                batch["input_ids"][row, at:end] = ids
                batch["labels"][row, at:end] = labels
                batch["position_ids"][row, at:end] = np.arange(len(ids))
                at = end
            batch["position_ids"][row, at:] = np.arange(width - at)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Mean over the tokens that are learned; each is said by the token before it."""
        return token_loss(logits[:, :-1], labels[:, 1:], label_smoothing)

    def weight(self, labels: torch.Tensor) -> int:
        return int((labels[:, 1:] >= 0).sum())

    def measure(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return measure_tokens(logits[:, :-1], batch["labels"][:, 1:])

    # -- predictions ------------------------------------------------------------------------------

    def predictions(
        self,
        outputs: Outputs,
        records: pd.DataFrame,
        features: Mapping[str, list[Any]],
        label_names: Sequence[str],
    ) -> pd.DataFrame:
        """Targets are all that is learned, `target_bytes` of UTF-8."""
        table = super().predictions(outputs, records, features, label_names)
        if "target_loss" in table:
            table["target_bytes"] = np.asarray(features["bytes"], dtype=np.int64)
        return table

    def as_words(self, inputs: Mapping[str, str]) -> Mapping[str, str] | None:
        """A prompt of one question is that question; of several turns, only their JSON could be changed."""
        if not self.converses:
            return inputs
        question = only_question(inputs["prompt"])
        return None if question is None else {**inputs, "prompt": question}

    def evaluation(self) -> Evaluation:
        from catena.evaluation.generation import GenerationEvaluation

        return GenerationEvaluation(self.settings)


def beginning(text: str, most: int) -> int:
    """Where the first `most` characters end, or a word before that; at most the middle of a text."""
    most = min(most, max(len(text) // 2, 1))
    at = next(
        (at for at in range(most, 0, -1) if text[at : at + 1].isspace() and not text[at - 1].isspace()), 0
    )
    return at if text[:at].strip() else most


def _refusal(prompt: str) -> str:
    try:
        asked(prompt)
    except ValueError as error:
        return str(error)
    return ""


def _row(feature: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of a record, and its labels; the first is never one, since nothing comes before it."""
    given = np.asarray(feature["input_ids"], dtype=np.int64)
    if "labels" not in feature:
        return given, np.full(len(given), IGNORED, dtype=np.int64)
    wanted = np.asarray(feature["labels"], dtype=np.int64)
    learned = np.where(np.asarray(feature["learned"], dtype=np.int64) > 0, given, IGNORED)
    labels = np.concatenate([learned, wanted])
    labels[:1] = IGNORED
    return np.concatenate([given, wanted]), labels


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

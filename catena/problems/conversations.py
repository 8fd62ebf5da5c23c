"""Conversations as data sets write them, read into turns: who says what."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: A turn: `role` and `content`, as chat templates expect them.
Message = dict[str, str]

#: What data sets call the three roles.
_ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip


def read_messages(raw: str) -> list[Message]:
    """The turns of a JSON list of `{role, content}` or (ShareGPT) `{from, value}`.

    At most one system message stands first; then user and assistant take turns, the user first. Raises
    `ValueError` with the reason where the list is anything else.
    """
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("conversation is not a JSON list of messages") from None
    if not isinstance(parsed, list) or not parsed:
        raise ValueError("conversation is not a JSON list of messages")
    messages = [_message(one) for one in parsed]
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    if any(one["role"] == "system" for one in turns):
        raise ValueError("system message after the beginning")
    if any(one["role"] != ("user", "assistant")[at % 2] for at, one in enumerate(turns)):
        raise ValueError("user and assistant do not take turns, the user first")
    return messages


def _message(one: Any) -> Message:
    if not isinstance(one, dict):
        raise ValueError("conversation is not a JSON list of messages")
    role, content = one.get("role", one.get("from")), one.get("content", one.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError("message without a role or a text")
    if role.lower() not in _ROLES:
        raise ValueError(f"message of an unknown role {role[:40]!r}")
    if not content.strip():
        raise ValueError("empty message")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None
    return {"role": _ROLES[role.lower()], "content": content}


def divided(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """The turns before the last answer, and that answer; questions left without one are dropped.

    Raises `ValueError` where nothing is answered.
    """
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            return list(messages[:at]), messages[at]["content"]
    raise ValueError("no assistant turn to learn from")


def asked(prompt: str) -> list[Message]:
    """The turns up to a question: a JSON list of messages, or else a text, which is the user's one turn.

    An answer that stands last is what is asked for, and left out. Raises `ValueError` for a list of
    messages that is no conversation.
    """
    messages = read_messages(prompt) if looks_like_messages(prompt) else [{"role": "user", "content": prompt}]
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("no user turn to answer")
    return messages


def only_question(prompt: str) -> str | None:
    """The text of a prompt that is one user turn, as a list of messages or already so; else `None`."""
    if not looks_like_messages(prompt):
        return prompt
    try:
        (question,) = asked(prompt)
    except ValueError:
        return None
    # A question that is itself a list of messages would be taken for those.
    return None if looks_like_messages(question["content"]) else question["content"]


def looks_like_messages(text: str) -> bool:
    """Whether a text is a JSON list of objects."""
    if not text.lstrip().startswith("["):
        return False
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, list) and bool(parsed) and all(isinstance(one, dict) for one in parsed)


def as_prompt(messages: Sequence[Message]) -> str:
    """The canonical form: compact JSON, equal for equal turns."""
    return json.dumps(
        [{"role": one["role"], "content": one["content"]} for one in messages],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_columns(row: Mapping[str, str | None]) -> tuple[list[Message], str]:
    """One exchange from the columns `prompt` and `response`, with `context` and `system` where there are any.

    The context (Alpaca's `input`) follows the prompt after a blank line.
    """
    prompt, context = row.get("prompt") or "", row.get("context") or ""
    content = f"{prompt}\n\n{context}" if context.strip() else prompt
    if not content.strip():
        raise ValueError("empty prompt")
    if not (row.get("response") or "").strip():
        raise ValueError("empty response")
    system = row.get("system") or ""
    before = [{"role": "system", "content": system}] if system.strip() else []
    return [*before, {"role": "user", "content": content}], str(row["response"])


def cleaned(messages: Sequence[Message], clean: Callable[[list[str]], list[str]]) -> list[Message]:
    """The same turns with clean contents."""
    contents = clean([one["content"] for one in messages])
    return [
        {"role": one["role"], "content": content} for one, content in zip(messages, contents, strict=True)
    ]

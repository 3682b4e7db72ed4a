"""Chats as lists of turns: OpenAI's `messages`, TRL's prompt and completion, ShareGPT's
`conversations`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""A turn's role by the names that data sets use for it."""
TOOLS = {"tool", "function", "function_call", "function_response", "tool_call", "tool_response",
         "observation", "ipython"}  # fmt: skip
_CALLS = ("tool_calls", "function_call")
_WHO, _WHAT = ("role", "from"), ("content", "value", "text")


class Turn(NamedTuple):
    """A turn of a chat; its role is system, user or assistant."""

    role: str
    content: str


class Chat(NamedTuple):
    """A chat as a row: the last question and its answer, and what stands before them."""

    prompt: str | None
    response: str | None
    system: str | None
    turns: str | None
    """Earlier turns as a JSON list of objects with role and content; None if there are none."""


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns: objects that say who and what."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, Mapping) for turn in value)
        and all(_key(turn, _WHO) is not None for turn in value)
        and all(_key(turn, _WHAT) is not None or _calls(turn) for turn in value)
    )


def decoded_chat(value: Any) -> Any:
    """A chat that is written as JSON text, as in a cell of a CSV; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        with suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            return parsed if is_chat(parsed) else value
    return value


def _key(turn: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of some names that a turn has, one with a value if there is one."""
    there = [name for name in names if name in turn]
    return next((name for name in there if turn[name] is not None), there[0] if there else None)


def _calls(turn: Mapping[str, Any]) -> bool:
    """Whether a turn calls a tool."""
    return any(turn.get(name) for name in _CALLS)


def read_turns(value: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The turns of a chat.

    Args:
        value: A value for which `is_chat` is true.

    Raises:
        ValueError: A turn is of a tool or of an unknown role, or its content is not text.
    """
    turns = []
    for turn in value:
        name = str(turn[_key(turn, _WHO) or ""]).strip().lower()
        if name in TOOLS or _calls(turn):
            raise ValueError(
                "a chat with turns of tools, which are not supported; remove it or those turns"
            )
        if name not in ROLES:
            raise ValueError(
                f"a chat with the role {name!r}; rename it to system, user or assistant"
            )
        turns.append(Turn(ROLES[name], _content(turn[_key(turn, _WHAT) or ""])))
    return turns


def _content(value: Any) -> str:
    """The text of a turn; parts of text are joined.

    Raises:
        ValueError: It is not text.
    """
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        kinds = {str(part.get("type", "text")) for part in value} - {"text"}
        if kinds:
            raise ValueError(
                f"a chat with content of type {sorted(kinds)[0]!r}; only text is supported"
            )
        value = "".join(part.get("text") or "" for part in value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("a chat whose content is not text; write it as text")
    return value


def chat_row(turns: Sequence[Turn]) -> Chat:
    """A chat as a row.

    Args:
        turns: The system's turn first, if there is one.

    Returns:
        The last user turn and, if an assistant turn follows it, the answer.

    Raises:
        ValueError: The chat does not end with a user turn, or with one and its answer.
    """
    rest = list(turns)
    system = rest.pop(0).content if rest and rest[0].role == "system" else ""
    response = rest.pop().content if rest and rest[-1].role == "assistant" else None
    if not rest or rest[-1].role != "user":
        raise ValueError("a chat without a user turn before its last answer; remove or correct it")
    prompt = rest.pop().content
    earlier = [turn._asdict() for turn in rest]
    text = json.dumps(earlier, ensure_ascii=False) if earlier else None
    return Chat(prompt, response, system if system.strip() else None, text)


def chat_rows(turns: Sequence[Turn]) -> list[Chat]:
    """A chat as one row for each of its user turns, with the answer to it if there is one.

    Args:
        turns: As of `chat_row`.

    Raises:
        ValueError: The chat has no user turn.
    """
    rows = []
    for number, turn in enumerate(turns, 1):
        if turn.role == "user":
            answered = number < len(turns) and turns[number].role == "assistant"
            rows.append(chat_row(turns[: number + answered]))
    return rows or [chat_row(turns)]

"""Conversations, in either of the shapes that data sets have them, to one: messages of a role and a content.

===================  ====================================================  ================================
key                  a message                                             roles
===================  ====================================================  ================================
``messages``         ``{"role": ..., "content": ...}``                     system, user, assistant
``conversations``    ``{"from": ..., "value": ...}`` (ShareGPT), or as     also human, gpt
                     above
===================  ====================================================  ================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from subgpt.data.rows import Row, json_type, need_str
from subgpt.errors import DataError

Role: TypeAlias = Literal["system", "user", "assistant"]

KEYS = ("messages", "conversations")

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """Write it as chat templates expect it."""
        return {"role": self.role, "content": self.content}


def parse_conversation(row: Row, key: str) -> tuple[Message, ...]:
    """Read the conversation in a field of a row.

    Raises:
        DataError: It is no array of messages, a role is unknown, a content is empty or no text, or all are
            system messages; with file, line and the number of the message.

    """
    where = row.where
    turns = parse_messages(row.fields[key], where, key)
    if all(turn.role == "system" for turn in turns):
        raise DataError(f"{where}: there is only a system message, so there is nothing to train on")
    return turns


def parse_messages(messages: object, where: str, key: str = "messages") -> tuple[Message, ...]:
    """Read messages; `where` and `key` are for errors.

    Raises:
        DataError: It is no array of messages, a role is unknown, or a content is empty or no text.

    """
    if not isinstance(messages, (list, tuple)) or not messages:
        raise DataError(
            f"{where}: {key!r} must be an array of at least one message, not {json_type(messages)}"
        )
    return tuple(_message(message, f"{where}: message {n}") for n, message in enumerate(messages, start=1))


def check_answered(messages: tuple[Message, ...], where: str) -> None:
    """Refuse a conversation that does not end with an answer.

    Raises:
        DataError: Its last message is not the assistant's.

    """
    role = messages[-1].role
    if role != "assistant":
        raise DataError(
            f"{where}: the last message is of {role!r} and has no answer; add one, or remove the message"
        )


def _message(message: object, where: str) -> Message:
    if isinstance(message, Message):
        message = message.as_dict()
    if not isinstance(message, Mapping):
        raise DataError(f"{where} must be an object with 'role' and 'content', not {json_type(message)}")
    keys = ("from", "value") if "from" in message and "role" not in message else ("role", "content")
    said, content = (
        need_str(message, key, where, f"a message has a {keys[0]} and a {keys[1]}") for key in keys
    )
    role = _ROLES.get(said) if keys[0] == "from" or said not in ("human", "gpt") else None
    if role is None:
        known = "'system', 'human' and 'gpt'" if keys[0] == "from" else "'system', 'user' and 'assistant'"
        raise DataError(f"{where}: unknown role {said!r}; known are {known}")
    if not content.strip():
        raise DataError(f"{where}: the content of {said!r} is empty; remove the message or the line")
    return Message(role, content)

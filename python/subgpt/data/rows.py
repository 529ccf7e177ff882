"""One row of a data set, whatever file it comes from, and the questions that are asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subgpt.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a line of JSON Lines or CSV, an object of a JSON array, a row of a table.

    Attributes:
        fields: Names and values.
        file: The file, for messages.
        line: The number of the line, or of the row where a format has no lines, from 1.
        damaged: Bytes that are no text were replaced by U+FFFD.

    """

    fields: Mapping[str, Any]
    file: str
    line: int
    damaged: bool = False

    @property
    def where(self) -> str:
        """``file:line``, for messages."""
        return f"{self.file}:{self.line}"


def need_str(fields: Mapping[str, Any], key: str, where: str, remedy: str) -> str:
    """Get a field that must be a text.

    Raises:
        DataError: It is missing (the message lists the keys there are), or no text.

    >>> need_str({"body": "hi"}, "text", "a.jsonl:1", "name the field")
    Traceback (most recent call last):
    subgpt.errors.DataError: a.jsonl:1: no field 'text'; the fields there are: 'body'; name the field

    """
    if key not in fields:
        raise DataError(f"{where}: no field {key!r}; the fields there are: {list_keys(fields)}; {remedy}")
    value = fields[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: field {key!r} must be a string, not {json_type(value)}")
    return value


def list_keys(fields: Mapping[str, Any]) -> str:
    """List the keys of an object for a message, at most twenty of them.

    >>> list_keys({"a": 1, "b": 2})
    "'a', 'b'"
    """
    names = [str(key) for key in list(fields)[:20]]
    keys = [repr(name) if len(name) <= 60 else repr(name[:57] + "...") for name in names]
    if len(fields) > 20:
        keys.append(f"and {len(fields) - 20} more")
    return ", ".join(keys) or "none"


def json_type(value: object) -> str:
    """Name the type of a parsed value as JSON does.

    >>> json_type(None), json_type([1]), json_type(True)
    ('null', 'an array', 'a boolean')
    """
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)

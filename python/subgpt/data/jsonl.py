"""JSON Lines: one object a line, every fault named with its file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.reading import read_lines
from subgpt.errors import DataError

JSONL_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a JSON Lines file.

    Attributes:
        fields: The object of the line.
        file: The file, for messages.
        line: The number of the line, from 1.
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


def is_jsonl(path: Path) -> bool:
    """Tell by its name whether a file holds JSON Lines.

    >>> is_jsonl(Path("qa.jsonl")), is_jsonl(Path("qa.JSONL.gz")), is_jsonl(Path("qa.txt.gz"))
    (True, True, False)
    """
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(JSONL_SUFFIXES)


def read_rows(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the objects of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: A line that is no JSON, no object, or names a key twice; with file and line.

    """
    check_errors(errors)
    for number, decoded in read_lines(path, errors):
        if decoded.text and not decoded.text.isspace():
            where = f"{path}:{number}"
            yield Row(_parse(decoded.text, where), str(path), number, decoded.damaged)


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
    keys = [repr(key) if len(key) <= 60 else repr(key[:57] + "...") for key in list(fields)[:20]]
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


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=_unique)
    except RecursionError:
        # The cause is thousands of frames long and says nothing more.
        raise DataError(f"{where}: the JSON is nested too deeply") from None
    except _DuplicateKeyError as error:
        raise DataError(
            f"{where}: the key {error.args[0]!r} occurs twice in one object; keep one of them"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON: {error.msg} at column {error.colno}; every line must be one complete object"
        ) from error
    except ValueError as error:  # a number with more digits than Python converts
        raise DataError(f"{where}: not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f'{where}: an object such as {{"text": "..."}} is expected, not {json_type(value)}')
    return value


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree on which of two equal keys counts, so a file that has them means different things to
    # different tools.
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return fields

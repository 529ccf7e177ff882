"""JSON Lines: one object a line, every fault named with its file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.reading import bare_name, read_lines
from subgpt.data.rows import Row, json_type
from subgpt.errors import DataError

JSONL_SUFFIXES = (".jsonl", ".ndjson")


def is_jsonl(path: Path) -> bool:
    """Tell by its name whether a file holds JSON Lines.

    >>> is_jsonl(Path("qa.jsonl")), is_jsonl(Path("qa.JSONL.gz")), is_jsonl(Path("qa.txt.gz"))
    (True, True, False)
    """
    return bare_name(path).endswith(JSONL_SUFFIXES)


def read_rows(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the objects of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: A line that is no JSON, no object, or names a key twice; with file and line.

    """
    check_errors(errors)
    for number, decoded in read_lines(path, errors):
        if decoded.text and not decoded.text.isspace():
            where = f"{path}:{number}"
            yield Row(parse_object(decoded.text, where), str(path), number, decoded.damaged)


def parse_json(text: str, where: str, remedy: str) -> Any:
    """Parse JSON that a person wrote.

    Args:
        text: The JSON.
        where: File, or file and line, for the message.
        remedy: What a correct text would be.

    Raises:
        DataError: It is no JSON, nested too deeply, or an object in it names a key twice.

    >>> parse_json("[1,", "a.json", "the file must be whole")
    Traceback (most recent call last):
    subgpt.errors.DataError: a.json: not JSON: Expecting value at column 4; the file must be whole

    """
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except JSON_FAULTS as error:
        # Of the others the cause is thousands of frames long, or says nothing more.
        raise json_fault(error, where, remedy) from (error if isinstance(error, ValueError) else None)


def json_fault(error: Exception, where: str, remedy: str, place: tuple[int, int] | None = None) -> DataError:
    """Say what is wrong with JSON, as `parse_json` does.

    Args:
        error: One of `JSON_FAULTS`.
        where: File, or file and line.
        remedy: What a correct text would be.
        place: Line and column, from 1, where those in the error are of a part of the text.

    """
    if isinstance(error, RecursionError):
        return DataError(f"{where}: the JSON is nested too deeply")
    if isinstance(error, _DuplicateKeyError):
        return DataError(f"{where}: the key {error.args[0]!r} occurs twice in one object; keep one of them")
    if isinstance(error, json.JSONDecodeError):
        number, column = place or (error.lineno, error.colno)
        line = f"line {number}, " if number > 1 else ""
        return DataError(f"{where}: not JSON: {error.msg} at {line}column {column}; {remedy}")
    return DataError(f"{where}: not usable JSON: {error}")  # a number with more digits than Python converts


def parse_object(line: str, where: str) -> dict[str, Any]:
    """Parse a line that has to be one object.

    Raises:
        DataError: As for `parse_json`; it is something else than an object.

    """
    value = parse_json(line, where, "every line must be one complete object")
    if not isinstance(value, dict):
        raise DataError(f'{where}: an object such as {{"text": "..."}} is expected, not {json_type(value)}')
    return value


class _DuplicateKeyError(Exception):
    pass


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs, for a parser; refuse one in which a key occurs twice."""
    # Parsers disagree on which of two equal keys counts, so a file that has them means different things to
    # different tools.
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return fields


JSON_FAULTS = (RecursionError, _DuplicateKeyError, ValueError)
"""What parsing JSON raises: nested too deeply, a key twice, no JSON or a number of too many digits."""

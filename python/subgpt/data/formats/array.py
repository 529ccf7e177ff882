"""JSON: one array of objects, each a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.formats.elements import NoArrayError, read_elements
from subgpt.data.jsonl import parse_json
from subgpt.data.reading import read_chunks, read_text, read_text_chunks
from subgpt.data.rows import Row, json_type
from subgpt.errors import DataError

_LOOKED_AT = 4096
_REMEDY = "the file must be one complete array of objects"


def read_array(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the objects of a file that is one JSON array; an object's line is its number, from 1.

    The file is read as it is gone through, and what is wrong in it raised when it is come to. Memory: a piece of it,
    and twice the longest object.

    Raises:
        DataError: It is no JSON, no array, or has something in it that is no object.

    """
    check_errors(errors)
    elements = read_elements(read_text_chunks(path, errors), str(path), _REMEDY)
    try:
        for number, (fields, damaged) in enumerate(elements, start=1):
            if not isinstance(fields, dict):
                raise DataError(f"{path}:{number}: an object is expected, not {json_type(fields)}")
            yield Row(fields, str(path), number, damaged)
    except NoArrayError:
        value = parse_json(read_text(path, errors).text, str(path), _REMEDY)
        raise DataError(
            f"{path}: an array of objects is expected, not {json_type(value)}; take the array out of it, "
            "or write one object a line into a .jsonl file"
        ) from None


def looks_like_array(path: Path) -> bool:
    """Tell from its beginning whether a JSON file is an array of objects; others are running text."""
    head = next(read_chunks(path, _LOOKED_AT), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"[") and head[1:].lstrip().startswith(b"{")

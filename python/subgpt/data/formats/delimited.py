"""CSV and TSV: a row of names, then a row for each example; quotes as in RFC 4180."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subgpt.data.decoding import Decoded, Errors, check_errors
from subgpt.data.jsonl import parse_json
from subgpt.data.reading import read_text_lines
from subgpt.data.rows import Row
from subgpt.errors import DataError

_STRUCTURED = ("messages", "conversations")
"""Columns that hold more than a text can; what stands in their cells is JSON."""

_LONGEST_FIELD = 1 << 30


def read_csv(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the rows of a file with commas; see `read_delimited`."""
    return read_delimited(path, errors, ",")


def read_tsv(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the rows of a file with tabs; see `read_delimited`."""
    return read_delimited(path, errors, "\t")


def read_delimited(path: Path, errors: Errors, delimiter: str) -> Iterator[Row]:
    """Yield the rows of a file whose first row has the names of the columns; empty rows are passed over.

    Memory: the longest row, and a piece of the file.

    Raises:
        DataError: No names, a name twice, a row with more or fewer fields than names, or broken quotes; with
            file and line.

    """
    check_errors(errors)
    damage = _Damage()
    # The module refuses fields above 128 KiB by a number that all of the process shares; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    lines = damage.watch(read_text_lines(path, errors))
    rows = _numbered(path, csv.reader(lines, delimiter=delimiter, strict=True))
    first, head = next(rows, (1, []))
    names = [name.strip() for name in head]
    if not any(names):
        raise DataError(f"{path}:{first}: no names of columns; the first row must have them")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}:{first}: the column {twice!r} occurs twice; rename one of them")
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(
                f"{path}:{line}: {len(cells)} fields, but there are {len(names)} columns "
                f"({', '.join(map(repr, names[:20]))}); put a field that has the delimiter in quotes"
            )
        yield Row(_fields(names, cells, f"{path}:{line}"), str(path), line, damage.taken())


class _Damage:
    """Remembers, while lines go by, whether there was damage in those of a row."""

    def __init__(self) -> None:
        self._seen = False

    def watch(self, lines: Iterator[Decoded]) -> Iterator[str]:
        for line in lines:
            self._seen = self._seen or line.damaged
            yield line.text

    def taken(self) -> bool:
        seen, self._seen = self._seen, False
        return seen


def _numbered(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with the line that it begins on."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: broken row: {error}; a quote inside quotes is written twice"
            ) from None
        if cells is None:
            return
        if cells:
            yield line, cells


def _fields(names: list[str], cells: list[str], where: str) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(names, cells, strict=True))
    for name in _STRUCTURED:
        if fields.get(name):
            remedy = f"the cell of {name!r} must be one complete JSON array"
            fields[name] = parse_json(fields[name], f"{where}: column {name!r}", remedy)
    return fields

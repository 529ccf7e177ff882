"""What a source holds: running text, or questions with answers. Looked at, and said, never assumed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from subgpt.data.documents import DocumentSource, open_source
from subgpt.data.formats import BINARY, Format, find_row_files, format_of
from subgpt.data.formats.array import looks_like_array
from subgpt.data.instruct import ACCEPTED, ExampleSource, shape_of
from subgpt.data.rows import list_keys
from subgpt.data.sources import FoundFiles
from subgpt.errors import DataError


@dataclass(frozen=True, slots=True)
class SourceKind:
    """What a source holds.

    Attributes:
        kind: ``"text"`` for documents, ``"instruct"`` for examples with answers.
        why: What told so, for the terminal.

    """

    kind: Literal["text", "instruct"]
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


def sniff_kind(source: DocumentSource | ExampleSource, *, text_field: str = "text") -> SourceKind:
    """Tell what ``source`` holds, from the names of its files and the first row of each that has rows.

    A row that has both a text field and a question with its answer counts as the latter: data sets often
    carry the rendered text along.

    Args:
        source: What `read_documents` or `read_examples` takes. A one-shot iterator is not touched and counts
            as text. A ``.json`` file that is no array of objects counts as text, too.
        text_field: The key of the text in ``.jsonl`` files.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: Rows in no known shape (with the keys there are), or a mixture of both kinds.

    >>> str(sniff_kind([{"q": "Is it?", "a": "It is."}]))
    'instruct: rows with q + a'

    """
    first_row = _first_row(source)
    if first_row is not None:
        shape = shape_of(first_row)
        if shape is None:
            raise DataError(f"row 1: the keys {list_keys(first_row)} are no example; expected {ACCEPTED}")
        return SourceKind("instruct", f"rows with {shape}")
    if not isinstance(source, (str, os.PathLike, list, tuple)):
        return SourceKind("text", "texts from an iterator")
    opened = open_source(source, find=find_row_files)
    if not isinstance(opened, FoundFiles):
        return SourceKind("text", "texts in memory")
    kinds = {path: _sniff_file(path, text_field) for path in opened.files}
    first: dict[str, tuple[Path, SourceKind]] = {}
    for path, kind in kinds.items():
        first.setdefault(kind.kind, (path, kind))
    if len(first) > 1:
        shown = "; ".join(f"{path}: {kind}" for path, kind in first.values())
        raise DataError(f"the source mixes running text with examples ({shown}); name one of the two")
    path, kind = next(iter(first.values()))
    more = f" and {len(kinds) - 1} more" if len(kinds) > 1 else ""
    return SourceKind(kind.kind, f"{kind.why} in {path}{more}")


def _first_row(source: object) -> Mapping[str, Any] | None:
    """Give the first row of a list of rows, or of a ``datasets.Dataset``; None for anything else."""
    if isinstance(source, (list, tuple)):
        row = source[0] if source else None
    else:
        # A Dataset has names of columns, and can be gone through again and again.
        once = isinstance(source, (Iterator, Mapping)) or not hasattr(source, "column_names")
        row = next(iter(source), None) if isinstance(source, Iterable) and not once else None
    return row if isinstance(row, Mapping) else None


def _sniff_file(path: Path, text_field: str) -> SourceKind:
    kind = format_of(path)
    if kind is None or (kind.name == "JSON" and not looks_like_array(path)):
        return SourceKind("text", "text")
    row = next(kind.read(path, "replace"), None)
    if row is None:
        return SourceKind("text", "no rows")
    shape = shape_of(row.fields)
    named = "rows" if kind.name == "JSON Lines" else f"{kind.name} rows"
    if shape is not None:
        return SourceKind("instruct", f"{named} with {shape}")
    if kind.name == "JSON Lines" and text_field in row.fields:
        return SourceKind("text", f"rows with {text_field!r}")
    raise DataError(_unknown(kind, row.where, list_keys(row.fields), text_field))


def _unknown(kind: Format, where: str, keys: str, text_field: str) -> str:
    """Say what rows in no known shape lack, and how their kind of file would be running text."""
    if kind.name == "JSON Lines":
        return (
            f"{where}: the keys {keys} are neither a text (field {text_field!r}, "
            f"set by text_field) nor an example ({ACCEPTED})"
        )
    as_text = "" if kind.suffixes in ((), BINARY) else "; to train on the file as running text, name it .txt"
    return f"{where}: the {kind.name} columns {keys} are no example; expected {ACCEPTED}{as_text}"

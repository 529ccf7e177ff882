"""What a source holds: running text, or questions with answers. Looked at, and said, never assumed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from subgpt.data.documents import DocumentSource, open_source
from subgpt.data.instruct import ACCEPTED, ExampleSource, shape_of
from subgpt.data.jsonl import is_jsonl, list_keys, read_rows
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
    """Tell what ``source`` holds, from the names of its files and the first row of each ``.jsonl``.

    A row that has both a text field and a question with its answer counts as the latter: data sets often
    carry the rendered text along.

    Args:
        source: What `read_documents` or `read_examples` takes. A one-shot iterator is not touched and counts
            as text.
        text_field: The key of the text in ``.jsonl`` files.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: A ``.jsonl`` in no known shape (with the keys there are), or a mixture of both kinds.

    >>> str(sniff_kind([{"q": "Is it?", "a": "It is."}]))
    'instruct: rows with q + a'

    """
    if isinstance(source, (list, tuple)) and source and isinstance(source[0], Mapping):
        shape = shape_of(source[0])
        if shape is None:
            raise DataError(f"row 1: the keys {list_keys(source[0])} are no example; expected {ACCEPTED}")
        return SourceKind("instruct", f"rows with {shape}")
    if not isinstance(source, (str, os.PathLike, list, tuple)):
        return SourceKind("text", "texts from an iterator")
    opened = open_source(source)
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


def _sniff_file(path: Path, text_field: str) -> SourceKind:
    if not is_jsonl(path):
        return SourceKind("text", "text")
    row = next(read_rows(path), None)
    if row is None:
        return SourceKind("text", "no rows")
    shape = shape_of(row.fields)
    if shape is not None:
        return SourceKind("instruct", f"rows with {shape}")
    if text_field in row.fields:
        return SourceKind("text", f"rows with {text_field!r}")
    raise DataError(
        f"{row.where}: the keys {list_keys(row.fields)} are neither a text (field {text_field!r}, "
        f"set by text_field) nor an example ({ACCEPTED})"
    )

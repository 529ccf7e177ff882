"""Rows of a data set from every kind of file that data sets come in; one module a kind.

A kind is told by the name of the file. Rows are mappings (`Row`), and every fault in them names file and line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from subgpt.data.decoding import Errors
from subgpt.data.formats.array import read_array
from subgpt.data.formats.delimited import read_csv, read_tsv
from subgpt.data.formats.parquet import read_parquet
from subgpt.data.formats.saved import is_saved_dataset, read_saved_dataset
from subgpt.data.jsonl import JSONL_SUFFIXES, read_rows
from subgpt.data.reading import bare_name
from subgpt.data.rows import Row
from subgpt.data.sources import FileSource, FoundFiles, find_files, names_of
from subgpt.places import expanded


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file with rows: what people call it, its endings, and what reads it."""

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Errors], Iterator[Row]]


FORMATS = (
    Format("JSON Lines", JSONL_SUFFIXES, read_rows),
    Format("CSV", (".csv",), read_csv),
    Format("TSV", (".tsv",), read_tsv),
    Format("JSON", (".json",), read_array),
    Format("Parquet", (".parquet",), read_parquet),
)
DATASET = Format("Hugging Face dataset", (), read_saved_dataset)
BINARY = (".parquet",)
"""Endings of files that hold NUL bytes and are no less wanted for it."""

ALL_NAMES = "JSON Lines, CSV, TSV, JSON or Parquet"


def format_of(path: Path) -> Format | None:
    """Tell by its name what kind of rows a file has; None for running text.

    >>> format_of(Path("qa.CSV.gz")).name, format_of(Path("poem.txt"))
    ('CSV', None)
    """
    if is_saved_dataset(path):
        return DATASET
    name = bare_name(path)
    return next((kind for kind in FORMATS if name.endswith(kind.suffixes)), None)


def find_row_files(source: FileSource) -> FoundFiles:
    """Find the files of a source as `find_files` does, with those that are not text but have rows.

    Raises:
        MissingFileError, DataError: As for `find_files`.

    """
    names = names_of(source)
    saved = [
        name for name in names if isinstance(name, (str, os.PathLike)) and is_saved_dataset(expanded(name))
    ]
    rest = [name for name in names if name not in saved]
    found = find_files(rest, binary=BINARY) if rest or not saved else FoundFiles(())
    return replace(found, files=(*map(expanded, saved), *found.files))

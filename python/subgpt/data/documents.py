"""Documents, one after the other, from whatever the user named.

Every text file (``.txt``, ``.md``, ``.py``, ...) is one document, or several where the separator occurs in
it. A ``.jsonl`` file is one document a line, from the text field. Either may be ``.gz`` or ``.zst``. Texts may
also be given directly, as any iterable of ``str``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

from subgpt.data.decoding import Decoded, Errors, check_errors, clean
from subgpt.data.jsonl import is_jsonl, read_rows
from subgpt.data.reading import read_text
from subgpt.data.rows import need_str
from subgpt.data.sources import FileSource, FoundFiles, find_files
from subgpt.errors import ConfigError, DataError

SEPARATOR = "<|endoftext|>"

DocumentSource: TypeAlias = "FileSource | Iterable[str]"

_PATH_SUFFIXES = (
    *(".txt", ".md", ".rst", ".py", ".html", ".gz", ".zst"),
    *(".jsonl", ".json", ".csv", ".tsv", ".parquet"),
)


class Origin(NamedTuple):
    """Where a text comes from: a file and a line in it, both for people to read.

    >>> str(Origin("poems/a.txt", 12))
    'poems/a.txt:12'
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Document:
    """One text that belongs together.

    Attributes:
        text: The text, line ends untouched. Never only white space.
        origin: Where it begins.
        damaged: Bytes that are no text were replaced by U+FFFD.

    """

    text: str
    origin: Origin
    damaged: bool = False


def read_documents(
    source: DocumentSource,
    *,
    text_field: str = "text",
    errors: Errors = "replace",
    separator: str | None = SEPARATOR,
) -> Iterator[Document]:
    """Read the documents of ``source`` one by one, in the order of `find_files`.

    Args:
        source: A path, directory or glob, a list of these, or an iterable of texts. In a list of ``str``,
            entries that look like paths are paths; pass `pathlib.Path` objects or ``iter(texts)`` where that
            could be mistaken.
        text_field: The key of the text in ``.jsonl`` files.
        errors: ``"replace"`` puts U+FFFD for bytes that are no text, ``"strict"`` refuses them.
        separator: Splits one text file into documents. Where it stands alone on a line, the line end after it
            belongs to it. None: never split.

    Yields:
        Documents with something in them; those of white space only are dropped.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: Nothing to read, a broken file or line (named, with its number), or no document left.

    >>> [d.text for d in read_documents(["so much depends", "upon"])]
    ['so much depends', 'upon']

    """
    check_errors(errors)
    check_separator(separator)
    opened = open_source(source)
    return documents_of(opened, text_field=text_field, errors=errors, separator=separator)


def check_separator(separator: str | None) -> None:
    """Refuse a separator that is everywhere.

    >>> check_separator("")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: separator is empty; give a text such as '<|endoftext|>', or None to leave files whole
    """
    if separator == "":
        raise ConfigError(
            "separator is empty; give a text such as '<|endoftext|>', or None to leave files whole"
        )


def open_source(
    source: DocumentSource, find: Callable[[FileSource], FoundFiles] = find_files
) -> FoundFiles | Iterable[str]:
    """Decide what ``source`` is: files (which are looked for now, with ``find``) or texts.

    Raises:
        MissingFileError: As for `find_files`.
        DataError: As for `find_files`; bytes, mappings and open files; a list that mixes paths with texts.

    >>> open_source(["a text", "another text"])
    ['a text', 'another text']

    """
    if isinstance(source, (str, os.PathLike)):
        return find(source)
    if isinstance(source, (bytes, bytearray, Mapping)) or hasattr(source, "read"):
        raise DataError(
            "a path, or an iterable of str, is expected as the source of documents; "
            f"{type(source).__name__} was given"
        )
    if not isinstance(source, Iterable):
        raise DataError(
            f"a path, or an iterable of str, is expected as the source of documents; got {source!r} "
            f"({type(source).__name__})"
        )
    if not isinstance(source, (list, tuple)):
        return cast("Iterable[str]", source)
    paths = [_looks_like_path(entry) for entry in source]
    if all(paths):
        return find(source)
    if any(paths):
        raise DataError(
            f"the list mixes what looks like a path ({source[paths.index(True)]!r}) with what looks like a "
            f"text ({_short(source[paths.index(False)])}); pass pathlib.Path objects for files, "
            "or iter(texts) for texts"
        )
    return cast("Iterable[str]", source)


def documents_of(
    opened: FoundFiles | Iterable[str], *, text_field: str, errors: Errors, separator: str | None
) -> Iterator[Document]:
    """Yield the documents of what `open_source` found; see `read_documents`."""
    if isinstance(opened, FoundFiles):
        documents = chain.from_iterable(
            _from_file(path, text_field, errors, separator) for path in opened.files
        )
        what = opened.named()
    else:
        documents = chain(_from_texts(opened, errors))
        what = "the texts given"
    some = False
    for document in documents:
        if document.text and not document.text.isspace():
            some = True
            yield document
    if not some:
        raise DataError(f"{what}: no document with any text in it; give text to learn from")


def _from_file(path: Path, text_field: str, errors: Errors, separator: str | None) -> Iterator[Document]:
    if is_jsonl(path):
        return _from_jsonl(path, text_field, errors)
    return _from_text_file(path, errors, separator)


def _from_text_file(path: Path, errors: Errors, separator: str | None) -> Iterator[Document]:
    decoded = read_text(path, errors)
    if separator is None or separator not in decoded.text:
        yield Document(decoded.text, Origin(str(path), 1), decoded.damaged)
        return
    start, line, text = 0, 1, decoded.text
    while start <= len(text):
        end = text.find(separator, start)
        end = len(text) if end < 0 else end
        piece = text[start:end]
        yield Document(piece, Origin(str(path), line), decoded.damaged and "\ufffd" in piece)
        after = _after_separator(text, end, end + len(separator))
        line += text.count("\n", start, after)
        start = after


def _after_separator(text: str, begin: int, end: int) -> int:
    """Where the next document begins: past the line end if the separator has the line to itself."""
    alone = begin == 0 or text[begin - 1] == "\n"
    if alone and text.startswith("\r\n", end):
        return end + 2
    if alone and text.startswith("\n", end):
        return end + 1
    return end


def _from_jsonl(path: Path, text_field: str, errors: Errors) -> Iterator[Document]:
    for row in read_rows(path, errors):
        text = need_str(row.fields, text_field, row.where, _no_text(row.fields))
        decoded = clean(text, row.where, errors)
        yield Document(decoded.text, Origin(str(path), row.line), row.damaged or decoded.damaged)


def _no_text(fields: Mapping[str, Any]) -> str:
    """Say what to do about a row that has no text."""
    from subgpt.data.instruct import shape_of

    shape = shape_of(fields)
    if shape is not None:
        return f"rows with {shape} are examples, which fine-tuning learns from (subgpt finetune)"
    return "name the field with text_field (--text-field)"


def _from_texts(texts: Iterable[Any], errors: Errors) -> Iterator[Document]:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(
                f"text number {number} is {type(text).__name__}, not str: {_short(text)}; decode it first"
            )
        decoded: Decoded = clean(text, f"text number {number}", errors)
        yield Document(decoded.text, Origin("text", number), decoded.damaged)


def _looks_like_path(entry: object) -> bool:
    """Tell paths from texts in a list: it exists, or is one word with a known ending or a closing slash."""
    if isinstance(entry, os.PathLike):
        return True
    if not isinstance(entry, str) or not entry or len(entry) > 1000 or "\n" in entry or "\0" in entry:
        return False
    if len(entry.split()) == 1 and entry.lower().endswith((*_PATH_SUFFIXES, "/", "\\")):
        return True
    try:
        return os.path.lexists(entry)
    except (OSError, ValueError):
        return False


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

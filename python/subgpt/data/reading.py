"""Opening files of text, plain or ``.gz``, with errors that name the file.

Memory is bounded: a ``.gz`` that grows beyond all proportion to its size is refused while it is being read.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from subgpt.data.decoding import UTF16_BOMS, Decoded, Errors, check_errors, decode
from subgpt.errors import DataError, MissingFileError

GZIP_FREE_BYTES = 64 << 20
GZIP_MAX_RATIO = 200
"""A ``.gz`` may grow to the larger of 64 MiB and 200 times its size. Text shrinks 3 to 30 fold;
a bomb 1000 fold."""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, decompressing ``.gz``, with an error that names it.

    Raises:
        MissingFileError: It is not there (any more).
        DataError: It may not be read, or is a directory.

    """
    try:
        if path.suffix.lower() == ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return path.open("rb")
    except FileNotFoundError as error:
        raise MissingFileError(f"no such file: {str(path)!r}") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def read_chunks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed, in pieces of at most ``size`` bytes.

    Raises:
        DataError: A damaged ``.gz``, one that grows beyond all proportion, or a failing disk.

    """
    with open_bytes(path) as handle:
        limit = None
        if path.suffix.lower() == ".gz":
            limit = max(GZIP_FREE_BYTES, GZIP_MAX_RATIO * path.stat().st_size)
        total = 0
        while True:
            try:
                chunk = handle.read(size)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(
                    f"{path}: reading failed after {total} bytes ({error}); is the file complete?"
                ) from error
            if not chunk:
                return
            total += len(chunk)
            if limit is not None and total > limit:
                raise DataError(
                    f"{path}: grows to more than {limit} bytes, over {GZIP_MAX_RATIO} times its size, "
                    "like a gzip bomb; if it is what you want, decompress it yourself and name the result"
                )
            yield chunk


def read_text(path: Path | str, errors: Errors = "replace") -> Decoded:
    """Read a whole text file (or ``.gz`` of one).

    Args:
        path: The file.
        errors: What to do with bytes that are not text, see `decode`.

    Returns:
        The text, with its line ends untouched. Memory: about three times the file while it is decoded.

    Raises:
        MissingFileError: The file is not there.
        DataError: It cannot be read or decoded.

    """
    check_errors(errors)
    path = Path(path)
    return decode(b"".join(read_chunks(path)), str(path), errors)


def read_lines(path: Path, errors: Errors = "replace") -> Iterator[tuple[int, Decoded]]:
    r"""Read a file line by line, numbered from 1, without its line ends.

    Lines end at ``\n`` or ``\r\n`` alone: the other separators of ``str.splitlines``, such as U+2028, are
    valid inside a JSON string. Memory: the longest line, except UTF-16, which is read whole.

    Raises:
        DataError: As for `read_text`; under ``"strict"`` with file, line and byte offset.

    """
    chunks = read_chunks(path)
    head = next(chunks, b"")
    if head.startswith(UTF16_BOMS):
        whole = decode(head + b"".join(chunks), str(path), errors)
        for number, line in enumerate(whole.text.split("\n"), start=1):
            yield number, Decoded(line.removesuffix("\r"), whole.damaged)
        return
    for number, offset, raw in _raw_lines(head, chunks):
        decoded = decode(raw, f"{path}:{number}", errors, base=offset)
        yield number, Decoded(decoded.text.removesuffix("\r"), decoded.damaged)


def _raw_lines(head: bytes, chunks: Iterator[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """(line number, byte offset, bytes without the newline)."""
    number, offset, rest = 1, 0, head
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield number, offset, line
            number, offset = number + 1, offset + len(line) + 1
        # Pieces are gathered until one has a newline, so that a very long line is joined once, not once a
        # chunk.
        pending, ended = [rest], False
        for chunk in chunks:
            pending.append(chunk)
            ended = b"\n" in chunk
            if ended:
                break
        rest = b"".join(pending)
        if not ended:
            if rest:
                yield number, offset, rest
            return

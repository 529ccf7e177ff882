"""Opening files of text, plain, ``.gz`` or ``.zst``, with errors that name the file.

Memory is bounded: a compressed file that grows beyond all proportion to its size is refused while it is being read.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from subgpt.data.decoding import UTF16_BOMS, Decoded, Errors, check_errors, decode, detect
from subgpt.errors import DataError, MissingFileError
from subgpt.places import absent

COMPRESSED = (".gz", ".zst")
"""Endings of files that are read as what they hold."""

GZIP_FREE_BYTES = 64 << 20
GZIP_MAX_RATIO = 200
"""A ``.gz`` or ``.zst`` may grow to the larger of 64 MiB and 200 times its size. Text shrinks 3 to 30 fold;
a bomb 1000 fold."""


def is_compressed(path: Path) -> bool:
    """Tell by its name whether a file is compressed.

    >>> is_compressed(Path("a.txt.ZST")), is_compressed(Path("a.txt"))
    (True, False)
    """
    return path.name.lower().endswith(COMPRESSED)


def bare_name(path: Path) -> str:
    """Give the name that a file has without compression, in small letters.

    >>> bare_name(Path("data/QA.jsonl.gz"))
    'qa.jsonl'
    """
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, decompressing ``.gz`` and ``.zst``, with an error that names it.

    Raises:
        MissingFileError: It is not there (any more).
        DataError: It may not be read, or is a directory.
        MissingExtraError: A ``.zst``, and pyarrow is not installed.

    """
    try:
        if path.suffix.lower() == ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        if path.suffix.lower() == ".zst":
            from subgpt.data.formats.extra import need_module  # which is built on this module

            arrow = need_module("pyarrow", f"{path}: reading Zstandard")
            # Arrow's reader, unlike others, does not take a file that breaks off for one that ends.
            return cast("IO[bytes]", arrow.input_stream(str(path), compression="zstd"))
        return path.open("rb")
    except FileNotFoundError as error:
        raise MissingFileError(absent(path, "name a file that is there")) from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a directory; name a file") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def read_chunks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed, in pieces of at most ``size`` bytes.

    Raises:
        DataError: A damaged ``.gz`` or ``.zst``, one that grows beyond all proportion, or a failing disk.

    """
    with open_bytes(path) as handle:
        limit = None
        if is_compressed(path):
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
                kind = "gzip" if path.suffix.lower() == ".gz" else "Zstandard"
                raise DataError(
                    f"{path}: grows to more than {limit} bytes, over {GZIP_MAX_RATIO} times its size, "
                    f"like a {kind} bomb; if it is what you want, decompress it yourself and name the result"
                )
            yield chunk


def read_text(path: Path | str, errors: Errors = "replace") -> Decoded:
    """Read a whole text file (or a ``.gz`` or ``.zst`` of one).

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


def read_text_chunks(path: Path, errors: Errors = "replace", size: int = 1 << 20) -> Iterator[Decoded]:
    """Read a text file of any size in pieces, none of them empty; joined they are what `read_text` gives.

    Args:
        path: The file.
        errors: What to do with bytes that are not text, see `decode`.
        size: Bytes that are decoded at once, after decompression.

    Raises:
        DataError: As for `read_text`, with the offset of a byte that is no text.

    """
    check_errors(errors)
    chunks = read_chunks(path, size)
    head = next(chunks, b"")
    while 0 < len(head) < 4 and (more := next(chunks, b"")):  # a mark takes up to four bytes
        head += more
    encoding, skip = detect(head, str(path))
    decoder, begin = codecs.getincrementaldecoder(encoding)("strict"), skip
    chunk: bytes | None = head[skip:]
    while chunk is not None:
        following = next(chunks, None)
        before = decoder.getstate()[0]  # the beginning of a character that the last piece broke off in
        try:
            decoded = Decoded(decoder.decode(chunk, final=following is None))
        except UnicodeDecodeError:
            # Only now is it decided what is damaged: `decode` refuses it, or says so.
            whole = before + chunk
            kept = len(whole) if following is None else len(whole) - _broken_off(whole, encoding)
            decoded = decode(whole[:kept], str(path), errors, base=begin - len(before), encoding=encoding)
            decoder.setstate((whole[kept:], 0))
        begin += len(chunk)
        if decoded.text:
            yield decoded
        chunk = following


def _broken_off(data: bytes, encoding: str) -> int:
    """Count the bytes at the end of ``data`` that begin a character and do not end it."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(data)
    return len(decoder.getstate()[0])


def read_text_lines(path: Path, errors: Errors = "replace") -> Iterator[Decoded]:
    r"""Read a text file of any size by lines, each with its end: ``\n``, ``\r\n`` or a lone ``\r``.

    Memory: the longest line, and a piece of the file.
    """
    rest, damaged = "", False
    for chunk in read_text_chunks(path, errors):
        damaged = damaged or chunk.damaged
        rest += chunk.text
        if not ("\n" in chunk.text or "\r" in chunk.text):
            continue
        *lines, rest = io.StringIO(rest, newline="")
        if rest.endswith("\n"):
            lines, rest = [*lines, rest], ""
        for line in lines:  # one that ends in \r waits: \n may follow
            yield Decoded(line, damaged and "\ufffd" in line)
        damaged = damaged and "\ufffd" in rest
    if rest:
        yield from (Decoded(line, damaged and "\ufffd" in line) for line in io.StringIO(rest, newline=""))


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
            yield number, Decoded(line.removesuffix("\r"), whole.damaged and "\ufffd" in line)
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

"""Bytes of a file to text.

The rule: UTF-8, with or without a byte order mark (the mark is dropped). A file that begins with a UTF-16
mark, as Windows tools write, is decoded as UTF-16; UTF-32 is refused with advice. Nothing is guessed beyond
the mark. Line ends are left as they are: a CRLF in the file is a CRLF in the text.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal, TypeAlias

from subgpt.errors import ConfigError, DataError

Errors: TypeAlias = Literal["replace", "strict"]

UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text, and whether bytes that are no text had to be replaced by U+FFFD in it."""

    text: str
    damaged: bool = False


def check_errors(errors: str) -> None:
    """Refuse any policy but the two there are.

    >>> check_errors("ignore")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: errors must be 'replace' or 'strict', not 'ignore'
    """
    if errors not in ("replace", "strict"):
        raise ConfigError(f"errors must be 'replace' or 'strict', not {errors!r}")


def decode(
    data: bytes, where: str, errors: Errors = "replace", *, base: int = 0, encoding: str | None = None
) -> Decoded:
    r"""Decode ``data`` by the rule above.

    Args:
        data: The bytes, from the beginning of the file or of one of its lines.
        where: File, or file and line, for the message.
        errors: ``"replace"`` puts U+FFFD for what is not text, ``"strict"`` refuses it.
        base: Offset of ``data`` in the file in bytes, for the message.
        encoding: What `detect` told of the beginning of the file, where ``data`` comes from within it.

    Raises:
        DataError: Invalid bytes under ``"strict"``, with their offset; UTF-32.

    >>> decode(b"\xef\xbb\xbfhi", "a.txt").text
    'hi'
    >>> decode(b"\xff\xfeh\x00i\x00", "a.txt").text
    'hi'
    >>> decode(b"ab\xffc", "a.txt", "strict")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    subgpt.errors.DataError: a.txt: not UTF-8: byte 0xff at offset 2 (invalid start byte); save it as ...

    """
    skip = 0
    if encoding is None:
        encoding, skip = detect(data, where) if base == 0 else ("utf-8", 0)
    body = data[skip:] if skip else data
    try:
        return Decoded(body.decode(encoding))
    except UnicodeDecodeError as error:
        if errors == "replace":
            return Decoded(body.decode(encoding, "replace"), damaged=True)
        at = error.start
        raise DataError(
            f"{where}: not {encoding.upper()}: byte 0x{body[at]:02x} at offset {base + skip + at} "
            f'({error.reason}); save it as UTF-8, or pass errors="replace" (--errors replace)'
        ) from error


def clean(text: str, where: str, errors: Errors = "replace") -> Decoded:
    r"""Pass a Python string on, dealing with lone surrogates, which no encoding of Unicode can hold.

    Raises:
        DataError: A lone surrogate under ``"strict"``.

    >>> clean("a\ud800b", "item 1")
    Decoded(text='a�b', damaged=True)

    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise DataError(
                f"{where}: lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, half a "
                'character; repair the text, or pass errors="replace" (--errors replace)'
            ) from error
        # UTF-16 with surrogatepass joins a high and a low half that follow each other, as the writer surely
        # meant.
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return Decoded(whole, damaged=True)
    return Decoded(text)


def detect(data: bytes, where: str) -> tuple[str, int]:
    r"""Tell the encoding that the byte order mark tells, and the length of the mark.

    Raises:
        DataError: UTF-32.

    >>> detect(b"\xff\xfeh\x00", "a.txt"), detect(b"plain", "a.txt")
    (('utf-16-le', 2), ('utf-8', 0))

    """
    if data.startswith(_UTF32_BOMS):
        raise DataError(f"{where}: UTF-32 text is not supported; save it as UTF-8 (iconv -f UTF-32 -t UTF-8)")
    if data.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le", 2
    if data.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be", 2
    return "utf-8", 3 if data.startswith(codecs.BOM_UTF8) else 0

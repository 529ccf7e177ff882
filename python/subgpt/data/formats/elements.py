"""The elements of a JSON array of any size, one after the other, with the errors of a parser that sees all of it.

The text comes in pieces. An element is parsed when it is there as a whole: an error near the end of what was read may
be no more than its being cut there, so more is read, twice as much each time, and it is tried again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any, NamedTuple

from subgpt.data.decoding import Decoded
from subgpt.data.jsonl import JSON_FAULTS, json_fault, unique_keys
from subgpt.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*")
_CUT = 16
"""An error that a cut makes lies no further before it than this, but for a text that does not end: `-Infinity` and
`\\uD83D` are the longest that mean something else, or nothing, without their last character."""
_NO_END = "Unterminated string"
_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


class Element(NamedTuple):
    """An element, and whether bytes that are no text were replaced in it."""

    value: Any
    damaged: bool


class NoArrayError(Exception):
    """The text is something else than an array, or nothing."""


def read_elements(pieces: Iterator[Decoded], where: str, remedy: str) -> Iterator[Element]:
    """Yield the elements of an array. Memory: a piece, and twice the longest element.

    Args:
        pieces: The text.
        where: The file, for messages.
        remedy: What a correct text would be, for messages.

    Raises:
        NoArrayError: It does not begin as one.
        DataError: As for `parse_json`, with the same line and column, after the elements before.

    """
    window = _Window(pieces, where, remedy)
    if window.peek() != "[":
        raise NoArrayError
    window.take()
    if window.peek() == "]":
        window.take()
    else:
        yield window.element()
        while window.delimiter() == ",":
            yield window.element()
    if window.peek():
        raise window.fault("Extra data")


class _Window:
    """A stretch of the text, and the place in it up to which it was read."""

    def __init__(self, pieces: Iterator[Decoded], where: str, remedy: str) -> None:
        self._pieces = pieces
        self._where, self._remedy = where, remedy
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = (
            1,
            0,
        )  # of the beginning: its line, and how many characters of that are before it
        self._damaged = False

    def peek(self) -> str:
        """Pass over white space and give the next character; "" at the end."""
        while True:
            self._at = _end_of_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def take(self) -> None:
        """Pass over a character."""
        self._at += 1

    def element(self) -> Element:
        """Parse the element that begins here."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._fault(error) from error
            except JSON_FAULTS as error:
                raise self._fault(error) from None
            else:
                # A number may go on where the text was cut.
                if self._ended or isinstance(value, dict | list | str) or end < len(self._text) - _CUT:
                    damaged = self._damaged and "\ufffd" in self._text[self._at : end]
                    self._at = end
                    return Element(value, damaged)
            self._more()

    def delimiter(self) -> str:
        """Pass over what stands behind an element, which is a comma or the end of the array, and give it."""
        found = self.peek()
        if found not in (",", "]"):
            raise self.fault("Expecting ',' delimiter")
        comma = self._at
        self.take()
        if found == "," and self.peek() == "]":
            said = _trailing_comma()
            self._at = comma if said.pos == len("[0") else self._at
            raise self.fault(said.msg)
        return found

    def fault(self, message: str) -> DataError:
        """Make the error of a text that is wrong here."""
        return self._fault(JSONDecodeError(message, self._text, self._at))

    def _fault(self, error: Exception) -> DataError:
        place = None
        if isinstance(error, JSONDecodeError):
            column = error.colno + (self._column if error.lineno == 1 else 0)
            place = self._line + error.lineno - 1, column
        return json_fault(error, self._where, self._remedy, place)

    def _may_be_cut(self, error: JSONDecodeError) -> bool:
        return error.pos >= len(self._text) - _CUT or error.msg.startswith(_NO_END)

    def _more(self) -> None:
        """Read as much again as is not done yet, at least a piece, or the end of the text."""
        self._forget()
        pieces, wanted = [self._text], max(1, len(self._text))
        while wanted > 0 and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece.text)
            wanted -= len(piece.text)
            self._damaged = self._damaged or piece.damaged
        self._ended = wanted > 0
        self._text = "".join(pieces)

    def _forget(self) -> None:
        """Drop what was read, but for where it ended."""
        lines = self._text.count("\n", 0, self._at)
        newline = self._text.rfind("\n", 0, self._at)
        self._column = self._at - newline - 1 if lines else self._column + self._at
        self._line += lines
        self._text, self._at = self._text[self._at :], 0
        self._damaged = self._damaged and "\ufffd" in self._text


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _trailing_comma() -> JSONDecodeError:
    """Ask the parser what it says of a comma before the end of an array, which depends on its version."""
    try:
        json.loads("[0,]")
    except JSONDecodeError as error:
        return error
    raise AssertionError("no JSON has a comma there")

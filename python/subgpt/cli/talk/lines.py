"""Where the lines of a talk come from: an editor in a terminal, else standard input line by line."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from subgpt.errors import DataError

PROMPT = "> "


def somebody_types() -> bool:
    """Tell whether a terminal is both where lines come from and where answers go."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def line_reader() -> Callable[[], str]:
    """Give a function that reads a line without its end; EOFError behind the last.

    In a terminal lines can be edited and taken up again: with prompt_toolkit (the extra `chat`), or as far as Python's
    own readline goes.
    """
    if not somebody_types():
        return _read_utf8
    editor = _module("prompt_toolkit")
    if editor is not None:
        session = editor.PromptSession()
        return lambda: str(session.prompt(PROMPT))
    _module("readline")  # which `input` uses once it is imported
    return lambda: input(PROMPT)


def _read_utf8() -> str:
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: byte {error.start} of the line is not UTF-8; convert the text first, for example with "
            "iconv"
        ) from None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None

"""What the terminal gets: consoles that know NO_COLOR and pipes, one line of complaint, JSON for scripts.

Standard output has results alone, standard error everything else: `note` is a remark, `detail` one for those who ask
for more (-v), `warn` and `complain` are said with -q as well.
"""

import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from subgpt.cli.streams import give_up
from subgpt.cli.volume import is_quiet, is_verbose
from subgpt.units import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


@functools.cache
def _console(stream: str) -> "Console":
    from rich.console import Console

    class Patient(Console):
        """Lets nobody who stops looking end the work; results that nobody takes do end it."""

        def on_broken_pipe(self) -> None:
            if not self.stderr:
                raise BrokenPipeError
            give_up("stderr")

    plain = bool(os.environ.get("NO_COLOR"))  # rich itself would leave bold and dim
    return Patient(
        stderr=stream == "stderr",
        markup=False,  # a path may be called t[b], or :cat:
        emoji=False,
        highlight=False,
        soft_wrap=True,
        color_system=None if plain else "auto",
    )


def out() -> "Console":
    """Give the console for results: coloured in a terminal, plain in a pipe or with NO_COLOR."""
    return _console("stdout")


def err() -> "Console":
    """Give the console for progress and complaints, so that standard output stays clean."""
    return _console("stderr")


def in_terminal() -> bool:
    """Whether results are looked at, and not taken by a pipe or file; FORCE_COLOR makes no terminal of these."""
    return sys.stdout.isatty()


def is_watched() -> bool:
    """Whether a bar that moves can be shown; else progress is now and then a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def complain(line: str) -> None:
    """Print `subgpt: error: …` on standard error."""
    from rich.text import Text

    err().print(Text.assemble("subgpt: ", ("error: ", "bold red"), harmless(line)))


def warn(line: str) -> None:
    """Print `subgpt: warning: …` on standard error."""
    from rich.text import Text

    err().print(Text(f"subgpt: warning: {harmless(line)}", style="yellow"))


def print_json(value: Any) -> None:
    """Print `value` as JSON on one line of standard output; a number that is none, or has no end, is null."""
    from subgpt.finite import finite

    is_unicode = str(getattr(sys.stdout, "encoding", "")).lower().replace("-", "") == "utf8"
    print(json.dumps(finite(value), ensure_ascii=not is_unicode, allow_nan=False))


def harmless(text: str) -> str:
    r"""Show control characters instead of obeying them: a model's text must not steer the terminal.

    >>> harmless("a\x1b[31mb\n")
    'a\\x1b[31mb\n'
    """
    return text.translate(_CONTROL)


def can_show(text: str) -> bool:
    """Whether standard output has all of `text` in its encoding."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_argument(value: str) -> str:
    """Give an argument's text; `-` stands for standard input, which must be UTF-8."""
    if value != "-":
        return value
    from subgpt.errors import DataError

    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: byte {error.start} is not UTF-8; convert the text first, for example with iconv"
        ) from None


def write_stream(prompt: str, pieces: "Iterable[str]") -> None:
    """Print the pieces as they come, after the prompt; in a terminal the prompt is dim and nothing steers it.

    A pipe gets the text exactly as it is, with one line end after it in a terminal only.
    """
    if not in_terminal():
        sys.stdout.write(prompt)
        write_pieces(pieces)
        return
    from rich.text import Text

    out().print(Text(harmless(prompt), style="dim"), end="")
    write_pieces(pieces)
    out().print()


def write_pieces(pieces: "Iterable[str]") -> None:
    """Print the pieces as they come, to a pipe exactly as they are."""
    from rich.text import Text

    shown = in_terminal()
    for piece in pieces:
        if shown:
            out().print(Text(harmless(piece)), end="")
        else:
            sys.stdout.write(piece)
            sys.stdout.flush()


def copied(pieces: "Iterable[str]", written: list[str]) -> "Iterator[str]":
    """Pass the pieces on, and keep each in `written`."""
    for piece in pieces:
        written.append(piece)
        yield piece


def speed(tokens: int, seconds: float) -> str:
    """Say how fast a text was written."""
    return f"{tokens:,} tokens in {duration(seconds)}, {tokens / max(seconds, 1e-9):,.0f} tokens/s"


def note(line: str, style: str = "dim") -> None:
    """Print a remark on standard error, so that standard output has the results alone; nothing with -q."""
    from rich.text import Text

    remark(Text(harmless(line), style=style))


def detail(line: str) -> None:
    """Print a remark that only -v asks for."""
    if is_verbose():
        note(line)


def remark(what: "RenderableType") -> None:
    """Print a table or a text as a remark."""
    if not is_quiet():
        err().print(what)

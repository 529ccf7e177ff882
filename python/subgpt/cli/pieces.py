"""The pieces that a tokenizer cuts a text into, coloured for the terminal, with their ids beneath."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from subgpt.report.page import visible

if TYPE_CHECKING:
    from rich.text import Text

    from subgpt.tokenizer import Tokenizer

# Black on a light ground reads alike in dark and light terminals; the cube colours need no theme.
_GROUNDS = ("color(153)", "color(158)", "color(223)", "color(219)", "color(189)")


def spell(tokenizer: "Tokenizer", token: int) -> str:
    r"""Write a token so that everything in it is visible: spaces as ·, line ends as ⏎, lone bytes as \xe2."""
    raw: bytes = tokenizer.decode_bytes([token])
    return show_bytes(raw)


def show_bytes(raw: bytes) -> str:
    r"""Write bytes so that everything in them is visible.

    >>> show_bytes(b" a\n"), show_bytes(b"\xe2\x82"), show_bytes(b"\x1b[")
    ('·a⏎', '\\xe2\\x82', '\\x1b[')
    """
    return show_text(raw.decode("utf-8", errors="backslashreplace"))


def show_text(text: str) -> str:
    """Write text on one line so that everything in it is visible."""
    return "".join(_sign(character) for character in text)


def _sign(character: str) -> str:
    sign = visible(character)
    if sign.isprintable():
        return sign
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def coloured_rows(pieces: Sequence[str], ids: Sequence[int], width: int) -> "Iterable[Text]":
    """Lay the pieces out in rows of at most `width` cells: a coloured row, the ids beneath, an empty line."""
    from rich.cells import cell_len
    from rich.text import Text

    top, bottom, used = Text(), Text(), 0
    for i, (piece, token) in enumerate(zip(pieces, ids, strict=True)):
        cell = max(cell_len(piece), len(str(token))) + 1
        if used and used + cell > width:
            yield from (top, bottom, Text())
            top, bottom, used = Text(), Text(), 0
        top.append(piece, style=f"black on {_GROUNDS[i % len(_GROUNDS)]}")
        top.append(" " * (cell - cell_len(piece)))
        bottom.append(str(token).ljust(cell), style="dim")
        used += cell
    if used:
        yield from (top, bottom, Text())


def count_line(tokens: int, text: str) -> str:
    """Sum the cut up: tokens, bytes, bytes per token.

    >>> count_line(2, "four é")
    '2 tokens, 7 bytes, 3.50 bytes per token'
    """
    size = len(text.encode("utf-8", errors="surrogatepass"))
    rate = f", {size / tokens:.2f} bytes per token" if tokens else ""
    return f"{tokens} tokens, {size} bytes{rate}"

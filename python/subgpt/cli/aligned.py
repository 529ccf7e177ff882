"""Columns of text, one line a row: what stays readable in a pipe, where no table is fitted to a width."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2


def aligned(rows: "Iterable[Sequence[Text]]", sides: str) -> "Iterator[Text]":
    """Pad the cells of each column to its widest, two blanks apart; `sides` has "l" or "r" for each column."""
    from rich.cells import cell_len
    from rich.text import Text

    rows = list(rows)
    widths = [max(cell_len(row[i].plain) for row in rows) for i in range(len(sides))]
    for row in rows:
        line = Text()
        for cell, side, width in zip(row, sides, widths, strict=True):
            room = " " * (width - cell_len(cell.plain))
            line.append_text(Text(room) + cell if side == "r" else cell + Text(room)).append(" " * GAP)
        line.rstrip()
        yield line

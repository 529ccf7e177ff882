"""The pieces that a tokenizer cuts a text into, coloured for the terminal, with their ids beneath."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.visible import show_text

if TYPE_CHECKING:
    from rich.text import Text

    from subgpt.tokenizer.segments import Segment

# Black on a light ground reads alike in dark and light terminals; the cube colours need no theme.
_GROUNDS = ("color(153)", "color(158)", "color(223)", "color(219)", "color(189)")
_KINDS = {"special": "bold reverse", "unknown": "bold black on color(210)"}


@dataclass(frozen=True)
class Cell:
    """One coloured chunk: what stands in it, the notes beneath it, and whether a new row begins after it.

    style: in place of the colour that its turn gives it.
    """

    text: str
    notes: tuple[str, ...]
    ends_row: bool = False
    style: str = ""


def cells_of(segments: "Iterable[Segment]", *, with_bytes: bool = False) -> list[Cell]:
    """Make a cell of each segment; the ids of tokens that share a character stand beneath it, joined by +."""
    cells = []
    for segment in segments:
        ids = "+".join(str(token.id) for token in segment.tokens)
        raw = "+".join(token.bytes.hex() for token in segment.tokens)
        name = show_text(segment.text)
        style = _KINDS.get(segment.tokens[0].kind, "")
        cells.append(Cell(name, (ids, raw) if with_bytes else (ids,), segment.text.endswith("\n"), style))
    return cells


def coloured_rows(cells: Sequence[Cell], width: int) -> "Iterable[Text]":
    """Lay the cells out in rows of at most `width`: a coloured row, the rows of notes, an empty line."""
    from rich.cells import cell_len

    row: list[tuple[int, Cell]] = []
    used = 0
    for i, cell in enumerate(cells):
        wide = max(map(cell_len, (cell.text, *cell.notes))) + 1
        if row and used + wide > width:
            yield from _lines(row)
            row, used = [], 0
        row.append((i, cell))
        used += wide
        if cell.ends_row:
            yield from _lines(row)
            row, used = [], 0
    yield from _lines(row)


def _lines(row: Sequence[tuple[int, Cell]]) -> "Iterable[Text]":
    """Write one row: chunks and notes at the same places, each at least a blank apart."""
    from rich.cells import cell_len
    from rich.text import Text

    if not row:
        return
    lines = [Text(), *(Text() for _ in row[0][1].notes)]
    for i, cell in row:
        wide = max(map(cell_len, (cell.text, *cell.notes))) + 1
        lines[0].append(cell.text, style=cell.style or f"black on {_GROUNDS[i % len(_GROUNDS)]}")
        lines[0].append(" " * (wide - cell_len(cell.text)))
        for line, note in zip(lines[1:], cell.notes, strict=True):
            line.append(note.ljust(wide), style="dim")
    yield from lines
    yield Text()

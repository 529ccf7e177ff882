"""Tables for the terminal: facts in two columns, losses before and after; and bars."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from subgpt.cli.terminal import can_show, harmless

if TYPE_CHECKING:
    from rich.table import Table

    from subgpt.training.run import Run

_BAR_CELLS = 32
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Draw a bar of `share` of the width, exact to an eighth of a cell; of # where the terminal has no blocks.

    >>> bar(0.5, 4), bar(0.28125, 4)
    ('██', '█▏')
    """
    if not can_show(_EIGHTHS):
        return "#" * round(max(0.0, min(1.0, share)) * cells)
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def facts_table(facts: Iterable[tuple[str, object]]) -> "Table":
    """Lay out names and values in two columns; control characters in them are shown and not obeyed."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(harmless(name), Text(harmless(str(value))))
    return table


def print_changes(run: "Run") -> None:
    """Print the held-out losses before and after fine-tuning, if both were measured."""
    from subgpt.cli.terminal import out
    from subgpt.training.plot import nats_per

    rows = [(name, run.before[name].loss, run.after[name].loss) for name in run.after if name in run.before]
    if rows:
        out().print(changes_table(rows, nats_per(run.unit)))


def changes_table(rows: "Iterable[tuple[str, float, float]]", scale: str = "nats per token") -> "Table":
    """Lay out losses before and after, and the change: green where it fell, red where it rose."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(f"held-out loss ({scale})")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for name, before, after in rows:
        change = Text(f"{after - before:+.3f}", style="green" if after < before else "red")
        table.add_row(name, f"{before:.3f}", f"{after:.3f}", change)
    return table

"""Tables for the terminal: next-token probabilities with bars, facts in two columns."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from subgpt.evaluation.probes import NextToken
    from subgpt.tokenizer import Tokenizer

_BAR_CELLS = 32
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def probability_table(tokenizer: "Tokenizer", tokens: "Sequence[NextToken]") -> "Table":
    """Lay out the candidates: the token, its id, a bar, its probability."""
    from rich.table import Table
    from rich.text import Text

    from subgpt.cli.pieces import spell

    table = Table(box=None, header_style="dim", pad_edge=False)
    for name, side in (("token", "left"), ("id", "right"), ("", "left"), ("probability", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    top = max((token.probability for token in tokens), default=1.0) or 1.0
    for token in tokens:
        table.add_row(
            Text(spell(tokenizer, token.id) if token.id < tokenizer.vocab_size else "(none)"),
            Text(str(token.id), style="dim"),
            Text(bar(token.probability / top), style="blue"),
            f"{100 * token.probability:.2f} %",
        )
    return table


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Draw a bar of `share` of the width, exact to an eighth of a cell.

    >>> bar(0.5, 4), bar(0.28125, 4)
    ('██', '█▏')
    """
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def facts_table(facts: Iterable[tuple[str, object]]) -> "Table":
    """Lay out names and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(str(value)))
    return table

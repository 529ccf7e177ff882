"""Distributions over the next token, written for people: with bars, for every position, for every layer."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from subgpt.cli.aligned import GAP, aligned
from subgpt.cli.tables import bar
from subgpt.cli.terminal import can_show
from subgpt.visible import show_text

if TYPE_CHECKING:
    from rich.text import Text

    from subgpt.evaluation.next_tokens import Distribution, NextToken
    from subgpt.evaluation.positions import Position
    from subgpt.evaluation.reshaped import Reshaped
    from subgpt.inside.lens import Lens
    from subgpt.report.facts import Candidate


def shown(text: str) -> str:
    """Write a token so that everything in it is visible; quoted, in ASCII, where the terminal has no more."""
    sign = show_text(text)
    return sign if can_show(f"·{sign}") else ascii(text)


def number(probability: float) -> str:
    """Write a probability with four decimals, or with its power of ten where these would all be 0.

    >>> number(0.25), number(0.00001234), number(0.0)
    ('0.2500', '1.2e-05', '0')
    """
    return (
        "0" if probability == 0 else f"{probability:.4f}" if probability >= 0.0001 else f"{probability:.1e}"
    )


def entropy_line(expected: "Distribution") -> str:
    """Write how sure the model is, and how much of it is on show."""
    tokens = len(expected.tokens)
    return (
        f"entropy {expected.entropy:.3f} nats = {expected.bits:.3f} bits: as unsure as among "
        f"{expected.perplexity:.1f} equally probable tokens (perplexity); "
        f"the {f'{tokens} shown hold' if tokens > 1 else 'one shown holds'} {expected.shown:.4f}"
    )


def candidate_lines(tokens: "Sequence[NextToken | Candidate]") -> "Iterator[Text]":
    """Lay out candidates: the token, its id, its probability with a bar, which is full for the best."""
    top = max(token.probability for token in tokens)
    rows = [_dim("token", "id", "probability", "")]
    rows += [[*_name(token.text, token.id), *_chance(token.probability, top)] for token in tokens]
    return aligned(rows, "lrrl")


def reshaped_lines(reshaped: "Reshaped") -> "Iterator[Text]":
    """Lay out candidates with their probabilities before and after the rules of sampling, on one scale."""
    top = max(max(token.before, token.after) for token in reshaped.tokens)
    rows = [_dim("token", "id", "the model's", "", "drawn from", "")]
    for token in reshaped.tokens:
        chances = [*_chance(token.before, top), *_chance(token.after, top)]
        rows.append([*_name(token.text, token.id), *chances])
    return aligned(rows, "lrrlrl")


def position_lines(positions: "Sequence[Position]") -> "Iterator[Text]":
    """Lay out positions: the token there, the entropy after it, what follows and its place, the candidates."""
    from rich.text import Text

    most = max(len(p.expected.tokens) for p in positions)
    rows = [
        _dim(
            "position",
            "token",
            "entropy",
            "follows",
            "rank",
            "probability",
            "most probable",
            *[""] * (most - 1),
        )
    ]
    for p in positions:
        follows = "" if p.following is None else shown(p.following.text)
        chance = "" if p.following is None else number(p.following.probability)
        best = [_cell(token) for token in p.expected.tokens]
        cells = [
            Text(str(p.position), style="dim"),
            Text(shown(p.text)),
            Text(f"{p.expected.entropy:.3f}"),
            Text(follows),
            Text("" if p.rank is None else str(p.rank)),
            Text(chance),
        ]
        rows.append([*cells, *best, *[Text()] * (most - len(best))])
    return aligned(rows, "rlrlrr" + "l" * most)


def lens_lines(lens: "Lens", width: int) -> "Iterator[Text]":
    """Lay out the best token of each layer (down) at each position (across), as many positions a row as fit.

    Those that are already what the last layer predicts are bold.
    """
    from rich.cells import cell_len
    from rich.text import Text

    count = len(lens.layers)
    names = ["position", "token", "embeddings", *(f"block {i}" for i in range(count - 1)), "follows"]
    columns = []
    for i, text in enumerate(lens.texts):
        last = lens.layers[-1][i][0].id
        cells = [_cell(at[i][0], "bold" if at[i][0].id == last else "") for at in lens.layers]
        follows = shown(lens.texts[i + 1]) if i + 1 < len(lens.texts) else ""
        columns.append([Text(str(lens.first + i), style="dim"), Text(shown(text)), *cells, Text(follows)])
    left = [Text(name, style="dim") for name in names]
    widths = [max(cell_len(cell.plain) for cell in column) + GAP for column in columns]
    start = 0
    while start < len(columns):
        stop, used = start + 1, max(map(len, names)) + GAP + widths[start]
        while stop < len(columns) and used + widths[stop] <= width:
            used += widths[stop]
            stop += 1
        if start:
            yield Text()
        rows = zip(left, *columns[start:stop], strict=True)
        yield from aligned(rows, "l" * (1 + stop - start))
        start = stop


def _dim(*names: str) -> "list[Text]":
    from rich.text import Text

    return [Text(name, style="dim") for name in names]


def _name(text: str, token: int) -> "list[Text]":
    from rich.text import Text

    return [Text(shown(text)), Text(str(token), style="dim")]


def _chance(probability: float, top: float) -> "list[Text]":
    """Write a probability, with a bar that is full at `top`."""
    from rich.text import Text

    return [Text(number(probability)), Text(bar(probability / top), style="blue")]


def _cell(token: "NextToken", style: str = "") -> "Text":
    from rich.text import Text

    return Text.assemble((shown(token.text), style), " ", (number(token.probability), "dim"))


def print_lines(lines: "Iterable[Text]") -> None:
    """Print lines as they are, however wide."""
    from subgpt.cli.terminal import out

    for line in lines:
        out().print(line)

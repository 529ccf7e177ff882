"""A plot of how far tokenizers compress a text, against the size of their vocabularies (extra `plot`)."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from subgpt.training.plot import COLORS, check_picture, dress, new_figure, save_figure

WHAT = "the plot of compression"
_LINES = tuple(COLORS.values())


class Compression(NamedTuple):
    """One tokenizer in the plot: its name, its level, the size of its vocabulary, and what it achieves."""

    name: str
    level: str
    vocab_size: int
    bytes_per_token: float


def save_compression_plot(points: Sequence[Compression], path: str | Path) -> Path:
    """Draw bytes per token against vocabulary size, one line for each level, into `path`.

    Args:
        points: The tokenizers, in any order.
        path: A PNG, SVG or PDF by its ending; written whole or not at all.

    Raises:
        MissingExtraError: matplotlib is not installed; the message has the line to type.
        InvalidValueError: Another ending.

    """
    target = check_picture(path, WHAT)
    lines: dict[str, list[Compression]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.vocab_size):
        lines[point.level].append(point)
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    dress(axes, "Compression", "entries in the vocabulary", "bytes per token")
    axes.set_xscale("log", base=2)
    axes.margins(x=0.16, y=0.14)
    for (level, line), color in zip(lines.items(), _LINES, strict=False):
        across = [point.vocab_size for point in line]
        up = [point.bytes_per_token for point in line]
        axes.plot(across, up, color=color, linewidth=1.6, marker="o", markersize=5, label=level)
        for point in line:
            axes.annotate(
                f"{point.name} {point.bytes_per_token:.2f}",
                xy=(point.vocab_size, point.bytes_per_token),
                xytext=(5, -12),  # lines rise, so there is room below them
                textcoords="offset points",
                color=color,
                fontsize=9.5,
            )
    sizes = sorted({point.vocab_size for point in points})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    if len(lines) > 1:
        axes.legend(frameon=False, loc="upper left")
    return save_figure(figure, target)

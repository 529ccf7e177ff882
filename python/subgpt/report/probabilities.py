"""A plot of what may come next: the most probable tokens as bars, one distribution beside another (extra `plot`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.errors import InvalidValueError
from subgpt.training.plot import COLORS, check_picture, dress, new_figure, save_figure
from subgpt.visible import show_text

if TYPE_CHECKING:
    from subgpt.evaluation.next_tokens import Distribution

WHAT = "the plot of probabilities"
_INK = "#1d2330"


def save_probabilities_plot(found: "Mapping[str, Distribution]", path: str | Path) -> Path:
    """Draw distributions over the next token side by side into `path`: PNG, SVG or PDF by its ending.

    Args:
        found: By the titles to write above them: what `subgpt.next_distribution` gave; its tokens are the bars, the
            best at the top. All have the same scale.
        path: The picture; written whole or not at all. It is given back.

    Raises:
        MissingExtraError: matplotlib is not installed; the message has the line to type.
        InvalidValueError: Another ending, or nothing to draw.

    """
    target = check_picture(path, WHAT)
    if not found or not all(one.tokens for one in found.values()):
        raise InvalidValueError(
            "save_probabilities_plot: there are no tokens to draw; give a distribution with some"
        )
    rows = max(len(one.tokens) for one in found.values())
    figure = new_figure(max(4.2, 3.2 * len(found)), 1.1 + 0.27 * rows)
    longest = max(token.probability for one in found.values() for token in one.tokens)
    for i, (title, one) in enumerate(found.items()):
        _bars(figure.add_subplot(1, len(found), i + 1), title, one, rows, longest)
    return save_figure(figure, target)


def _bars(axes: Any, title: str, one: "Distribution", rows: int, longest: float) -> None:
    """Draw the tokens of one distribution, each with its probability at the bar's end."""
    dress(axes, title, "probability", "")
    axes.grid(visible=False)
    places = range(len(one.tokens))
    values = [token.probability for token in one.tokens]
    axes.barh(places, values, height=0.68, color=COLORS["train"])
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.3f}" if value >= 0.001 else f"{value:.1g}",
            xy=(value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=COLORS["other"],
            fontsize=9.5,
        )
    names = [show_text(token.text) for token in one.tokens]
    axes.set_yticks(places, names, family="monospace", fontsize=10, color=_INK)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, 1.28 * longest)
    axes.locator_params(axis="x", nbins=4)

"""The picture of a learning-rate range test: loss against rate, with the rates that are worth knowing."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.training.plot import COLORS, check_picture, dress, new_figure, save_figure

if TYPE_CHECKING:
    from subgpt.search.rates import LrFind

WHAT = "the picture of the learning rates"


def save_lr_plot(found: "LrFind", path: str | Path) -> Path:
    """Draw loss and smoothed loss against the rate into `path`, whole or not at all.

    Raises MissingExtraError where matplotlib is not installed, InvalidValueError for an ending that is no picture's.
    """
    target = check_picture(path, WHAT)
    return save_figure(lr_figure(found), target)


def lr_figure(found: "LrFind") -> Any:
    """Draw loss and smoothed loss against the rate."""
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    dress(axes, "Learning-rate range test", f"learning rate ({found.optimizer})", "loss (nats per token)")
    axes.set_xscale("log")
    color = COLORS["train"]
    axes.plot(found.learning_rates, found.losses, color=color, linewidth=0.7, alpha=0.3)
    axes.plot(found.learning_rates, found.smoothed, color=color, linewidth=1.8)
    _limit(axes, found)
    other = "tenth" if found.recommended == "steepest" else "steepest"
    names = {"tenth": "a tenth of the lowest", "steepest": "steepest"}
    marks = (
        (found.suggestion, "validation", "recommended"),
        (getattr(found, other), "other", names[other]),
        (found.lowest, "other", "lowest"),
    )
    for height, (rate, role, name) in enumerate(marks):
        if rate is not None:
            _mark(axes, rate, COLORS[role], f"{name} {rate:.1e}", 0.97 - 0.06 * height)
    return figure


def _limit(axes: Any, found: "LrFind") -> None:
    """Show the course up to a little above where it began: what breaks at the end would hide the rest."""
    finite = [loss for loss in found.smoothed if math.isfinite(loss)]
    low, high = min(finite), found.smoothed[0]
    air = 0.25 * max(high - low, 0.05)
    axes.set_ylim(low - air, max(high, min(max(finite), high + 2 * air)) + air)


def _mark(axes: Any, rate: float, color: str, text: str, height: float) -> None:
    """Draw a vertical line with its name beside it, at a height of its own."""
    axes.axvline(rate, color=color, linewidth=1.1, linestyle="--")
    axes.annotate(
        text,
        xy=(rate, height),
        xycoords=("data", "axes fraction"),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=color,
        fontsize=10,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )

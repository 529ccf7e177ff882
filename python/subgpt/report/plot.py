"""The loss plot as a picture file, drawn by matplotlib (the `plot` extra)."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subgpt.errors import MissingExtraError
from subgpt.report.facts import Panel, Series
from subgpt.report.scale import running_mean

COLORS = {"train": "#2563c9", "validation": "#c2500a", "other": "#5b6472"}
_INK, _FAINT, _GRID = "#1d2330", "#6a7282", "#e3e6eb"


def has_matplotlib() -> bool:
    """Tell whether the `plot` extra is installed; looks without importing it."""
    return importlib.util.find_spec("matplotlib") is not None


def save_loss_plot(panels: Sequence[Panel], path: str | Path) -> Path:
    """Draw the panels side by side into `path` (PNG, SVG or PDF by its ending) and give the path back.

    Raises MissingExtraError with the line to type where matplotlib is not installed.
    """
    if not has_matplotlib():
        raise MissingExtraError(
            "drawing loss.png needs matplotlib; install it with: pip install 'subgpt[plot]'"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2 * len(panels), 4.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(panels):
        _draw(figure.add_subplot(1, len(panels), i + 1), panel)
    target = Path(path)
    figure.savefig(target)
    return target


def _draw(axes: Any, panel: Panel) -> None:
    """Draw one panel: thin horizontal grid, no box, each line named at its end instead of in a legend."""
    axes.set_title(panel.title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    axes.set_xlabel("step", color=_FAINT, fontsize=10.5, loc="right")
    axes.set_ylabel("loss (nats per token)", color=_FAINT, fontsize=10.5)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    _name_ends(axes, [_line(axes, series) for series in panel.drawable()])


def _line(axes: Any, series: Series) -> tuple[float, float, Series]:
    """Draw one series and give where it ends."""
    color = COLORS[series.role]
    if series.role == "train":
        means = running_mean(series.losses)
        axes.plot(series.steps, series.losses, color=color, linewidth=0.7, alpha=0.28)
        axes.plot(series.steps, means, color=color, linewidth=1.8)
    else:
        means = list(series.losses)
        axes.plot(series.steps, means, color=color, linewidth=1.6, marker="o", markersize=4)
    return float(series.steps[-1]), means[-1], series


def _name_ends(axes: Any, ends: list[tuple[float, float, Series]]) -> None:
    """Write each line's name and last value to the right of its end, at least one text line apart."""
    low, high = axes.get_ylim()
    gap = 0.062 * (high - low)
    lowest = -math.inf
    for step, loss, series in sorted(ends, key=lambda end: end[1]):
        lowest = max(loss, lowest + gap)
        axes.annotate(
            f"{series.label} {loss:.2f}",
            xy=(step, lowest),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=COLORS[series.role],
            fontsize=10.5,
            fontweight="bold",
            annotation_clip=False,
        )

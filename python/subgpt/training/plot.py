"""Loss curves, drawn by matplotlib (extra `plot`): the `loss.png` of a run, and of a quickstart's two runs.

`Panel` and `Series` say what is to be drawn, as plain data; `subgpt.report.svg` draws the same without any library.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subgpt import _core
from subgpt.errors import InvalidValueError, MissingExtraError

if TYPE_CHECKING:
    from subgpt.training.run import Run

Role = Literal["train", "validation", "other"]

COLORS = {"train": "#2563c9", "validation": "#c2500a", "other": "#5b6472"}
_INK, _FAINT, _GRID = "#1d2330", "#6a7282", "#e3e6eb"
_FORMATS = (".png", ".svg", ".pdf")
_NOTEBOOK_DPI = 80  # of a screen; pictures have twice as many, for those that are sharper


@dataclass(frozen=True)
class Series:
    """One line of a loss plot: `losses[i]` in nats was seen at step `steps[i]`."""

    label: str
    steps: Sequence[int]
    losses: Sequence[float]
    role: Role = "train"

    def finite(self) -> "Series":
        """Leave out the steps whose loss is not a finite number."""
        kept = [(s, v) for s, v in zip(self.steps, self.losses, strict=True) if math.isfinite(v)]
        return replace(self, steps=[s for s, _ in kept], losses=[v for _, v in kept])


@dataclass(frozen=True)
class Panel:
    """One loss plot: a title, the lines in it, and what their losses are means over."""

    title: str
    series: Sequence[Series]
    unit: str = "tokens"

    @property
    def scale(self) -> str:
        """What the losses are measured in."""
        return nats_per(self.unit)

    def drawable(self) -> "list[Series]":
        """Give the lines that have something to draw, without the losses that are not finite."""
        return [line for series in self.series if (line := series.finite()).losses]


def panel_of(run: "Run", title: str) -> Panel:
    """Put a run's training and validation losses into one plot."""
    return Panel(
        title,
        [
            Series("training", run.steps, run.losses),
            Series("held-out", run.val_steps, run.val_losses, "validation"),
        ],
        run.unit,
    )


def nats_per(unit: str) -> str:
    """Say what a loss is measured in that is a mean over `unit`, "tokens" or "pairs"."""
    return f"nats per {unit.removesuffix('s')}"


def save_loss_plot(panels: Sequence[Panel], path: str | Path) -> Path:
    """Draw the panels side by side into `path` (PNG, SVG or PDF by its ending), whole or not at all.

    Gives the path back. Raises MissingExtraError with the line to type where matplotlib is not installed,
    InvalidValueError for another ending, OutputError or MissingFileError where it cannot be written.
    """
    target = check_picture(path, "the picture of the losses")
    return save_figure(loss_figure(panels), target)


def loss_figure(panels: Sequence[Panel]) -> Any:
    """Draw the panels side by side."""
    figure = new_figure(7.2 * len(panels), 4.2)
    for i, panel in enumerate(panels):
        _draw(figure.add_subplot(1, len(panels), i + 1), panel)
    return figure


def check_picture(path: str | Path, what: str) -> Path:
    """Refuse a picture that cannot be drawn: its name has another ending, or matplotlib is not there."""
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise InvalidValueError(f"{target}: a plot's name must end in one of {', '.join(_FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError(f'{what} needs matplotlib: pip install "subgpt[plot]"') from None
    return target


def new_figure(width: float, height: float) -> Any:
    """Make a figure of so many inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, target: Path) -> Path:
    """Write a figure in the format of its name, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format=target.suffix[1:].lower())
    _core.write_atomic(str(target), picture.getvalue())
    return target


def shown(text: str, draw: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what a notebook shows of an object (`_repr_mimebundle_`): its text, and a figure if matplotlib is there."""
    bundle: dict[str, Any] = {"text/plain": text}
    try:
        figure = draw()
    except ImportError:
        return bundle, {}
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=2 * _NOTEBOOK_DPI)
    width, height = (round(inches * _NOTEBOOK_DPI) for inches in figure.get_size_inches())
    return bundle | {"image/png": picture.getvalue()}, {"image/png": {"width": width, "height": height}}


def _draw(axes: Any, panel: Panel) -> None:
    """Draw one panel, each line named at its end instead of in a legend."""
    dress(axes, panel.title, "step", f"loss ({panel.scale})")
    _name_ends(axes, [_line(axes, series) for series in panel.drawable()])


def dress(axes: Any, title: str, across: str, up: str) -> None:
    """Give axes the looks that all plots have: title and names, a thin horizontal grid, no box."""
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    axes.set_xlabel(across, color=_FAINT, fontsize=10.5, loc="right")
    axes.set_ylabel(up, color=_FAINT, fontsize=10.5)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


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


def running_mean(values: Sequence[float], window: int | None = None) -> list[float]:
    """Smooth: the mean of the `window` values around each position (by default a 25th of the length).

    The window is centred, so that the mean does not lag behind a steep start; at both ends it is cut short.

    >>> running_mean([1.0, 3.0, 5.0, 7.0], window=3)
    [2.0, 3.0, 5.0, 6.0]
    """
    half = (window or len(values) // 25) // 2
    sums = [0.0, *accumulate(values)]
    means = []
    for i in range(len(values)):
        start, stop = max(0, i - half), min(len(values), i + half + 1)
        means.append((sums[stop] - sums[start]) / (stop - start))
    return means

"""A plot of curves that share their axes, each named at its end (extra `plot`): losses of several runs, say."""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from subgpt.errors import InvalidValueError
from subgpt.training.plot import COLORS, check_picture, dress, new_figure, running_mean, save_figure

WHAT = "the plot of curves"
_LINES = (COLORS["train"], COLORS["validation"], COLORS["other"], "#7a3fb0", "#1b7f4d")


class Curve(NamedTuple):
    """Points of a curve: where they lie along the axis, and how high."""

    across: Sequence[float]
    up: Sequence[float]


Curves: TypeAlias = Mapping[str, Curve | tuple[Sequence[float], Sequence[float]] | Sequence[float]]


def save_curves_plot(
    curves: Curves,
    path: str | Path,
    *,
    title: str = "Loss",
    across: str = "step",
    up: str = "loss (nats per token)",
    smooth: bool = False,
) -> Path:
    """Draw `curves` on one pair of axes into `path`: PNG, SVG or PDF by its ending; gives the path back.

    Args:
        curves: By the names to write at their ends: heights, which begin at 1 along the axis, or a pair of places
            along the axis and heights.
        path: The picture; written whole or not at all.
        title: Stands above the plot.
        across: What lies along the axis, with its unit.
        up: What the heights are, with their unit.
        smooth: Draw the mean of some neighbours over the heights, which become faint.

    A curve ends before its first height that is no finite number, and its name says so. What rises far above where
    the curves begin is cut off, so that one that explodes does not hide the others; it is named where it leaves.

    Raises:
        MissingExtraError: matplotlib is not installed; the message has the line to type.
        InvalidValueError: Another ending, no curve, one without a finite height, or places and heights of another
            number.

    """
    target = check_picture(path, WHAT)
    drawn = dict(_points(name, curve, across) for name, curve in curves.items())
    if not drawn:
        raise InvalidValueError("save_curves_plot: there are no curves; give one at least")
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    dress(axes, title, across, up)
    axes.set_ylim(*_range(list(drawn.values())))
    ends = []
    for i, (name, curve) in enumerate(drawn.items()):
        color = _LINES[i % len(_LINES)]
        heights = running_mean(curve.up, max(1, len(curve.up) // 25)) if smooth else list(curve.up)
        if smooth:
            axes.plot(curve.across, curve.up, color=color, linewidth=0.7, alpha=0.28)
        axes.plot(curve.across, heights, color=color, linewidth=1.8)
        ends.append((curve.across, heights, name, color))
    first = min(curve.across[0] for curve in drawn.values())
    last = max(curve.across[-1] for curve in drawn.values())
    axes.set_xlim(first, last if last > first else first + 1)
    _name(axes, ends)
    return save_figure(figure, target)


def _points(name: str, given: Any, along: str) -> tuple[str, Curve]:
    """Take the finite beginning of what was given as a curve, and give what to call it."""
    pair = len(given) == 2 and not isinstance(given[0], Real)
    across, up = given if pair else (range(1, len(given) + 1), given)
    if len(across) != len(up):
        raise InvalidValueError(
            f"save_curves_plot: {name!r} has {len(across)} places and {len(up)} heights; give as many of each"
        )
    heights = [float(height) for height in takewhile(math.isfinite, up)]
    if not heights:
        raise InvalidValueError(f"save_curves_plot: {name!r} begins with no finite number; leave it out")
    curve = Curve([float(place) for place in across[: len(heights)]], heights)
    ended = "" if len(heights) == len(up) else f", no number any more after {along} {curve.across[-1]:g}"
    return name + ended, curve


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Give the lowest and highest height to show: half as much above the beginnings as lies below them."""
    low = min(min(curve.up) for curve in curves)
    begin = max(curve.up[0] for curve in curves)
    high = min(max(max(curve.up) for curve in curves), begin + 0.5 * max(begin - low, 0.05))
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def _name(axes: Any, ends: Sequence[tuple[Sequence[float], Sequence[float], str, str]]) -> None:
    """Write each name beside the end of its curve, or below the top where it leaves the plot there."""
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    gap, lowest, top = 0.062 * (high - low), -math.inf, high
    for across, heights, name, color in sorted(ends, key=lambda end: end[1][-1]):
        out = next((place for place, height in zip(across, heights, strict=True) if height > high), None)
        if out is not None:
            top -= gap
            _write(axes, name, color, (out, top))
        elif across[-1] < right:
            _write(axes, name, color, (across[-1], heights[-1]))
        else:  # these stand below each other
            lowest = max(heights[-1], lowest + gap)
            _write(axes, name, color, (across[-1], lowest))


def _write(axes: Any, text: str, color: str, at: tuple[float, float]) -> None:
    axes.annotate(
        text,
        xy=at,
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=10.5,
        fontweight="bold",
        annotation_clip=False,
    )

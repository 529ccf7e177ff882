"""Curves and maps as options of ECharts, in the page's colours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.playground.limits import MAX_POINTS
from subgpt.report.scale import thin
from subgpt.training.plot import panel_of, running_mean
from subgpt.training.run import Run
from subgpt.visible import show_text


class Colours(NamedTuple):
    """What a drawing needs of the page's colours."""

    ink: str
    faint: str
    line: str
    card: str
    train: str
    held_out: str
    low: str
    high: str


LIGHT = Colours("#1d2330", "#5b6472", "#e1e4ea", "#ffffff", "#2563c9", "#c2500a", "#f3f6fc", "#123f8f")
DARK = Colours("#e7eaf0", "#9aa3b2", "#2e3440", "#1c2028", "#7fb0ff", "#ffad66", "#1d2530", "#9cc2ff")


def colours(dark: bool) -> Colours:
    """Give the colours of the dark page or the light one."""
    return DARK if dark else LIGHT


def loss_options(run: Run, look: Colours) -> dict[str, Any]:
    """Draw training losses, faint as they are and their running mean, and held-out losses against the step."""
    panel = panel_of(run, "Loss")
    train, held_out = panel.series
    train, held_out = train.finite(), held_out.finite()
    mean = running_mean(train.losses)
    kept = thin(train.losses, MAX_POINTS)
    series = [
        _line(
            "training", [(train.steps[i], train.losses[i]) for i in kept], look.train, width=1, opacity=0.3
        ),
        _line("training, mean", [(train.steps[i], mean[i]) for i in kept], look.train),
        _line(
            "held-out",
            list(zip(held_out.steps, held_out.losses, strict=True)),
            look.held_out,
            dots=len(held_out.steps) <= 30,
        ),
    ]
    legend = {"data": ["training, mean", "held-out"]}
    return _frame(series, look, panel.scale) | {"legend": legend | _legend(look)}


def rate_options(run: Run, look: Colours) -> dict[str, Any]:
    """Draw the learning rate against the step."""
    kept = thin(run.learning_rates, MAX_POINTS)
    points = [(run.steps[i], run.learning_rates[i]) for i in kept]
    return _frame([_line("learning rate", points, look.train)], look, "learning rate", from_zero=True)


def map_options(
    weights: npt.NDArray[np.float32], names: Sequence[str], look: Colours, first: int = 0
) -> dict[str, Any]:
    """Draw where each position looks: weights (T, T), whose rows look at columns; nobody looks ahead.

    first: the number of the first position. The scale stands in the corner where nobody looks.
    """
    shown = [show_text(name) for name in names]
    cells = [[j, i, round(float(weights[i, j]), 4)] for i in range(len(shown)) for j in range(i + 1)]
    axis = {
        "type": "category",
        "data": [f"{i} {name}" for i, name in enumerate(shown, first)],
        "splitArea": {"show": False},
        "axisTick": {"show": False},
        "axisLine": {"show": False},
    }
    label = {"color": look.ink, "interval": 0, "fontSize": 11, "width": 82, "overflow": "truncate"}
    label["fontFamily"] = "ui-monospace, monospace"
    return {
        "animation": False,
        "aria": {"enabled": True},
        "tooltip": _tooltip(look),
        "grid": {"left": 92, "right": 12, "top": 8, "bottom": 100},
        "xAxis": axis | {"axisLabel": label | {"rotate": 90}},
        "yAxis": axis | {"inverse": True, "axisLabel": label},
        "visualMap": {
            "min": 0,
            "max": 1,
            "precision": 2,
            "calculable": True,
            "orient": "vertical",
            "right": 12,
            "top": 12,
            "itemHeight": 120,
            "itemWidth": 12,
            "textStyle": {"color": look.faint},
            "inRange": {"color": [look.low, look.high]},
        },
        "series": [
            {
                "type": "heatmap",
                "name": "attention",
                "data": cells,
                "itemStyle": {"borderColor": look.card, "borderWidth": 1},
                "emphasis": {"itemStyle": {"borderColor": look.ink}},
            }
        ],
    }


def _line(
    name: str,
    points: Sequence[tuple[float, float]],
    color: str,
    *,
    width: float = 2,
    opacity: float = 1.0,
    dots: bool = False,
) -> dict[str, Any]:
    return {
        "type": "line",
        "name": name,
        "data": [list(point) for point in points],
        "showSymbol": dots,
        "symbolSize": 6,
        "itemStyle": {"color": color},
        "lineStyle": {"color": color, "width": width, "opacity": opacity},
        "emphasis": {"disabled": True},
    }


def _frame(
    series: list[dict[str, Any]], look: Colours, up: str, *, from_zero: bool = False
) -> dict[str, Any]:
    text = {"color": look.faint}
    rule = {"lineStyle": {"color": look.line}}
    return {
        "animation": False,
        "aria": {"enabled": True},
        "tooltip": _tooltip(look) | {"trigger": "axis"},
        "grid": {"left": 8, "right": 16, "top": 40, "bottom": 28, "containLabel": True},
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 26,
            "nameTextStyle": text,
            "axisLabel": text,
            "splitLine": {"show": False},
            "axisLine": rule,
            "min": "dataMin",
            "max": "dataMax",
        },
        "yAxis": {
            "type": "value",
            "name": up,
            "nameTextStyle": text | {"align": "left"},
            "axisLabel": text,
            "splitLine": rule,
            "scale": not from_zero,
        },
        "series": series,
    }


def _legend(look: Colours) -> dict[str, Any]:
    return {"right": 8, "top": 4, "textStyle": {"color": look.ink}, "icon": "roundRect", "itemHeight": 4}


def _tooltip(look: Colours) -> dict[str, Any]:
    return {
        "backgroundColor": look.card,
        "borderColor": look.line,
        "textStyle": {"color": look.ink},
        "renderMode": "richText",  # draws texts; the other mode makes HTML of them
    }

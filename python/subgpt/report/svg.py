"""A loss plot as inline SVG, drawn without any library: it takes its colours from the page's style sheet."""

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from subgpt.report.scale import bounds, thin, ticks
from subgpt.training.plot import Panel, Series, running_mean

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 34, 116, 34, 40
LABEL_GAP = 15.0


class _Frame:
    """The mapping from steps and losses to the pixels of the drawing."""

    def __init__(self, panel: Panel) -> None:
        self.x0, self.x1, self.y0, self.y1 = bounds(panel)

    def x(self, step: float) -> float:
        return LEFT + (step - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        return HEIGHT - BOTTOM - (loss - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def loss_svg(panel: Panel) -> str:
    """Draw the panel as one `<svg>` element, safe to put into a page: every text in it is escaped."""
    frame = _Frame(panel)
    drawn = panel.drawable()
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(panel))}">',
        f'<text class="title" x="{LEFT}" y="16">{escape(panel.title)}</text>',
        *_grid(frame, panel.scale),
        *(line for s in drawn for line in _line(frame, s)),
        *_labels(frame, drawn),
        "</svg>",
    ]
    return "".join(parts)


def svg_file(panels: Sequence[Panel]) -> str:
    """Draw the panels below each other as the text of an SVG file, with its own style sheet."""
    style = (files("subgpt.report") / "templates" / "plot.css.j2").read_text(encoding="utf-8")
    height = HEIGHT * len(panels)
    drawings = [
        loss_svg(panel).replace("<svg ", f'<svg y="{HEIGHT * i}" width="{WIDTH}" height="{HEIGHT}" ', 1)
        for i, panel in enumerate(panels)
    ]
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    ground = '<rect width="100%" height="100%" fill="var(--page)"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
        f"<style>{style}</style>{ground}{''.join(drawings)}</svg>\n"
    )


def _spoken(panel: Panel) -> str:
    """Say it for readers who do not see the drawing."""
    ends = ", ".join(f"{s.label} from {s.losses[0]:.2f} to {s.losses[-1]:.2f}" for s in panel.drawable())
    return f"{panel.title}: {ends or 'no values'}"


def _grid(frame: _Frame, scale: str) -> list[str]:
    """Draw thin horizontal lines with their losses, the steps along the bottom, and both axis names."""
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for loss in ticks(frame.y0, frame.y1):
        y = frame.y(loss)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>')
    for step in ticks(frame.x0, frame.x1):
        x = frame.x(step)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{step:g}</text>')
    parts.append(f'<text class="axis" x="{right}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    parts.append(f'<text class="axis" x="{right}" y="16" text-anchor="end">{scale}</text>')
    return parts


def _line(frame: _Frame, series: Series) -> list[str]:
    """Draw a series as a path; a training loss as its running mean over the faint raw values."""
    if series.role != "train":
        dots = "".join(
            f'<circle cx="{frame.x(s):.1f}" cy="{frame.y(v):.1f}" r="3"/>'
            for s, v in zip(series.steps, series.losses, strict=True)
        )
        return [f'<g class="{series.role}">{_path(frame, series, list(series.losses), "mean")}{dots}</g>']
    raw = _path(frame, series, list(series.losses), "raw")
    mean = _path(frame, series, running_mean(series.losses), "mean")
    return [f'<g class="{series.role}">{raw}{mean}</g>']


def _path(frame: _Frame, series: Series, losses: list[float], style: str) -> str:
    points = [(frame.x(series.steps[i]), frame.y(losses[i])) for i in thin(losses)]
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return f'<path class="{style}" d="{path}"/>'


def _labels(frame: _Frame, drawn: list[Series]) -> list[str]:
    """Write each line's name and last value beside its end, pushed apart where two ends meet."""
    ends = sorted(((frame.y(_last(s)), s) for s in drawn), key=lambda end: end[0])
    heights, lowest = [], -math.inf
    for y, _ in ends:
        lowest = max(y + 4, lowest + LABEL_GAP)
        heights.append(lowest)
    floor = HEIGHT - 6.0
    for i in reversed(
        range(len(heights))
    ):  # those pushed out of the picture come back, and push the others up
        floor = min(heights[i], floor)
        heights[i], floor = floor, floor - LABEL_GAP
    parts = []
    for (_, series), lowest in zip(ends, heights, strict=True):
        text = f"{escape(series.label)} {_last(series):.2f}"
        x = WIDTH - RIGHT + 9
        parts.append(f'<text class="label {series.role}" x="{x}" y="{lowest:.1f}">{text}</text>')
    return parts


def _last(series: Series) -> float:
    """Give the value that a line ends at: the mean for a training loss, the value itself for the others."""
    losses = running_mean(series.losses) if series.role == "train" else series.losses
    return losses[-1]

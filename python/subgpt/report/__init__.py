"""Pages of what a run did: the loss plots as SVG and the one-page HTML report around them."""

from subgpt.report.facts import (
    Answer,
    Candidate,
    LossChange,
    Piece,
    Report,
    Sample,
    Stage,
)
from subgpt.report.page import duration, render_page
from subgpt.report.svg import loss_svg, svg_file
from subgpt.training.plot import Panel, Series

__all__ = [
    "Answer",
    "Candidate",
    "LossChange",
    "Panel",
    "Piece",
    "Report",
    "Sample",
    "Series",
    "Stage",
    "duration",
    "loss_svg",
    "render_page",
    "svg_file",
]

"""Pictures and pages of what a run did: the loss plot and the one-page HTML report."""

from subgpt.report.facts import (
    Answer,
    Candidate,
    LossChange,
    Panel,
    Piece,
    Report,
    Sample,
    Series,
    Stage,
)
from subgpt.report.page import duration, render_page
from subgpt.report.plot import has_matplotlib, save_loss_plot
from subgpt.report.svg import loss_svg, svg_file

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
    "has_matplotlib",
    "loss_svg",
    "render_page",
    "save_loss_plot",
    "svg_file",
]

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
from subgpt.report.page import render_page
from subgpt.report.plot import has_matplotlib, save_loss_plot
from subgpt.report.svg import loss_svg

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
    "has_matplotlib",
    "loss_svg",
    "render_page",
    "save_loss_plot",
]

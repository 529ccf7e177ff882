"""Pages to look at: what a run did, with plots as SVG, how tokenizers cut a text, what of examples is trained."""

from subgpt.report.changes import save_changes_plot
from subgpt.report.curves import Curve, save_curves_plot
from subgpt.report.examples import ExampleView, render_examples, view_examples
from subgpt.report.facts import (
    Answer,
    Candidate,
    LossChange,
    Piece,
    ProbeScore,
    Report,
    Sample,
    Stage,
)
from subgpt.report.page import render_page
from subgpt.report.probabilities import save_probabilities_plot
from subgpt.report.svg import loss_svg, svg_file
from subgpt.report.tokens import TokenView, render_tokens, view_tokens
from subgpt.training.plot import Panel, Series

__all__ = [
    "Answer",
    "Candidate",
    "Curve",
    "ExampleView",
    "LossChange",
    "Panel",
    "Piece",
    "ProbeScore",
    "Report",
    "Sample",
    "Series",
    "Stage",
    "TokenView",
    "loss_svg",
    "render_examples",
    "render_page",
    "render_tokens",
    "save_changes_plot",
    "save_curves_plot",
    "save_probabilities_plot",
    "svg_file",
    "view_examples",
    "view_tokens",
]

"""The one-page report: a self-contained HTML file, its texts escaped, its plots inline."""

from functools import cache
from typing import TYPE_CHECKING

from subgpt.report.facts import Report
from subgpt.report.svg import loss_svg
from subgpt.units import duration
from subgpt.visible import show_lines, show_text, visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(report: Report) -> str:
    """Write the report as HTML that needs no other file: no script, no font, no picture from elsewhere."""
    from markupsafe import Markup

    # loss_svg escapes every text that it is given, so its markup may stand as it is.
    plots = [Markup(loss_svg(panel)) for panel in report.panels]
    top = max((c.probability for c in report.candidates), default=1.0)
    return environment().get_template("report.html.j2").render(report=report, plots=plots, top=top or 1.0)


@cache
def environment(package: str = "subgpt.report") -> "Environment":
    """Jinja with autoescape for every template of a package, and undefined names as errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    made.filters["duration"] = duration
    made.filters["show_lines"] = show_lines
    made.filters["show_text"] = show_text
    return made

import itertools
import math
from xml.etree import ElementTree

import pytest

from subgpt.report import Panel, Report, Series, loss_svg, svg_file


def test_svg_is_well_formed_and_escaped(report: Report) -> None:
    root = ElementTree.fromstring(loss_svg(report.panels[0]))
    assert root.tag == "svg"
    assert not list(root.iter("script"))


def test_svg_names_each_line_with_its_last_value(report: Report) -> None:
    drawing = loss_svg(report.panels[0])
    assert "validation 2.20" in drawing


def test_svg_labels_keep_their_distance() -> None:
    lines = [Series(f"line {i}", [1, 2], [3.0, 2.0], "other") for i in range(3)]
    root = ElementTree.fromstring(loss_svg(Panel("p", lines)))
    heights = [float(t.attrib["y"]) for t in root.iter("text") if "label" in t.attrib["class"]]
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 12


@pytest.mark.parametrize("losses", [[], [math.nan], [math.nan, 3.0], [math.inf, 2.0, 1.0]])
def test_svg_survives_losses_that_are_not_finite(losses: list[float]) -> None:
    drawing = loss_svg(Panel("p", [Series("train", range(len(losses)), losses)]))
    ElementTree.fromstring(drawing)
    assert 'd="M' in drawing or not any(map(math.isfinite, losses))
    assert "nan" not in drawing.split("</text>", 1)[1].lower()


def test_svg_file_stands_alone(report: Report) -> None:
    root = ElementTree.fromstring(svg_file([*report.panels, *report.panels]))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--train" in "".join(style.text or "" for style in root.iter("{http://www.w3.org/2000/svg}style"))

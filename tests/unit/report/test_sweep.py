"""The page of a sweep, from plain data: texts are escaped, every axis that says something has a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from subgpt.report.scatter import Dot, scatter_svg
from subgpt.report.sweep import sweep_page
from subgpt.search.outcomes import Outcome, Sweep

EVIL = "<script>alert('x')</script> & \"q\""


def outcomes():
    yield Outcome(2, {"learning_rate": 1e-3, "optimizer": "lion"}, "finished", 1.5, 10, 1.4, 10, 3.0, 99)
    yield Outcome(1, {"learning_rate": 1e-2, "optimizer": "adamw"}, "finished", 1.75, 10, 1.6, 10, 3.0, 99)
    yield Outcome(3, {"learning_rate": 50.0, "optimizer": EVIL}, "failed", reason=EVIL)
    yield Outcome(4, {"learning_rate": 1e-4, "optimizer": "adamw"})


def test_the_page(tmp_path):
    page = sweep_page(
        Sweep(tuple(outcomes()), tmp_path / EVIL.replace("/", ""), ("learning_rate", "optimizer"), True)
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "It was interrupted" in page
    assert page.count("<svg") == 3
    assert page.index(">1.5000<") < page.index(">1.7500<") < page.index('"status">failed')
    assert "waiting" in page


def test_a_page_without_a_finished_trial_has_no_pictures(tmp_path):
    page = sweep_page(Sweep((Outcome(1, {"seed": 1}, "failed", reason="so it is"),), tmp_path, ("seed",)))
    assert "so it is" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    "values",
    [
        [1e-4, 1e-2, 1e-3, 3e-3, 5e-3, 2e-2, 7e-4],
        [0, 0.1, 0.2],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [5.0, 5.0],
        ["adamw", EVIL, "lion"],
        [True, False],
        [1.1, 30.0, 2.0, 4.0, 8.0, 16.0],
    ],
)
def test_every_dot_is_in_the_drawing(values):
    dots = [Dot(value, 1 + i / 10, f"{value} {EVIL}") for i, value in enumerate(values)]
    drawing = ET.fromstring(scatter_svg(EVIL, dots))  # whole, and escaped
    circles = drawing.findall(".//circle")
    assert len(circles) == len(values)
    assert all(0 <= float(c.get("cx")) <= 320 and 0 <= float(c.get("cy")) <= 220 for c in circles)
    assert len(drawing.findall(".//g[@class='validation']")) == 1

import re
from dataclasses import replace

from subgpt.report import Report, render_page
from subgpt.visible import visible

from .conftest import outline


def test_the_page_escapes_every_text(report: Report) -> None:
    page = outline(render_page(report))
    assert "script" not in page.seen
    assert page.open == []


def test_the_page_needs_nothing_from_elsewhere(report: Report) -> None:
    html = render_page(report)
    names = {name for name, _ in outline(html).attributes}
    assert not names & {"src", "href", "onclick", "onload"}
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_page_shows_the_figures(report: Report) -> None:
    html = render_page(report)
    assert "50.0 %" in html
    assert "1 min 1 s" in html
    assert "-1.000" in html
    assert "+0.250" in html
    assert "·a⏎" in html
    assert "(nothing)" in html
    assert "exact match 1 of 4 (25.0 %)" in html
    assert "(no question)" in html


def test_the_page_leaves_empty_sections_out(report: Report) -> None:
    bare = replace(
        report, panels=[], pieces=[], candidates=[], samples=[], answers=[], losses=[], commands=[], probes=[]
    )
    html = render_page(bare)
    assert "Learning" not in html
    assert "before and after" not in html
    assert outline(html).open == []


def test_visible_shows_blanks() -> None:
    assert visible(" a\tb\r\n") == "·a→b␍⏎"

from html.parser import HTMLParser

import pytest

from subgpt.evaluation.results import Miss, ProbeResult
from subgpt.report import (
    Answer,
    Candidate,
    LossChange,
    Panel,
    Piece,
    ProbeScore,
    Report,
    Sample,
    Series,
    Stage,
)

VOID = {"meta", "line", "circle", "path"}


class Outline(HTMLParser):
    """Collects the tags and the text of a page and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    return parser


HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def report() -> Report:
    """A report whose every text tries to break out of the page."""
    return Report(
        title=f"title {HOSTILE}",
        summary=f"summary {HOSTILE}",
        facts=[("corpus", HOSTILE)],
        stages=[Stage(HOSTILE, HOSTILE, 61.0, HOSTILE)],
        panels=[
            Panel(
                HOSTILE,
                [
                    Series(HOSTILE, [1, 2, 3], [3.0, 2.5, 2.0]),
                    Series("validation", [2, 3], [2.6, 2.2], "validation"),
                ],
            )
        ],
        pieces=[Piece(HOSTILE, 1), Piece(" a\n", 2)],
        prompt=HOSTILE,
        candidates=[Candidate(HOSTILE, 1, 0.5), Candidate(" b", 2, 0.25)],
        samples=[Sample(HOSTILE, HOSTILE)],
        answers=[Answer(HOSTILE, HOSTILE, HOSTILE, "")],
        losses=[LossChange(HOSTILE, 4.0, 3.0), LossChange("old", 3.0, 3.25)],
        environment=[("host", HOSTILE)],
        commands=[(HOSTILE, HOSTILE)],
        probes=[
            ProbeScore(
                HOSTILE,
                None,
                ProbeResult("exact", 1, 4, (Miss(HOSTILE, HOSTILE, HOSTILE), Miss("", "y", ""))),
            )
        ],
    )

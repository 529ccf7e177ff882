"""The page of tokens: nothing in a text becomes markup, everything in it can be seen, several ways to look."""

import json
import re

import pytest

from subgpt import Tokenizer
from subgpt.report import TokenView, render_tokens, view_tokens
from subgpt.report.compression import Compression, save_compression_plot
from subgpt.tokenizer import Segment, Token
from subgpt.visible import show_lines, show_text

from .conftest import outline

HOSTILE = [
    "<script>alert(1)</script>",
    "</span></p><img src=x onerror=alert(1)>",
    "&amp; \" ' {{ 7 * 7 }} {% raw %}",
    "nul \x00 bell \x07 escape \x1b[31m c1 \x9b",
    "\u202eright to left\u202c שלום مرحبا",
    "e\u0301\u0323 \u0301alone \u20dd",
    "🙂 \U0001f468\u200d\U0001f469 \U000e0041",
    "a\r\nb\u2028c\td",
    "\ud800 lone",
    "",
]


@pytest.fixture(scope="module")
def bytes_only() -> Tokenizer:
    return Tokenizer.train(["x"], vocab_size=257)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_shows_a_text_and_never_obeys_it(bytes_only: Tokenizer, text: str) -> None:
    words = Tokenizer.train(["some other words"], level="word")
    html = render_tokens([view_tokens(text, bytes_only, text), view_tokens("words", words, text)])
    html.encode("utf-8")
    page = outline(html)
    assert page.open == []
    assert not page.seen & {"script", "img"}
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "style"}
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"url\(|@import|https?://", html)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", page.text)
    for line in text.replace("\ud800", "\ufffd").splitlines():
        for word in line.split():
            assert all(show_text(c).removeprefix("◌") in page.text for c in word)


def test_a_token_tells_its_id_and_bytes(bytes_only: Tokenizer) -> None:
    page = outline(render_tokens([view_tokens("tok", bytes_only, "aé<|endoftext|>", allowed_special="all")]))
    assert "id 97, byte 61" in page.text
    assert "2 tokens share a character" in page.text
    assert re.search(r"id 256, bytes 3c [0-9a-f ]+, special", page.text)
    assert "4 tokens, 16 bytes, 4.00 bytes per token" in page.text


def test_every_token_can_be_reached_and_is_described(bytes_only: Tokenizer) -> None:
    views = [view_tokens(name, bytes_only, "abc") for name in ("one", "two")]
    page = outline(render_tokens(views))
    ids = [value for name, value in page.attributes if name == "id"]
    described = [value for name, value in page.attributes if name in ("aria-describedby", "aria-labelledby")]
    assert len(ids) == len(set(ids))
    assert sorted(ids) == sorted(described)
    assert sum(name == "tabindex" for name, _ in page.attributes) == 6


def test_both_grounds_are_there(bytes_only: Tokenizer) -> None:
    html = render_tokens([view_tokens("tok", bytes_only, "a")], title="A <title>")
    assert "prefers-color-scheme: dark" in html
    assert "A &lt;title&gt;" in html


def test_nothing_has_no_rate(bytes_only: Tokenizer) -> None:
    assert view_tokens("tok", bytes_only, "").summary == "0 tokens, 0 bytes"
    one = TokenView("x", "", [Segment("é", (Token(1, "é".encode()),))], 2)
    assert (one.count, one.summary) == (1, "1 token, 2 bytes, 2.00 bytes per token")


def test_a_long_text_has_no_table(bytes_only: Tokenizer) -> None:
    assert "<table>" in render_tokens([view_tokens("tok", bytes_only, "a" * 5000)])
    assert "<table>" not in render_tokens([view_tokens("tok", bytes_only, "a" * 5001)])


def test_lines_stay_lines() -> None:
    assert show_lines("a \n\nb\x00\n") == "a·⏎\n⏎\nb\\x00⏎\n"
    assert show_lines("\u0301") == "◌\u0301"


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_compression_is_drawn(tmp_path, name: str) -> None:
    points = [Compression(json.dumps(size), "subword", size, size**0.5) for size in (8192, 512)]
    points.append(Compression("<b>", "char", 65, 1.0))
    drawn = save_compression_plot(points, tmp_path / name)
    assert drawn.stat().st_size > 1000
    if name.endswith("svg"):
        assert "<b>" not in drawn.read_text(encoding="utf-8")

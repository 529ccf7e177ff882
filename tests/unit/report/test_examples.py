"""The page of examples: well formed, escaped, trained and masked apart."""

from subgpt import Tokenizer
from subgpt.data import inspect_examples
from subgpt.report import render_examples, view_examples

from .conftest import HOSTILE, outline


def test_the_page_is_whole_and_harmless():
    tok = Tokenizer.train(["x"], vocab_size=257)
    rows = [{"question": HOSTILE, "answer": f"no {HOSTILE}\x1b\u202e"}, {"prompt": "1+1=", "completion": "2"}]
    seen = inspect_examples(rows, tok, block_size=20)
    views = view_examples(seen.examples, tok)
    page = outline(render_examples(seen, views, title=f"title {HOSTILE}"))
    assert page.open == []
    assert "script" not in page.seen
    assert {"mark", "table", "section"} <= page.seen
    assert HOSTILE.replace(" ", "·") in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert "1 used as they are" in page.text
    assert [view.summary for view in views] == [
        f"{len(HOSTILE) + 9} trained, 45 masked",
        "2 trained, 4 masked",
    ]

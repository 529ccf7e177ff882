"""The page's own templates: texts in them stay texts."""

from __future__ import annotations

import pytest

from subgpt.playground.views.bars import Bar
from subgpt.playground.views.surety import Sure
from subgpt.playground.views.texts import characters_of, view_of

ATTACK = "<img src=x onerror='alert(1)'>\"'"


@pytest.fixture(scope="module")
def rendered():
    pytest.importorskip("nicegui", reason="the parts of the page are NiceGUI's")
    from subgpt.playground.parts import rendered

    return rendered


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("bar.html.j2", {"bar": Bar(ATTACK, 1, 0.5, 0.5), "top": 1.0}),
        ("bar.html.j2", {"bar": Bar(ATTACK, None, 0.5, 0.5), "top": 1.0}),
        ("tail.html.j2", {"pieces": [(ATTACK, 1)], "more": True}),
        ("facts.html.j2", {"facts": [(ATTACK, ATTACK)]}),
        (
            "samples.html.j2",
            {
                "samples": [{"step": 1, "prompt": ATTACK, "text": ATTACK}],
                "asked": [{"name": ATTACK, "prompt": ATTACK, "text": ATTACK}],
            },
        ),
        (
            "lens.html.j2",
            {"first": 0, "texts": [ATTACK], "rows": [(ATTACK, [(ATTACK, 0.5, True)])]},
        ),
        (
            "sure.html.j2",
            {"prompt": ATTACK, "before": ATTACK, "pieces": [Sure(ATTACK, 0.5, [(ATTACK, 0.5)])]},
        ),
        (
            "chips.html.j2",
            {"view": characters_of(ATTACK), "characters": 3, "most": 500, "with_bytes": True},
        ),
    ],
)
def test_no_markup_comes_out_of_a_text(rendered, template, values):
    page = rendered(template, **values)
    assert "<img" not in page
    assert "onerror='" not in page
    assert "&lt;" in page


def test_chips_say_what_the_tokens_are(rendered, tokenizer):
    view = view_of("t", {"t": lambda: tokenizer}, "so\n<|endoftext|>", special=True)
    page = rendered("chips.html.j2", view=view, characters=16, most=3, with_bytes=True)
    assert "⏎" in page
    assert 'class="line-end"' in page
    assert "… and 1 more" in page
    assert str(tokenizer.encode("s")[0]) in page
    whole = rendered("chips.html.j2", view=view, characters=16, most=4, with_bytes=False)
    assert "special" in whole
    assert "<table" not in whole

"""What controls hold, as options of generation."""

from __future__ import annotations

import pytest

from subgpt import GenerationConfig
from subgpt.errors import InvalidValueError


@pytest.fixture(scope="module")
def options():
    pytest.importorskip("nicegui", reason="the controls are NiceGUI's")
    from subgpt.playground import options

    return options


def test_every_control_is_an_option_and_starts_where_one_may(options):
    controls = [*options.DRAW, *options.LENGTH, *options.MORE]
    start = {option.name: option.start for option in controls}
    settings = GenerationConfig(**options.options_of(start))
    assert settings.temperature == 0.8
    assert settings.seed is None
    assert all(option.about for option in controls)
    for option in controls:
        if option.step:
            for value in (option.least, option.most):
                GenerationConfig(**options.options_of({option.name: value}))


def test_texts(options):
    given = {"stop": "END\n\\n\\n\n\n", "regex": "  ", "json_schema": '{"type": "object"}'}
    assert options.options_of(given) == {"stop": ["END", "\n\n"], "json_schema": '{"type": "object"}'}


def test_a_browser_knows_no_integers(options):
    assert options.options_of({"top_k": 5.0, "seed": None}) == {"top_k": 5}


def test_more_tokens_than_the_page_writes(options):
    with pytest.raises(InvalidValueError, match="max_new_tokens = 100000"):
        options.options_of({"max_new_tokens": 100_000.0})
    with pytest.raises(InvalidValueError, match="writes 90 at most"):
        options.options_of({"max_new_tokens": 91}, 90)
    assert options.options_of({"max_new_tokens": 90}, 90) == {"max_new_tokens": 90}
    assert options.options_of({"max_new_tokens": None}, 90) == {"max_new_tokens": 90}
    assert options.options_of({"max_new_tokens": None}, 900) == {}


def test_a_text_is_cut_at_the_limit(options):
    assert len(options.options_of({"regex": "a" * 10_000})["regex"]) == 4_000

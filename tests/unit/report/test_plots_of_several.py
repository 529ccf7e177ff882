"""Plots that set several things side by side: curves, distributions over the next token, fine-tuning runs."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from subgpt import InvalidValueError, MissingExtraError, Run
from subgpt.evaluation.measure import Evaluation
from subgpt.evaluation.next_tokens import Distribution, NextToken
from subgpt.report import save_changes_plot, save_curves_plot, save_probabilities_plot

SURE = Distribution(
    (NextToken(" the", 1, 0.75), NextToken("\n", 2, 0.2), NextToken("<|x|>", 3, 0.00002)), 0.6
)


def measured(loss: float) -> Evaluation:
    return Evaluation(loss, math.exp(loss), None, 100)


@pytest.fixture
def runs():
    return {
        "answers": Run(before={"new": measured(4.5)}, after={"new": measured(2.25)}),
        "voice": Run(
            before={"new": measured(4), "old": measured(3.125)},
            after={"new": measured(4), "old": measured(3.875)},
        ),
        "not finished": Run(before={"new": measured(4.0)}),
    }


def words_in(path) -> str:
    """Give the texts of a picture, which matplotlib writes as comments beside their outlines."""
    return path.read_text(encoding="utf-8")


def test_curves_are_named_and_end_where_they_are_no_number(tmp_path):
    curves = {"right": [7, 5, 4, 3.5], "too large": [7, 8, 2e9, math.nan], "measured": ([2, 4], [6.5, 6.25])}
    for smooth in (False, True):
        path = save_curves_plot(curves, tmp_path / "c.svg", title="Three <rates>", smooth=smooth)
        assert path == tmp_path / "c.svg"
        text = words_in(path)
        assert all(f"<!-- {word} -->" in text for word in ("right", "measured", "step"))
        assert "<!-- too large, no number any more after step 3 -->" in text
        assert "2e+09" not in text
    few = {"one": [1.0], "two": np.array([2.0, 1.0], np.float32)}
    assert save_curves_plot(few, tmp_path / "few.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("curves", "reason"),
    [
        ({}, "no curves"),
        ({"broken": [math.nan, 1.0]}, "'broken' begins with no finite number"),
        ({"empty": []}, "'empty' begins with no finite number"),
        ({"uneven": ([1, 2, 3], [1.0, 2.0])}, "'uneven' has 3 places and 2 heights"),
    ],
)
def test_curves_that_cannot_be_drawn(tmp_path, curves, reason):
    with pytest.raises(InvalidValueError, match=reason):
        save_curves_plot(curves, tmp_path / "c.png")
    assert list(tmp_path.iterdir()) == []


def test_distributions_show_tokens_and_probabilities(tmp_path):
    even = Distribution((NextToken("é", 4, 0.001),), 6.9)
    text = words_in(save_probabilities_plot({"before": even, "after": SURE}, tmp_path / "p.svg"))
    for word in ("before", "after", "·the", "⏎", "0.750", "0.001", "2e-05", "probability"):
        assert f"<!-- {word} -->" in text
    with pytest.raises(InvalidValueError, match="no tokens to draw"):
        save_probabilities_plot({"nothing": Distribution((), 0.0)}, tmp_path / "none.svg")
    with pytest.raises(InvalidValueError, match="no tokens to draw"):
        save_probabilities_plot({}, tmp_path / "none.svg")


def test_changes_show_each_run_before_and_after(runs, tmp_path):
    text = words_in(save_changes_plot(runs, tmp_path / "g.svg"))
    for word in ("answers", "voice", "4.50", "2.25", "3.12", "3.88", "nats per token"):
        assert f"<!-- {word} -->" in text
    assert "loss on the old data" in text
    with pytest.raises(InvalidValueError, match="no run was measured"):
        save_changes_plot({"none": runs["not finished"]}, tmp_path / "none.png")


@pytest.mark.parametrize("save", [save_curves_plot, save_probabilities_plot, save_changes_plot])
def test_another_ending_or_no_matplotlib_is_told(save, tmp_path, monkeypatch):
    with pytest.raises(InvalidValueError, match=r"\.png, \.svg, \.pdf"):
        save({"a": [1.0]}, tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"subgpt\[plot\]\""):
        save({"a": [1.0]}, tmp_path / "a.png")

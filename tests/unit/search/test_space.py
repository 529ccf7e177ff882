"""Axes and what follows from them: grids, ranges, draws that can be made again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt import ConfigError, Range
from subgpt.search.space import axes_of, axis_of, describe, draw, grid, parse_axis


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("learning_rate=1e-3,3e-3", ("learning_rate", (1e-3, 3e-3))),
        ("--learning-rate=1e-3", ("learning_rate", (1e-3,))),
        ("n_layer=2,4", ("n_layer", (2, 4))),
        ("optimizer=adamw, muon", ("optimizer", ("adamw", "muon"))),
        ("packing=True,false", ("packing", (True, False))),
        ("learning_rate=1e-4..1e-2", ("learning_rate", Range(1e-4, 1e-2))),
        ("learning_rate=1e-4..1e-2:5", ("learning_rate", Range(1e-4, 1e-2, 5))),
        ("weight_decay=0..0.3", ("weight_decay", Range(0, 0.3))),
        ("weight_decay=0.1..0.3", ("weight_decay", Range(0.1, 0.3))),
        ("n_layer=2..6", ("n_layer", Range(2, 6))),
    ],
)
def test_axes_are_read(text, axis):
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate", "name=values"),
        ("=1", "name=values"),
        ("learning_rate=", "no values"),
        ("learning_rate=1e-3,1e-3", "twice"),
        ("learning_rate=1e-2..1e-4", "lower one"),
        ("learning_rate=a..b", "numbers"),
        ("learning_rate=1..2:1", "at least 2"),
        ("learning_rate=0.1..inf", "lower one"),
    ],
)
def test_what_is_no_axis_says_so(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_axis(text)


def test_a_grid_has_every_combination():
    axes = axes_of(["learning_rate=1e-4..1e-2:3", "n_layer=1..5:3", "weight_decay=0..0.2:3", "packing=true"])
    trials = grid(axes)
    assert len(trials) == 27
    assert [trial["learning_rate"] for trial in trials[::9]] == [1e-4, 1e-3, 1e-2]
    assert [trial["n_layer"] for trial in trials[:9:3]] == [1, 3, 5]
    assert [trial["weight_decay"] for trial in trials[:3]] == [0, 0.1, 0.2]


def test_a_range_in_a_grid_needs_points():
    with pytest.raises(ConfigError, match=r"learning_rate=0.0001..0.01:5.*--random"):
        grid(axes_of({"learning_rate": Range(1e-4, 1e-2)}))


def test_a_grid_that_is_too_large_is_refused():
    with pytest.raises(ConfigError, match="10,000 are the most"):
        grid(axes_of({name: list(range(100)) for name in ("seed", "batch_size", "max_steps")}))


@given(st.integers(0, 2**64 - 1), st.integers(1, 30))
def test_draws_are_within_and_more_of_them_begin_alike(seed, count):
    axes = axes_of(
        ["learning_rate=1e-4..1e-2", "n_layer=2..6", "weight_decay=0..0.3", "optimizer=adamw,lion"]
    )
    trials = draw(axes, count, seed)
    assert draw(axes, count + 5, seed)[:count] == trials
    assert len({repr(trial) for trial in trials}) == len(trials) == count
    for trial in trials:
        assert 1e-4 <= trial["learning_rate"] <= 1e-2
        assert isinstance(trial["n_layer"], int)
        assert 2 <= trial["n_layer"] <= 6
        assert 0 <= trial["weight_decay"] <= 0.3
        assert trial["optimizer"] in ("adamw", "lion")


def test_rates_are_drawn_by_factors():
    drawn = draw(axes_of(["learning_rate=1e-4..1e-2"]), 300, 1)
    below = sum(trial["learning_rate"] < 1e-3 for trial in drawn)
    assert 110 < below < 190


def test_whole_numbers_are_drawn_evenly_with_both_ends():
    drawn = draw(axes_of(["n_layer=1..3", "learning_rate=1e-4..1e-2"]), 300, 1)
    counts = [sum(trial["n_layer"] == n for trial in drawn) for n in (1, 2, 3)]
    assert all(70 < count < 130 for count in counts)


def test_there_are_no_more_draws_than_combinations():
    assert len(draw(axes_of(["n_layer=1,2", "optimizer=adamw,lion"]), 20, 1)) == 4


def test_values_may_be_lists_and_ranges_of_python():
    assert axis_of("learning_rate", [1e-3, 1e-2]) == (1e-3, 1e-2)
    assert axis_of("learning_rate", Range(1e-3, 1e-2)) == Range(1e-3, 1e-2)
    points = axis_of("n_layer", Range(np.int64(2), np.int64(4), np.int64(3)))
    assert isinstance(points, Range)
    for plain in (*axis_of("n_layer", np.arange(2, 5)), *points.grid()):
        assert type(plain) is int
    assert axis_of("learning_rate", np.array([0.5, 0.25])) == (0.5, 0.25)
    for wrong in (3, {"a": 1}, [], Range("1e-4", "1e-2"), Range(True, 3), Range(None, 1)):
        with pytest.raises(ConfigError, match="learning_rate"):
            axis_of("learning_rate", wrong)
    with pytest.raises(ConfigError, match="given twice"):
        axes_of(["a=1", "a=2"])


def test_values_in_a_line():
    assert describe({"learning_rate": 1e-4, "optimizer": "lion"}) == "learning_rate=0.0001 optimizer=lion"

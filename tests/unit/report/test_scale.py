import math

from hypothesis import given
from hypothesis import strategies as st

from subgpt.report import Panel, Series
from subgpt.report.scale import bounds, thin, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    values = ticks(low, low + span)
    assert 1 <= len(values) <= 8
    assert values == sorted(values)


def test_ticks_of_an_empty_range() -> None:
    assert ticks(3.0, 3.0) == [3.0]
    assert ticks(0.0, math.nan) == [0.0]


def test_thin_keeps_the_last_value() -> None:
    kept = thin([0.0] * 10_001, limit=100)
    assert kept[0] == 0
    assert kept[-1] == 10_000
    assert len(kept) <= 102


def test_bounds_leave_out_what_is_not_finite() -> None:
    x0, x1, y0, y1 = bounds(Panel("p", [Series("train", [1, 2, 3], [4.0, math.nan, 2.0])]))
    assert (x0, x1) == (1.0, 3.0)
    assert y0 < 2.0 < 4.0 < y1


def test_bounds_of_nothing() -> None:
    assert bounds(Panel("p", [])) == (0.0, 1.0, 0.0, 1.0)
